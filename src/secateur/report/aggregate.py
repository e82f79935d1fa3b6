"""From rows to numbers: one point per place of the grid, over its seeds, with its controls."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import numpy as np

from secateur.report.intervals import Estimate, over_seeds
from secateur.report.rows import Attack, Axes, Hole, Network, Study
from secateur.stats import Floats, median, wilson
from secateur.stats import security_curve as curve_of

Samples = Literal["correct", "all"]
Row = TypeVar("Row", Network, Attack, Hole)
GRADES = "ABCX"


@dataclass(frozen=True, order=True)
class Place:
    """A place of the grid, seeds aside; ``criterion`` is empty at sparsity 0, ``attack`` for networks."""

    model: str
    criterion: str
    sparsity: float
    arm: str
    attack: str = ""


@dataclass(frozen=True)
class NetworkPoint:
    """What the networks of one place cost and how accurate they are."""

    place: Place
    role: str
    robust: bool
    networks: tuple[Network, ...]
    planned_seeds: int
    parameters: Estimate
    macs: Estimate
    accuracy: Estimate
    collapsed: bool


@dataclass(frozen=True)
class AttackPoint:
    """The attacks of one place, one per seed; ``grade`` is that of the worst seed."""

    place: Place
    role: str
    robust: bool
    attacks: tuple[Attack, ...]
    planned_seeds: int
    grade: str
    reasons: tuple[str, ...]

    @property
    def network_place(self) -> Place:
        """The place of the attacked networks."""
        return replace(self.place, attack="")

    @property
    def norm(self) -> str:
        """The norm that the attack minimises."""
        return self.attacks[0].norm

    def median(self, norm: str, samples: Samples = "correct") -> Estimate:
        """Median distance over the seeds, in ``norm``."""
        return over_seeds([median(distances(attack, norm, samples)) for attack in self.attacks])


@dataclass(frozen=True)
class Grid:
    """A study, aggregated: every place in the order of its plan."""

    study: Study
    models: tuple[str, ...]
    criteria: tuple[str, ...]
    sparsities: tuple[float, ...]
    arms: tuple[str, ...]
    attacks: tuple[str, ...]
    networks: dict[Place, NetworkPoint]
    points: dict[Place, AttackPoint]
    holes: dict[Place, tuple[Hole, ...]]
    robust: dict[str, bool]
    order: tuple[Place, ...]


def distances(attack: Attack, norm: str, samples: Samples) -> Floats:
    """Distances of the attacked images: all of them, or those that the network got right."""
    values = attack.distances[norm]
    return values if samples == "all" else values[~attack.already_wrong]


def aggregate(study: Study) -> Grid:
    """Group the rows of a study by place."""
    axes = [each for each, _ in study.planned]
    networks = {p: _network_point(p, rows, study) for p, rows in _group(study.networks).items()}
    points = {p: _attack_point(p, rows, study) for p, rows in _group(study.attacks).items()}
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
        order=tuple(dict.fromkeys(place_of(a) for a in axes)),
    )


def dense_of(place: Place) -> Place:
    """The control without pruning and without fine-tuning."""
    return Place(place.model, "", 0.0, "none", place.attack)


def dense_tuned_of(place: Place) -> Place:
    """The control without pruning and with the same fine-tuning."""
    return Place(place.model, "", 0.0, place.arm, place.attack)


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
    """Share of all attacked images that no adversarial example within the budget was found for."""
    per_seed = [curve_of(distances(attack, attack.norm, "all"), epsilon) for attack in point.attacks]
    estimates = [over_seeds(values, highest=1.0) for values in np.stack(per_seed, axis=1).tolist()]
    mean = np.array([e.mean for e in estimates])
    n = min(attack.n for attack in point.attacks)
    bounds = [
        (e.low, e.high) if e.low is not None and e.high is not None else wilson(round(e.mean * n, 9), n)
        for e in estimates
    ]
    low, high = np.array(bounds).T
    return Curve(epsilon, mean, low, high, tuple(per_seed))


def tuned_arms(grid: Grid) -> tuple[str, ...]:
    """The arms that a study is about: those with fine-tuning, or the one without if it is alone."""
    return tuple(arm for arm in grid.arms if arm != "none") or grid.arms[:1]


def worst(grades: Iterable[str]) -> str:
    """The worst of the grades; X when there is none."""
    return max(grades, key=GRADES.index, default="X")


def _group(rows: Sequence[Row]) -> dict[Place, list[Row]]:
    grouped: dict[Place, list[Row]] = {}
    for row in rows:
        grouped.setdefault(place_of(row.axes), []).append(row)
    return grouped


def place_of(axes: Axes) -> Place:
    """The place of a cell."""
    return Place(axes.model, axes.criterion or "", axes.sparsity, axes.arm, axes.attack or "")


def _planned(place: Place, study: Study) -> int:
    return len({axes.seed for axes, _ in study.planned if place_of(axes) == place})


def _network_point(place: Place, networks: list[Network], study: Study) -> NetworkPoint:
    def estimate(value: Callable[[Network], float]) -> Estimate:
        return over_seeds([value(network) for network in networks])

    return NetworkPoint(
        place=place,
        role=networks[0].role,
        robust=networks[0].robust,
        networks=tuple(networks),
        planned_seeds=_planned(place, study),
        parameters=estimate(lambda network: network.parameters),
        macs=estimate(lambda network: network.macs),
        accuracy=over_seeds([network.accuracy["test"] for network in networks], highest=1.0),
        collapsed=any(network.collapsed for network in networks),
    )


def _attack_point(place: Place, attacks: list[Attack], study: Study) -> AttackPoint:
    planned = _planned(place, study)
    grade = worst(attack.grade for attack in attacks)
    reasons = list(dict.fromkeys(reason for attack in attacks for reason in attack.reasons))
    if len(attacks) < planned:
        grade = worst([grade, "B"])
        reasons.append(f"only {len(attacks)} of {planned} seeds have a result")
    return AttackPoint(
        place=place,
        role=attacks[0].role,
        robust=attacks[0].network.robust,
        attacks=tuple(attacks),
        planned_seeds=planned,
        grade=grade,
        reasons=tuple(reasons),
    )


def _ordered(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))
