"""What a pruned network must still do, as limits, and whether what was measured keeps them."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from secateur.errors import UserError

State = Literal["kept", "broken"]
_ROBUST = re.compile(
    r"\s*(\d*\.?\d+)\s*(%?)\s*@\s*(?:(l1|l2|linf):)?(\d*\.?\d+(?:e-?\d+)?)(?:/(\d+))?\s*", re.I
)
_SHARE = re.compile(r"\s*(\d*\.?\d+)\s*(%?)\s*")
_TIME = re.compile(r"\s*(\d*\.?\d+)\s*(us|µs|ms|s)\s*")
_UNITS = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0}


@dataclass(frozen=True)
class RobustLimit:
    """The least robust accuracy ``share`` at the budget ``eps`` of a norm.

    >>> robust_limit("40%@l2:0.5")
    RobustLimit(share=0.4, norm='l2', eps=0.5)
    """

    share: float
    norm: str
    eps: float


@dataclass(frozen=True)
class Limits:
    """What the pruned network must keep; None and () mean no limit.

    Attributes:
        min_accuracy: least accuracy on the test images, in [0, 1].
        max_drop: largest fall of that accuracy, in [0, 1]; 0.01 is one point.
        min_robust: least robust accuracies.
        max_latency: largest median time of one image, in seconds.

    >>> Limits(min_accuracy=0.9).stated
    True
    """

    min_accuracy: float | None = None
    max_drop: float | None = None
    min_robust: tuple[RobustLimit, ...] = ()
    max_latency: float | None = None

    @property
    def stated(self) -> bool:
        """Whether there is any limit."""
        return self != Limits()


@dataclass(frozen=True)
class Judged:
    """A limit beside what was measured. ``sure`` is false where the 95 % interval reaches beyond the limit.

    >>> judged("accuracy", 0.93, least=0.9, interval=(0.89, 0.96)).sentence
    'kept: accuracy 93.0 %, at least 90.0 % asked; too few images to be sure (89.0 to 96.0 %)'
    """

    state: State
    sure: bool
    sentence: str


def limits_of(
    *,
    min_accuracy: float | str | None = None,
    max_drop: float | str | None = None,
    min_robust: str | Sequence[str] = (),
    max_latency: float | str | None = None,
) -> Limits:
    """Limits as people write them: ``0.9`` or ``90%``, ``0.4@linf:8/255``, ``5ms``.

    Raises:
        UserError: one of them cannot be read, or is out of range.

    >>> limits_of(max_drop="1%", max_latency="5ms")
    Limits(min_accuracy=None, max_drop=0.01, min_robust=(), max_latency=0.005)
    """
    given: Any = [min_robust] if isinstance(min_robust, str) else min_robust
    texts = tuple(given) if isinstance(given, Iterable) else (given,)
    if max_drop is not None and str(max_drop).strip() in ("1", "1.0"):
        # Meant as one percent, it would let every fall pass.
        raise UserError("max_drop 1 is a fall by all of the accuracy", hint="write 1% for one point, or 100%")
    return Limits(
        min_accuracy=_share("min_accuracy", min_accuracy),
        max_drop=_share("max_drop", max_drop),
        min_robust=tuple(robust_limit(text) for text in texts),
        max_latency=_time(max_latency),
    )


def robust_limit(text: str) -> RobustLimit:
    """A limit such as ``0.4@linf:8/255`` or ``40%@l2:0.5``; the norm is L∞ if none is named.

    Raises:
        UserError: the text is no such limit.

    >>> robust_limit("0.4@8/255").norm
    'linf'
    """
    match = _ROBUST.fullmatch(str(text))
    share = float(match[1]) / (100 if match[2] else 1) if match else math.nan
    if match is None or not 0 <= share <= 1 or (match[5] and int(match[5]) == 0):
        raise UserError(
            f"invalid min_robust {text!r}: expected SHARE@NORM:SIZE", hint="for example 0.4@linf:8/255"
        )
    return RobustLimit(share, (match[3] or "linf").lower(), float(match[4]) / int(match[5] or 1))


def judged(
    what: str,
    value: float,
    *,
    least: float | None = None,
    most: float | None = None,
    interval: tuple[float, float] | None = None,
    unit: float = 100.0,
    suffix: str = " %",
) -> Judged:
    """Compare a measured value with the least or the most that is asked.

    Args:
        what: the quantity in words.
        value: as measured.
        least: the smallest value that is asked.
        most: the largest.
        interval: of the value at 95 %; None where it has none.
        unit: factor for printing, 100 for shares.
        suffix: printed behind the number.
    """
    bound, sign = (least, 1.0) if least is not None else (most, -1.0)
    assert bound is not None  # a limit has one of the two
    # A bound such as 0.9 and a share of counts differ in the last digit.
    kept = sign * (value - bound) >= -1e-9
    ends = interval or (value, value)
    sure = all((sign * (end - bound) >= -1e-9) == kept for end in ends)
    asked = f"at {'least' if least is not None else 'most'} {unit * bound:.1f}{suffix} asked"
    doubt = (
        "" if sure else f"; too few images to be sure ({unit * ends[0]:.1f} to {unit * ends[1]:.1f}{suffix})"
    )
    state: State = "kept" if kept else "broken"
    sentence = f"{state}: {what} {unit * value:.1f}{suffix}, {asked}{doubt}"
    return Judged(state, sure, sentence.replace(" -", " −"))


def _share(name: str, given: float | str | None) -> float | None:
    """A share in [0, 1], as a number or as text, ``0.9`` or ``90%``."""
    if given is None:
        return None
    match = _SHARE.fullmatch(str(given))
    value = float(match[1]) / (100 if match[2] else 1) if match else math.nan
    if not 0 <= value <= 1:
        raise UserError(
            f"invalid {name} {given}: expected a share from 0 to 1", hint="for example 0.9 or 90%"
        )
    return value


def _time(given: float | str | None) -> float | None:
    """Seconds, as a number or as text with a unit."""
    if given is None:
        return None
    match = _TIME.fullmatch(str(given)) if isinstance(given, str) else None
    value = float(match[1]) * _UNITS[match[2]] if match else given
    if isinstance(value, str) or not 0 < value < math.inf:
        raise UserError(f"invalid max_latency {given}: expected a time", hint="for example 5ms or 0.5s")
    return float(value)
