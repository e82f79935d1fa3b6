"""Robust accuracy at stated budgets: from outcomes at the sizes that were tried, or from distances."""

from collections.abc import Sequence
from typing import Any

from secateur import stats
from secateur.attacks.runner.result import AttackResult, Outcome
from secateur.budgets import written

TARGETED = (
    "a targeted attack says how often one class is reached; robust accuracy, the share of images that stay "
    "correct whatever class an attack ends in, is that of the untargeted attack"
)


def robust_counts(result: AttackResult, eps: Sequence[float]) -> list[int]:
    """Of all images, how many withstand a budget, for each of ``eps``; an image that is wrong does not.

    Of an attack of fixed size ``eps`` are sizes that it was run at: what it found there decides. Otherwise an
    image withstands what is smaller than its distance. Of a targeted attack these are the images whose target
    is not reached.
    """
    wrong = result.where(Outcome.ALREADY_WRONG)
    if result.kind == "minimum-norm":
        shares = stats.security_curve(result.distance, list(eps))
        return [round(float(share) * result.n) for share in shares]
    return [int((~wrong & ~result.found_at(size)).sum()) for size in eps]


def stated(
    result: AttackResult, eps: Sequence[float], *, levels: int | None, bounds: tuple[float, float]
) -> list[dict[str, Any]]:
    """The headline of a result: a share, its 95 % Wilson interval and n at each of the budgets ``eps``.

    ``written`` is the budget in words, ``8/255`` for L∞ of 8-bit images.
    """
    rows = []
    for size, count in zip(eps, robust_counts(result, eps), strict=True):
        low, high = stats.wilson(count, result.n)
        rows.append(
            {
                "eps": size,
                "written": written(size, result.norm_key, levels=levels, bounds=bounds),
                "value": count / result.n,
                "low": low,
                "high": high,
                "n": result.n,
            }
        )
    return rows
