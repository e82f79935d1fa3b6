"""Perturbation budgets ε: the default ones of every norm, checks of a user's own, and their spelling."""

import math
import re
from collections.abc import Sequence
from itertools import pairwise
from numbers import Real
from typing import Any

from secateur.errors import UserError


class _Pixels(float):
    """The norm that counts pixels: a number that no order of a norm has, written by its name.

    Everything that knows norms by number holds it as one more of them. Only the name leads to it.
    """

    def __repr__(self) -> str:
        return "L0-pixels"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)


L0_PIXELS = _Pixels(-1.0)
"""The number of pixels that changed: places of an image [C, ...], however many channels changed there."""
NORM_KEYS = {0.0: "l0", 1.0: "l1", 2.0: "l2", math.inf: "linf", L0_PIXELS: "l0_pixels"}
"""Names of the norms in records and tables."""
NORM_CHOICES = "L0, L0-pixels, L1, L2 or Linf"
_PIXEL_WORDS = {"pixel", "pixels", "0pixel", "0pixels", "0bypixel"}
CURVE: dict[str, tuple[float, ...]] = {
    "l0": (0, 1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 200, 500),
    "l0_pixels": (0, 1, 2, 3, 5, 7, 10, 15, 20, 24, 30, 50, 70, 100, 200),
    "l1": (0, 0.5, 1, 1.5, 2, 3, 4, 6, 8, 10, 12, 16, 20, 30, 40, 60, 100),
    "l2": (0, 0.05, 0.1, 0.15, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 7, 10),
    "linf": tuple(k / 255 for k in (0, 0.5, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 255)),
}
"""Budgets of a security curve, for images in [0, 1]."""
HEADLINE: dict[str, tuple[float, ...]] = {
    "l0": (10, 50),
    # The size of one-pixel attacks (Su et al. 2019), and that of Sparse-RS on CIFAR-10 (Croce et al. 2022).
    "l0_pixels": (1, 10, 24),
    "l1": (2, 12),
    "l2": (0.25, 0.5, 1),
    "linf": (1 / 255, 2 / 255, 4 / 255, 8 / 255),
}
"""Default budgets at which robust accuracy is stated, for images in [0, 1]."""


def scaled(budgets: tuple[float, ...], norm: str, bounds: tuple[float, float]) -> tuple[float, ...]:
    """Budgets for images in [0, 1], in the units of ``bounds``; a count (``"l0"``, ``"l0_pixels"``) has none.

    >>> scaled((0.25, 0.5), "l2", (0.0, 255.0))
    (63.75, 127.5)
    """
    width = 1.0 if norm in ("l0", "l0_pixels") else bounds[1] - bounds[0]
    return tuple(width * value for value in budgets)


def written(eps: float, norm: str, *, levels: int | None, bounds: tuple[float, float] = (0.0, 1.0)) -> str:
    """A budget as text: L∞ of 8-bit images as ``8/255``, anything else as a number.

    >>> written(8 / 255, "linf", levels=256)
    '8/255'
    >>> written(0.3, "linf", levels=17)
    '0.3'
    """
    if norm != "linf" or levels != 256 or tuple(bounds) != (0.0, 1.0):
        return f"{eps:.4g}"
    return f"{255 * eps:.4g}/255"


def counts(norm: float) -> bool:
    """Whether a norm counts what changed, values or pixels: it has no unit.

    >>> counts(0.0), counts(L0_PIXELS), counts(2.0)
    (True, True, False)
    """
    return norm in (0.0, L0_PIXELS)


def recorded(norm: float) -> dict[float, str]:
    """The norms that a result in ``norm`` is measured in: L0, L1, L2 and L∞, and pixels where they count.

    >>> list(recorded(2.0).values()), list(recorded(L0_PIXELS).values())[-1]
    (['l0', 'l1', 'l2', 'linf'], 'l0_pixels')
    """
    return {each: key for each, key in NORM_KEYS.items() if each != L0_PIXELS or norm == L0_PIXELS}


def norm_of(value: Any) -> float:
    """A norm in words as its number: ``"Linf"``, ``"l2"``, ``"L∞"``, ``"1"``; a number as a float.

    ``"L0-pixels"`` counts pixels, a place of all its channels once; ``"L0"`` and 0 count values. No number
    stands for it.

    Raises:
        UserError: another word, or anything else.

    >>> norm_of("Linf"), norm_of("l2"), norm_of(1), norm_of("L0-pixels")
    (inf, 2.0, 1.0, L0-pixels)
    """
    if isinstance(value, _Pixels):
        return value
    if isinstance(value, Real) and not isinstance(value, bool):
        if value == L0_PIXELS:
            raise UserError("there is no norm '-1' here", hint=f"choose {NORM_CHOICES}")
        try:
            return float(value)
        except OverflowError:
            raise UserError("norm is larger than any number", hint=f"choose {NORM_CHOICES}") from None
    if not isinstance(value, str):
        raise UserError(f"norm is {value!r}", hint=f"choose 0, 1, 2 or inf, or {NORM_CHOICES}")
    if re.sub(r"[^a-z0-9]", "", value.lower()).removeprefix("l") in _PIXEL_WORDS:
        return L0_PIXELS
    word = value.strip().lower().removeprefix("l").lstrip("_ ")
    known = {"0": 0.0, "1": 1.0, "2": 2.0, "inf": math.inf, "infinity": math.inf, "∞": math.inf}
    if word not in known:
        raise UserError(f"there is no norm '{value}' here", hint=f"choose {NORM_CHOICES}")
    return known[word]


def plain(value: Any) -> Any:
    """A scalar of NumPy, or a tensor or array of one number without dimensions, as Python's own number.

    >>> import numpy as np
    >>> plain(np.int64(5)), plain("dlr")
    (5, 'dlr')
    """
    # NumPy's scalars say themselves that they have no dimension; torch is not imported here.
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", 1) == 0 else value


def finite(value: Real) -> bool:
    """Whether a number is finite as a float: a whole number beyond every float is not.

    >>> finite(8), finite(10**400)
    (True, False)
    """
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def is_list(eps: object) -> bool:
    """Whether ``eps`` is a list, a tuple, or an array or tensor of at least one dimension.

    >>> is_list([0.1, 0.2]), is_list(0.1)
    (True, False)
    """
    return isinstance(eps, list | tuple) or bool(getattr(eps, "ndim", 0))


def sizes(eps: object) -> tuple[float, ...]:
    """The sizes that an attack of fixed size is run at, in rising order; 0 among them changes no image.

    Raises:
        UserError: anything but a list of different finite numbers ε ≥ 0 of which one is positive.

    >>> sizes([0.2, 0, 0.1])
    (0.0, 0.1, 0.2)
    """
    listed = numbers(eps, "eps")
    for size in listed:
        if size < 0:
            raise UserError(f"eps lists {size:g}", hint="the size of a perturbation is 0 or positive")
    rising = sorted(listed)
    for before, after in pairwise(rising):
        if before == after:
            raise UserError(f"eps lists {after:g} twice", hint="give every size once")
    if not rising[-1] > 0:
        raise UserError("eps lists only 0, which changes no image", hint="add a positive size")
    return tuple(rising)


def check_scale(name: str, values: Sequence[float], norm: str, bounds: tuple[float, float]) -> None:
    """Refuse L∞ sizes larger than the width of the ``bounds``, which are most likely in grey levels.

    Raises:
        UserError: one of the ``values`` is larger.

    >>> check_scale("eps", [8 / 255], "linf", (0.0, 1.0))
    >>> check_scale("eps", [8], "linf", (0.0, 1.0))
    Traceback (most recent call last):
    secateur.errors.UserError: eps is 8, but images lie in [0, 1] (8 grey levels of 256 are 8/255)
    """
    low, high = bounds
    if norm == "linf" and values and max(values) > (high - low) * (1 + 1e-6):
        raise UserError(
            f"{name} is {max(values):g}, but images lie in [{low:g}, {high:g}]",
            hint=f"8 grey levels of 256 are {'8/255' if high - low == 1 else f'{high - low:g} * 8/255'}",
        )


def numbers(values: object, name: str) -> list[float]:
    """The values of the setting ``name`` as a list of floats.

    Raises:
        UserError: not a list, an empty one, or an element that is not a finite number.

    >>> numbers((1, 0.5), "eps")
    [1.0, 0.5]
    """
    listed = values.tolist() if hasattr(values, "tolist") else values
    if isinstance(listed, list | tuple):
        listed = [plain(value) for value in listed]
    if not isinstance(listed, Sequence) or isinstance(listed, str) or not listed:
        raise UserError(f"{name} is {listed!r}", hint=f"give a list of numbers, as in {name}=[0.1, 0.2]")
    for value in listed:
        if isinstance(value, bool) or not isinstance(value, Real) or not finite(value):
            raise UserError(f"{name} lists {value!r}", hint="give finite numbers, such as 0.1 or 8 / 255")
    return [float(value) for value in listed]
