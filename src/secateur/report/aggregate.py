"""Aggregate the rows of a study over seeds: networks and attacks by grid point, with their controls."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, TypeVar

import numpy as np

from secateur import budgets as usual
from secateur.report.intervals import Estimate, each_over_seeds, over_seeds
from secateur.report.pairing import UNRELIABLE, common_images, pair_trainings, state_of, why
from secateur.report.records import Attack, Axes, Hole, Network, Study
from secateur.stats import Floats, median, wilson
from secateur.stats import security_curve as curve_of
from secateur.store import NetworkScience

Samples = Literal["correct", "all"]
Row = TypeVar("Row", Network, Attack, Hole)
GRADES = "ABCX"


@dataclass(frozen=True, order=True)
class GridPoint:
    """A point of the grid, seeds aside; ``criterion`` is empty at sparsity 0, ``attack`` for networks."""

    model: str
    criterion: str
    sparsity: float
    arm: str
    attack: str = ""


@dataclass(frozen=True)
class NetworkPoint:
    """The networks of one grid point: one per seed."""

    where: GridPoint
    role: str
    robust: bool
    networks: tuple[Network, ...]
    planned_seeds: int

    def over_trainings(
        self, value: Callable[[NetworkScience], float], *, highest: float = math.inf
    ) -> Estimate:
        """A number of the records, over trainings: equal weights under two seeds are one training.

        ``highest`` is the largest value that the number can have.
        """
        rows = _distinct(self.networks, lambda network: network.science.weights_hash)
        return over_seeds([value(network.science) for network in rows], highest=highest)

    @cached_property
    def parameters(self) -> Estimate:
        """Number of parameters."""
        return self.over_trainings(lambda science: science.parameters)

    @cached_property
    def macs(self) -> Estimate:
        """Multiply-adds per image."""
        return self.over_trainings(lambda science: science.macs)

    @cached_property
    def accuracy(self) -> Estimate:
        """Test accuracy."""
        return self.over_trainings(lambda science: science.accuracy.test, highest=1.0)

    @property
    def collapsed(self) -> bool:
        """Whether any of the networks is near chance."""
        return any(network.collapsed for network in self.networks)


# By identity, as a grid below.
@dataclass(frozen=True, eq=False)
class AttackPoint:
    """The attacks of one grid point, one per training: equal weights under two seeds are one training.

    ``seeds`` holds the attack of every seed. ``checked`` is the grade of the worst seed by its checks;
    ``grade`` is C at best if ``state`` says in words why no share may be stated: see :func:`state_of`.
    """

    where: GridPoint
    role: str
    robust: bool
    attacks: tuple[Attack, ...]
    seeds: Mapping[int, Attack]
    planned_seeds: int
    checked: str
    grade: str
    state: str
    reasons: tuple[str, ...]

    @property
    def network_grid_point(self) -> GridPoint:
        """The grid point of the attacked networks."""
        return replace(self.where, attack="")

    @property
    def norm(self) -> str:
        """The norm that the attack minimises."""
        return self.attacks[0].norm

    @property
    def fixed(self) -> bool:
        """Whether the attack is of fixed size: nothing is known at other sizes than those it ran at."""
        return self.attacks[0].fixed

    @property
    def sizes(self) -> tuple[float, ...]:
        """The sizes that a fixed-size attack ran at on every training, rising; empty for other attacks."""
        return tuple(eps for eps in self.attacks[0].sizes if all(eps in a.sizes for a in self.attacks))

    def median(self, norm: str, samples: Samples = "correct") -> Estimate:
        """Median distance in ``norm``, over trainings."""
        return over_seeds([median(distances(attack, norm, samples)) for attack in self.attacks])


# Hashed by identity, so that what is computed from a grid can be cached by it.
@dataclass(frozen=True, eq=False)
class Grid:
    """An aggregated study; grid points are in the order of its plan."""

    study: Study
    models: tuple[str, ...]
    criteria: tuple[str, ...]
    sparsities: tuple[float, ...]
    arms: tuple[str, ...]
    attacks: tuple[str, ...]
    networks: dict[GridPoint, NetworkPoint]
    points: dict[GridPoint, AttackPoint]
    holes: dict[GridPoint, tuple[Hole, ...]]
    robust: dict[str, bool]
    order: tuple[GridPoint, ...]

    def budgets(self, norm: str) -> tuple[float, ...]:
        """The budgets at which robust accuracy is stated: the study's, or the usual ones of the norm."""
        stated = self.study.epsilons.get(norm)
        return stated or usual.scaled(usual.HEADLINE[norm], norm, self.study.bounds)

    def stated(self, point: AttackPoint) -> tuple[float, ...]:
        """The budgets for a point; a fixed-size attack has a robust accuracy only at its own sizes."""
        return point.sizes if point.fixed else self.budgets(point.norm)


def distances(attack: Attack, norm: str, samples: Samples) -> Floats:
    """Distances of all attacked images, or of those that the network classifies correctly."""
    values = attack.distances[norm]
    return values if samples == "all" else values[~attack.already_wrong]


def aggregate(study: Study) -> Grid:
    """Group the rows of a study by grid point."""
    axes = [each for each, _ in study.planned]
    seeds = _planned_seeds(axes)
    networks = {
        p: NetworkPoint(p, rows[0].role, rows[0].robust, tuple(rows), len(seeds.get(p, ())))
        for p, rows in _group(study.networks).items()
    }
    attacked = {p: _attack_point(p, rows, len(seeds.get(p, ()))) for p, rows in _group(study.attacks).items()}
    points = {p: _judged(point, attacked.get(dense_of(p))) for p, point in attacked.items()}
    return Grid(
        study=study,
        models=_ordered(a.model for a in axes),
        criteria=_ordered(a.criterion for a in axes if a.criterion is not None),
        sparsities=tuple(sorted({a.sparsity for a in axes})),
        arms=_ordered(a.arm for a in axes),
        attacks=_ordered(a.attack for a in axes if a.attack is not None),
        networks=networks,
        points=points,
        holes={p: tuple(rows) for p, rows in _group(study.holes).items()},
        robust={**{row.axes.model: row.robust for row in study.networks}, **study.robust},
        order=tuple(seeds),
    )


def dense_of(where: GridPoint) -> GridPoint:
    """The control without pruning and without fine-tuning."""
    return GridPoint(where.model, "", 0.0, "none", where.attack)


def dense_tuned_of(where: GridPoint) -> GridPoint:
    """The control without pruning and with the same fine-tuning."""
    return GridPoint(where.model, "", 0.0, where.arm, where.attack)


@dataclass(frozen=True)
class Curve:
    """Robust accuracy [k] at the budgets ``epsilon`` [k], with its interval.

    The interval is over seeds from three seeds on, otherwise over images. It is an upper bound on robust
    accuracy, as an attack may miss adversarial examples that exist.
    """

    epsilon: Floats
    mean: Floats
    low: Floats
    high: Floats
    per_seed: tuple[Floats, ...]


def security_curve(point: AttackPoint, epsilon: Floats) -> Curve:
    """Share of all attacked images for which no adversarial example within the budget was found.

    A fixed-size attack has a value only at the sizes it ran at: its curve may be shorter, or empty.
    """
    kept = epsilon
    if point.fixed:
        tried = [eps for eps in epsilon if all(a.robust_images(eps) is not None for a in point.attacks)]
        kept = np.array(tried, dtype=np.float64)
    per_seed = [_curve(attack, kept) for attack in point.attacks]
    mean, low, high = each_over_seeds(np.stack(per_seed, axis=1), highest=1.0)
    # Without an interval over trainings: over the images of one training, as all trainings share them.
    n = min(attack.n for attack in point.attacks)
    for i in np.flatnonzero(np.isnan(low)):
        low[i], high[i] = wilson(round(float(mean[i]) * n, 9), n)
    return Curve(kept, mean, low, high, tuple(per_seed))


def _curve(attack: Attack, epsilon: Floats) -> Floats:
    if not attack.fixed and epsilon.size:
        return curve_of(distances(attack, attack.norm, "all"), epsilon)
    return np.array([attack.robust_accuracy(eps) for eps in epsilon], dtype=np.float64)


def tuned_arms(grid: Grid) -> tuple[str, ...]:
    """The arms with fine-tuning; the one without if there is no other."""
    return tuple(arm for arm in grid.arms if arm != "none") or grid.arms[:1]


def worst(grades: Iterable[str]) -> str:
    """The worst of the grades; X when there is none."""
    return max(grades, key=GRADES.index, default="X")


def _group(rows: Sequence[Row]) -> dict[GridPoint, list[Row]]:
    grouped: dict[GridPoint, list[Row]] = {}
    for row in rows:
        grouped.setdefault(grid_point_of(row.axes), []).append(row)
    return grouped


def grid_point_of(axes: Axes) -> GridPoint:
    """The grid point of a cell."""
    return GridPoint(axes.model, axes.criterion or "", axes.sparsity, axes.arm, axes.attack or "")


def _planned_seeds(planned: Iterable[Axes]) -> dict[GridPoint, set[int]]:
    """The seeds of every grid point, in the order of the study."""
    seeds: dict[GridPoint, set[int]] = {}
    for axes in planned:
        seeds.setdefault(grid_point_of(axes), set()).add(axes.seed)
    return seeds


def _attack_point(where: GridPoint, attacks: list[Attack], planned: int) -> AttackPoint:
    grade = worst(attack.grade for attack in attacks)
    reasons = list(dict.fromkeys(reason for attack in attacks for reason in attack.reasons))
    # A seed without a result may be missing because its network broke: the others may flatter the point.
    if len(attacks) < planned:
        grade = worst([grade, "B"])
        reasons.append(f"only {len(attacks)} of {planned} seeds have a result")
    return AttackPoint(
        where=where,
        role=attacks[0].role,
        robust=attacks[0].network.robust,
        attacks=tuple(_distinct(attacks, lambda attack: attack.network.science.weights_hash)),
        seeds={attack.axes.seed: attack for attack in attacks},
        planned_seeds=planned,
        checked=grade,
        grade=grade,
        state="",
        reasons=tuple(reasons),
    )


def _distinct(rows: Sequence[Row], weights: Callable[[Row], str]) -> list[Row]:
    """The first row of every training, that is, of every hash of weights."""
    first: dict[str, Row] = {}
    for row in rows:
        first.setdefault(weights(row), row)
    return list(first.values())


def _judged(point: AttackPoint, dense: AttackPoint | None) -> AttackPoint:
    """The point with its state beside the dense network, and the grade that follows from it."""
    pairs = pair_trainings((dense or point).seeds, point.seeds) or [(a, a) for a in point.attacks]
    n = min(attack.n for attack in point.attacks) if point.fixed else common_images(pairs)
    state = state_of(pairs, n=n)
    if not state:
        return point
    reasons = point.reasons if state == UNRELIABLE else (*point.reasons, why(state, n))
    return replace(point, state=state, grade=worst([point.checked, "C"]), reasons=reasons)


def _ordered(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))
