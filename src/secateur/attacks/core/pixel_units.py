"""Defaults in the units of the pixels: written for images in [0, 1], times the width of other bounds."""

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


def in_pixels(*names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Mark settings of an attack whose defaults are lengths, and scale what is left out to the bounds.

    The signature keeps the defaults for images in [0, 1]. A caller's own values are taken as they are, in the
    units of the images.
    """

    def mark(attack: Callable[P, R]) -> Callable[P, R]:
        parameters = inspect.signature(attack).parameters
        lengths = {name: float(parameters[name].default) for name in names}
        own_norm = parameters["norm"].default if "norm" in parameters else None

        @wraps(attack)
        def scaled(*args: P.args, **kwargs: P.kwargs) -> R:
            bounds: Any = kwargs.get("bounds", (0.0, 1.0))
            filled = _filled(lengths, kwargs.get("norm", own_norm), bounds)
            return attack(*args, **{**filled, **kwargs})  # type: ignore[arg-type]

        scaled.in_pixels = lengths  # type: ignore[attr-defined]
        return scaled

    return mark


def quantise(images: Tensor, levels: int | None, bounds: tuple[float, float]) -> Tensor:
    """``images`` on the nearest of ``levels`` equidistant grey levels of ``bounds``; unchanged if None."""
    if levels is None:
        return images
    low, high = bounds
    scale = (levels - 1) / (high - low)
    return ((images - low) * scale).round_().div_(scale).add_(low).clamp_(low, high)


def scaled_defaults(
    attack: Callable[..., object], norm: float, bounds: tuple[float, float]
) -> dict[str, float]:
    """What an attack takes for the settings that are marked as lengths, by name, for images in ``bounds``."""
    return _filled(getattr(attack, "in_pixels", {}), norm, bounds)


def _filled(lengths: Mapping[str, float], norm: object, bounds: tuple[float, float]) -> dict[str, float]:
    low, high = (float(bound) for bound in bounds)
    # In L0 a size counts values, and has no unit.
    return {
        name: value if name == "eps" and norm == 0 else value * (high - low)
        for name, value in lengths.items()
    }
