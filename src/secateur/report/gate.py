"""A gate for CI: limits on what may change between two studies, and the grid points that break them."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean as mean

from secateur.budgets import written
from secateur.errors import UserError
from secateur.report.aggregate import GridPoint, worst
from secateur.report.comparison import Comparison
from secateur.report.formatting import network_label
from secateur.report.intervals import Shares
from secateur.report.paired_changes import compare_points
from secateur.report.paired_tests import Difference

_PATTERN = re.compile(
    r"\s*(median|accuracy|robust(?:@(?:(l0_pixels|l0|l1|l2|linf):)?(\d+(?:\.\d+)?)(?:/(\d+))?)?)"
    r"\s*([<>])\s*([+-]?\d+(?:\.\d+)?)\s*(%?)\s*"
)


@dataclass(frozen=True)
class Limit:
    """A limit of a gate; ``norm`` and ``eps`` are those of ``robust@linf:8/255``, None if not given."""

    quantity: str
    norm: str | None
    eps: float | None
    sign: str
    bound: float
    relative: bool
    text: str


def violations(comparison: Comparison, limits: Sequence[str]) -> list[str]:
    """One sentence per grid point of the second study that breaks a limit; empty when all limits hold.

    A limit is ``median<-5%`` (the distance left on common images may fall by at most 5 %), ``accuracy<-0.01``
    (a hundredth), ``robust<-0.05`` (robust accuracy at every stated budget), ``robust@8/255<-0.05`` or
    ``robust@l2:0.5<-0.05`` (at that budget), or the same with ``>``. A budget without its norm is for the
    attacks of norm linf, or for the only norm. A grid point that cannot be compared, or has no result, breaks
    every limit.

    Raises:
        UserError: a limit that cannot be read, or a budget for a norm that no attack has.

    >>> lost = GridPoint("plain", "l1", 0.5, "standard", "ddn")
    >>> violations(Comparison("before", "after", (), (lost,), (), (), {}), ["robust<-0.05"])
    ['plain, l1 0.5, standard, ddn: no result in after']
    """
    sentences = []
    for limit in (_parse_limit(text, comparison) for text in limits):
        for each in comparison.differences:
            if limit.norm not in (None, each.norm):
                continue
            change = _change(each, limit)
            if change is None:
                reason = _why_not(each, limit, comparison)
                sentences.append(f"{_label(each.where)}: {limit.quantity} cannot be compared ({reason})")
            elif (change < limit.bound) if limit.sign == "<" else (change > limit.bound):
                shown = f"{100 * change:+.1f} %" if limit.relative else f"{change:+.4g}"
                sentences.append(f"{_label(each.where)}: {limit.quantity} changed by {shown} ({limit.text})")
    # A gate must not pass because a network failed to train or to be attacked.
    missing = comparison.only_first if limits else ()
    return sentences + [f"{_label(where)}: no result in {comparison.second}" for where in missing]


def _parse_limit(text: str, comparison: Comparison) -> Limit:
    match = _PATTERN.fullmatch(text)
    if not match or (match[4] and float(match[4]) == 0):
        hint = "for example median<-5%, accuracy<-0.01 or robust@8/255<-0.05"
        raise UserError(f"invalid limit '{text}': expected QUANTITY<CHANGE or QUANTITY>CHANGE", hint=hint)
    eps = float(match[3]) / float(match[4] or 1) if match[3] else None
    norms = list(dict.fromkeys(each.norm for each in comparison.differences))
    norm = match[2]
    if eps is not None and norm is None:
        if "linf" not in norms and len(norms) > 1:
            raise UserError(
                f"the limit '{text}' needs the norm of its budget: the attacks have {', '.join(norms)}",
                hint=f"for example robust@{norms[0]}:{match[3]}",
            )
        # The usual budgets of gates, such as 8/255, are for L∞.
        norm = "linf" if "linf" in norms else norms[0]
    if norm is not None and norm not in norms:
        raise UserError(
            f"the limit '{text}' is for norm {norm}, which no attack has", hint=f"use {', '.join(norms)}"
        )
    return Limit(
        quantity=match[1],
        norm=norm,
        eps=eps,
        sign=match[5],
        bound=float(match[6]) / (100 if match[7] else 1),
        relative=bool(match[7]),
        text=text.strip(),
    )


def _why_not(each: Difference, limit: Limit, comparison: Comparison) -> str:
    """Why the quantity of a limit cannot be compared."""
    if not _judged(each, limit):
        # Too few common images rule out a share of the distance only, not robust accuracy.
        return "unreliable" if each.against and limit.quantity.startswith("robust") else each.verdict
    if limit.quantity == "median":
        return "a fixed-size attack has no distances" if each.before.fixed else "the ratio is undefined"
    units = partial(written, norm=each.norm, levels=comparison.levels, bounds=comparison.bounds)
    return f"this attack tried only {', '.join(map(units, each.before.sizes)) or 'no size'}"


def _judged(each: Difference, limit: Limit) -> bool:
    """Robust accuracy is over all images, so a collapse or few common images do not rule it out."""
    if limit.quantity == "median":
        return each.judged
    return each.against is not None and worst([each.before.checked, each.after.checked]) not in "CX"


def _change(each: Difference, limit: Limit) -> float | None:
    if limit.quantity == "accuracy":
        return _moved(*each.accuracy, relative=limit.relative)
    if each.against is None or not _judged(each, limit):
        return None
    if limit.quantity == "median":
        found = each.against.left
        if found is None:
            return None
        change = found.ratio - 1 if limit.relative else found.after - found.before
        return None if math.isnan(change) else change
    moved = [
        _moved(mean(found.before), mean(found.after), relative=limit.relative)
        for found in _robust(each, limit.eps)
    ]
    # Without a budget the limit holds at every stated one, so the worst of them decides.
    return (min if limit.sign == "<" else max)(moved, default=None)


def _robust(each: Difference, eps: float | None) -> Sequence[Shares]:
    """Robust accuracy at the stated budgets, or at ``eps``."""
    if each.against is None or eps is None:
        return each.against.robust if each.against else ()
    found = compare_points(each.before, each.after, budgets=[eps])
    near = (share for share in found.robust if share.eps is not None) if found else ()
    # A budget like 8/255 differs in its last digit from the one in a study file.
    return [share for share in near if share.eps is not None and math.isclose(share.eps, eps, rel_tol=1e-9)]


def _moved(before: float, after: float, *, relative: bool) -> float:
    return (after - before) / before if relative and before else after - before


def _label(where: GridPoint) -> str:
    return f"{where.model}, {network_label(where.criterion, where.sparsity)}, {where.arm}, {where.attack}"
