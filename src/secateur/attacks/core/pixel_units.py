"""Settings in the units of the pixels: default lengths for any bounds, and grey levels."""

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from torch import Tensor

from secateur.budgets import counts, norm_of, plain

P = ParamSpec("P")
R = TypeVar("R")


def in_pixels(*names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Mark settings of an attack whose defaults are lengths, and scale those defaults to the bounds.

    The signature shows the defaults for images in [0, 1]. Values that a caller gives are not scaled: they are
    in the units of the images.
    """

    def mark(attack: Callable[P, R]) -> Callable[P, R]:
        parameters = inspect.signature(attack).parameters
        own_norm = parameters["norm"].default if "norm" in parameters else None

        @wraps(attack)
        def scaled(*args: P.args, **kwargs: P.kwargs) -> R:
            bounds: Any = kwargs.get("bounds", (0.0, 1.0))
            filled = scaled_defaults(scaled, kwargs.get("norm", own_norm), bounds)
            return attack(*args, **{**filled, **kwargs})  # type: ignore[arg-type]

        scaled.in_pixels = {name: float(parameters[name].default) for name in names}  # type: ignore[attr-defined]
        return scaled

    return mark


def quantise(images: Tensor, levels: int | None, bounds: tuple[float, float]) -> Tensor:
    """``images`` rounded to ``levels`` equidistant grey levels of ``bounds``; unchanged if None."""
    if levels is None:
        return images
    low, high = bounds
    scale = (levels - 1) / (high - low)
    return ((images - low) * scale).round_().div_(scale).add_(low).clamp_(low, high)


def scaled_defaults(
    attack: Callable[..., object], norm: object, bounds: tuple[float, float]
) -> dict[str, float]:
    """The defaults of the settings that are marked as lengths, by name, for images in ``bounds``."""
    low, high = (float(bound) for bound in bounds)
    lengths: Mapping[str, float] = getattr(attack, "in_pixels", {})
    # In L0 a size counts values or pixels, and has no unit.
    counted = norm is not None and counts(norm_of(plain(norm)))
    return {
        name: value if name == "eps" and counted else value * (high - low) for name, value in lengths.items()
    }
