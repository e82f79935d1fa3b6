"""The two quantities of a report: robust accuracy at stated budgets, and the share of the distance left.

An image is robust at ε when the network classifies it correctly and the attack found no adversarial example
within ε. Robust accuracy is the share of robust images among all attacked images. It is an upper bound,
because an attack may miss an example that exists.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from weakref import WeakKeyDictionary

import numpy as np

from secateur import budgets
from secateur.report.aggregate import AttackPoint, Grid, GridPoint
from secateur.report.formatting import NORM_LABELS, PERCENT, attack_label, number, percent, percent_range
from secateur.report.intervals import over_seeds
from secateur.report.paired_changes import Against
from secateur.stats import wilson

ROBUST, NOT_REACHED = "robust accuracy", "target not reached"
LEADING_RULE = (
    "Of the stated budgets, the one shown first is where the robust accuracy of the dense networks is "
    "closest to half of their accuracy."
)


@dataclass(frozen=True)
class Budget:
    """A budget that the report states: ``epsilon`` in the units of the images, and its text ("8/255")."""

    epsilon: float
    norm: str
    text: str

    @property
    def label(self) -> str:
        """Norm and budget: "L∞ ≤ 8/255"."""
        return f"{NORM_LABELS[self.norm]} ≤ {self.text}"


@dataclass(frozen=True)
class Share:
    """A share of images: its mean over the seeds, and its 95 % interval.

    ``over`` is what the interval is over: "trainings" from three on that differ, otherwise "images".
    """

    mean: float
    low: float
    high: float
    over: str

    @property
    def interval(self) -> str:
        """The interval as text: "41 to 63 %"."""
        return percent_range(self.low, self.high)


@lru_cache(maxsize=32)
def attack_points(grid: Grid, attack: str) -> tuple[AttackPoint, ...]:
    """All points of one attack, in the order of the study."""
    return tuple(point for point in grid.points.values() if point.where.attack == attack)


def models_of(grid: Grid, arm: str) -> tuple[str, ...]:
    """The models of the grid that the study fine-tunes by ``arm``."""
    tuned = dict.fromkeys(where.model for where in grid.order if where.arm == arm)
    return tuple(model for model in tuned if model in grid.models)


def closest_to_half(sparsities: Iterable[float]) -> float | None:
    """The sparsity that sentences are about; the smaller one of a tie, None without any."""
    return min(sparsities, key=lambda s: (round(abs(s - 0.5), 6), s), default=None)


@lru_cache(maxsize=32)
def stated_budgets(grid: Grid, attack: str) -> tuple[Budget, ...]:
    """The budgets at which a report states robust accuracy, in rising order; none without a result.

    For a fixed-size attack they are the sizes that it tried. For other attacks they are the study's
    ``epsilons``, or by default the usual ones of the norm.
    """
    points = attack_points(grid, attack)
    if not points:
        return ()
    norm, study = points[0].norm, grid.study
    tried = {eps for point in points for each in point.attacks for eps in each.sizes}
    chosen = sorted(tried) if points[0].fixed else grid.budgets(norm)
    texts = [budgets.written(eps, norm, levels=study.levels, bounds=study.bounds) for eps in chosen]
    return tuple(Budget(eps, norm, text) for eps, text in zip(chosen, texts, strict=True))


@lru_cache(maxsize=32)
def leading_budget(grid: Grid, attack: str) -> Budget | None:
    """The stated budget where the dense networks' robust accuracy is closest to half of their accuracy.

    All minimum-norm attacks of one norm share it, so that their numbers are comparable. The smaller budget
    wins a tie. Without a dense network it is the middle one. None where the attack has no result.
    A budget of 0 leads only if it is the only one: at 0 nothing is attacked.
    """
    points = attack_points(grid, attack)
    # At a budget of 0 robust accuracy is accuracy.
    choices = tuple(b for b in stated_budgets(grid, attack) if b.epsilon > 0) or stated_budgets(grid, attack)
    if not choices:
        return None
    peers = points if points[0].fixed else _minimum_norm_points(grid, points[0].norm)
    dense = [each for point in peers if point.role == "dense" for each in point.attacks]
    if not dense:
        return choices[(len(choices) - 1) // 2]

    def miss(budget: Budget) -> float:
        sides = [(each.robust_images(budget.epsilon), (~each.already_wrong).mean()) for each in dense]
        return float(np.mean([abs(s.mean() - clean / 2) for s, clean in sides if s is not None] or [1.0]))

    # Rounded, so that differences in the last digit do not decide a tie.
    return min(choices, key=lambda budget: round(miss(budget), 9))


def _minimum_norm_points(grid: Grid, norm: str) -> Sequence[AttackPoint]:
    """The minimum-norm attacks of this norm; targeted ones only where there are no others."""
    same = [point for point in grid.points.values() if point.norm == norm and not point.fixed]
    return [point for point in same if not targeted(point)] or same


def robust_share(point: AttackPoint, budget: Budget | None) -> Share | None:
    """Robust accuracy of a point; None without a budget, or at a size that the attack did not try."""
    return _share_at(point, budget.epsilon) if budget else None


def clean_share(point: AttackPoint) -> Share:
    """Accuracy of a point on the attacked images."""
    return _share([float((~attack.already_wrong).mean()) for attack in point.attacks], point)


_shares: WeakKeyDictionary[AttackPoint, dict[float, Share | None]] = WeakKeyDictionary()


def _share_at(point: AttackPoint, eps: float) -> Share | None:
    """:func:`robust_share`, worked out once: tables, figures, cards and page all ask for it."""
    known = _shares.setdefault(point, {})
    if eps not in known:
        robust = [attack.robust_images(eps) for attack in point.attacks]
        values = [float(each.mean()) for each in robust if each is not None]
        known[eps] = _share(values, point) if len(values) == len(robust) else None
    return known[eps]


def _share(values: list[float], point: AttackPoint) -> Share:
    found, n = over_seeds(values, highest=1.0), min(attack.n for attack in point.attacks)
    if found.low is not None and found.high is not None:
        return Share(found.mean, found.low, found.high, "trainings")
    # All seeds attack the same images, so together they are no larger a sample of images than one of them.
    low, high = wilson(min(round(found.mean * n, 9), n), n)
    return Share(found.mean, low, high, "images")


def share_text(share: Share) -> str:
    """A share with its interval: "48 % [47, 50]"."""
    low_high = percent_range(share.low, share.high, ", ").removesuffix(PERCENT)
    return f"{percent(share.mean)} [{low_high}]"


@lru_cache(maxsize=32)
def budgets_top(grid: Grid, norm: str, models: tuple[str, ...] | None = None) -> float:
    """The end of every axis of budgets in ``norm``: there the attacks succeed on nearly every image (97 %).

    It is the farthest over all minimum-norm attacks of the norm, on ``models`` or on all; without grade C
    where there are others, as such distances may be far too large. Leading budgets are always on the axis.
    """
    same = [p for p in grid.points.values() if p.norm == norm and not p.fixed]
    same = [p for p in same if models is None or p.where.model in models] or same
    chosen = [point for point in same if point.grade not in "CX"] or same
    finite = [d[np.isfinite(d)] for p in chosen for a in p.attacks for d in [a.distances[norm]]]
    reach = max((float(np.quantile(d, 0.97)) for d in finite if d.size), default=0.0)
    leading = [leading_budget(grid, attack) for attack in dict.fromkeys(p.where.attack for p in same)]
    return max([reach or 1.0, *(1.15 * budget.epsilon for budget in leading if budget)])


def macs_share(grid: Grid, where: GridPoint) -> float | None:
    """Multiply-adds of a network as a share of its dense network's; None without both, or without any."""
    own = grid.networks.get(GridPoint(where.model, where.criterion, where.sparsity, where.arm))
    dense = grid.networks.get(GridPoint(where.model, "", 0.0, "none"))
    return own.macs.mean / dense.macs.mean if own and dense and dense.macs.mean else None


def targeted(point: AttackPoint) -> bool:
    """Whether the attack had to reach a target class; the share that resists is then no robust accuracy."""
    return any(attack.science.targeted for attack in point.attacks)


@lru_cache(maxsize=32)
def quantity(grid: Grid, attack: str) -> str:
    """What the share of an attack is called: "robust accuracy", or "target not reached"."""
    return NOT_REACHED if any(map(targeted, attack_points(grid, attack))) else ROBUST


def definition(grid: Grid, attack: str) -> str:
    """What :func:`quantity` is the share of, in sentences."""
    if quantity(grid, attack) == NOT_REACHED:
        return (
            "the share of all attacked images for which the target class was not reached within ε. It says "
            "nothing about other classes: robust accuracy needs an untargeted attack."
        )
    return (
        "the share of all attacked images that the network classifies correctly and for which the attack "
        "found no adversarial example within ε. It is an upper bound: an attack may miss an example."
    )


def method_label(grid: Grid, attack: str) -> str:
    """An attack without its norm: "DDN"; a name that the study chose stays as it is."""
    points = attack_points(grid, attack)
    return attack_label(attack, points[0].norm).rpartition(" (")[0] if points else attack


def budget_label(grid: Grid, attack: str, budget: Budget | None) -> str:
    """Attack and budget: "DDN, L₂ ≤ 0.5"; the attack alone where it has no result."""
    name = method_label(grid, attack)
    return f"{name}, {budget.label}" if budget else name


def overstated(against: Against) -> bool:
    """More than all of the distance is left, but accuracy fell: the images close to the boundary are lost."""
    return against.share is not None and against.share > 1 and against.accuracy_fell


def left_percent(against: Against | None) -> str:
    """The share of the distance that is left, alone; empty where none is stated."""
    if against is None or against.share is None:
        return ""
    return "∞" if math.isinf(against.share) else percent(against.share)


def left_text(against: Against | None) -> str:
    """The share with its images: "87 % (98 images, accuracy 96 %)"; or the reason why none is stated."""
    if against is None or (against.left is None and not against.state):
        return "–"
    accuracy = f"accuracy {percent(against.accuracy[1])}"
    if against.state:
        return f"{against.state} ({accuracy})"
    return f"{left_percent(against) or '–'} ({against.n} images, {accuracy})"


def left_interval(against: Against | None) -> tuple[float, float, str] | None:
    """The interval of the share and what it is over, trainings or images; None where there is none."""
    if against is None or against.left is None or against.share is None:
        return None
    if against.left.over_trainings is not None:
        return (*against.left.over_trainings, "trainings")
    return (*against.left.over_images, "images") if against.left.over_images else None


def left_interval_text(against: Against | None) -> str:
    """The interval as text: "80 to 93 %, over images"; empty where there is none."""
    found = left_interval(against)
    return f"{percent_range(*found[:2])}, over {found[2]}" if found else ""


def left_sentence(against: Against, norm: str) -> str:
    """One sentence about the distance that is left; empty for a fixed-size attack."""
    if against.left is None:
        return ""
    if against.state:
        return f"The distance left is not stated: {against.state}."
    interval = left_interval_text(against)
    return (
        f"Distance left on the {against.n} images that both networks classify correctly: "
        f"{left_percent(against) or 'unknown'} ({f'95 % interval {interval}; ' if interval else ''}median "
        f"{norm} {number(against.left.before)} → {number(against.left.after)})."
    )
