"""Clean accuracy and robust accuracy at stated budgets: what every surface of a report leads with.

An image is robust at ε when the network classifies it correctly and the attack found no adversarial example
within ε. A wrong image is not robust. The share is over all attacked images. It is an upper bound on the
robust accuracy of the network, because an attack may miss an example that exists.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from secateur import budgets
from secateur.report.aggregate import AttackPoint, Grid, GridPoint
from secateur.report.formatting import NORM_LABELS, PERCENT, attack_label, percent
from secateur.report.intervals import over_seeds
from secateur.report.outcomes import robust_images
from secateur.stats import wilson

ROBUST, NOT_REACHED = "robust accuracy", "target not reached"
RULE = (
    "Of the stated budgets, the one shown first is where the dense networks' robust accuracy is nearest "
    "to half of their accuracy."
)


@dataclass(frozen=True)
class Budget:
    """A budget that the report states: ``epsilon`` in the units of the images, and as people write it."""

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

    ``over`` says over what the interval is: "trainings" from three on that differ, otherwise "images".
    """

    mean: float
    low: float
    high: float
    over: str

    @property
    def interval(self) -> str:
        """The interval in words: "41 to 63 %"."""
        return f"{percent(self.low).removesuffix(PERCENT)} to {percent(self.high)}"


@lru_cache(maxsize=32)
def stated(grid: Grid, attack: str) -> tuple[Budget, ...]:
    """The budgets at which a report states what ``attack`` leaves, in rising order; none without a result.

    A fixed-size attack is known at the sizes that it tried and nowhere else. For other attacks they are the
    study's ``epsilons``, or else the usual ones of the norm.
    """
    points = points_of(grid, attack)
    if not points:
        return ()
    norm = points[0].norm
    tried = {eps for point in points for each in point.attacks for eps in each.sizes}
    chosen = sorted(tried) if points[0].fixed else grid.budgets(norm)
    return tuple(Budget(eps, norm, _written(grid, eps, norm)) for eps in chosen)


@lru_cache(maxsize=32)
def leading(grid: Grid, attack: str) -> Budget | None:
    """The stated budget that leads: at it the dense networks are nearest to half of their clean accuracy.

    All minimum-norm attacks of one norm share it, so that their numbers can be compared. A smaller budget
    wins a tie. Without a dense network it is the one in the middle. None where the attack has no result.
    A budget of 0 leads only where it is alone: nothing is attacked there.
    """
    points = points_of(grid, attack)
    choices = tuple(b for b in stated(grid, attack) if b.epsilon > 0) or stated(grid, attack)
    if not choices:
        return None
    peers = points if points[0].fixed else _peers(grid, points[0].norm)
    dense = [each for point in peers if point.role == "dense" for each in point.attacks]
    if not dense:
        return choices[(len(choices) - 1) // 2]

    def miss(budget: Budget) -> float:
        sides = [(robust_images(each, budget.epsilon), (~each.already_wrong).mean()) for each in dense]
        return float(np.mean([abs(s.mean() - clean / 2) for s, clean in sides if s is not None] or [1.0]))

    return min(choices, key=lambda budget: round(miss(budget), 9))


@lru_cache(maxsize=32)
def points_of(grid: Grid, attack: str) -> tuple[AttackPoint, ...]:
    """All points of one attack, in the order of the study."""
    return tuple(point for point in grid.points.values() if point.where.attack == attack)


def _peers(grid: Grid, norm: str) -> Sequence[AttackPoint]:
    """All minimum-norm attacks of this norm; targeted ones only where there are no others."""
    same = [point for point in grid.points.values() if point.norm == norm and not point.fixed]
    return [point for point in same if not targeted(point)] or same


def robust_share(point: AttackPoint, budget: Budget | None) -> Share | None:
    """Robust accuracy of a point; None without a budget, or at a size that the attack did not try."""
    if budget is None:
        return None
    robust = [robust_images(attack, budget.epsilon) for attack in point.attacks]
    values = [float(each.mean()) for each in robust if each is not None]
    return _share(values, point) if len(values) == len(robust) else None


def clean_share(point: AttackPoint) -> Share:
    """Accuracy of a point on the attacked images."""
    return _share([float((~attack.already_wrong).mean()) for attack in point.attacks], point)


def _share(values: list[float], point: AttackPoint) -> Share:
    found, n = over_seeds(values, highest=1.0), min(attack.n for attack in point.attacks)
    if found.low is not None and found.high is not None:
        return Share(found.mean, found.low, found.high, "trainings")
    # The seeds share their images: together they are no larger a sample of images than one of them.
    low, high = wilson(min(round(found.mean * n, 9), n), n)
    return Share(found.mean, low, high, "images")


def targeted(point: AttackPoint) -> bool:
    """Whether the attack had to reach a target class: what it leaves is then no robust accuracy."""
    return any(attack.targeted for attack in point.attacks)


@lru_cache(maxsize=32)
def quantity(grid: Grid, attack: str) -> str:
    """What the share of an attack is called: robust accuracy, or target not reached."""
    return NOT_REACHED if any(targeted(point) for point in points_of(grid, attack)) else ROBUST


def meaning(grid: Grid, attack: str) -> str:
    """What the share of an attack is a share of, in sentences."""
    if quantity(grid, attack) != ROBUST:
        return (
            "the share of all attacked images for which the target class was not reached within ε. It says "
            "nothing about other classes: robust accuracy needs an untargeted attack."
        )
    return (
        "the share of all attacked images that the network classifies correctly and for which no adversarial "
        "example within ε was found. It is an upper bound: an attack may miss an example."
    )


def short_label(grid: Grid, attack: str) -> str:
    """An attack without its norm: "DDN"; the study's own names stay as they are."""
    points = points_of(grid, attack)
    return attack_label(attack, points[0].norm).rpartition(" (")[0] if points else attack


def budget_label(grid: Grid, attack: str, budget: Budget | None) -> str:
    """Attack and budget: "DDN, L₂ ≤ 0.5"; the attack alone where it has no result."""
    name = short_label(grid, attack)
    return f"{name}, {budget.label}" if budget else name


def macs_share(grid: Grid, where: GridPoint) -> float | None:
    """Multiply-adds of a network as a share of its dense network's; None where either has no result."""
    own = grid.networks.get(GridPoint(where.model, where.criterion, where.sparsity, where.arm))
    dense = grid.networks.get(GridPoint(where.model, "", 0.0, "none"))
    return own.macs.mean / dense.macs.mean if own and dense else None


def _written(grid: Grid, eps: float, norm: str) -> str:
    return budgets.written(eps, norm, levels=grid.study.levels, bounds=grid.study.bounds)
