"""What a report knows: the networks and attacks of a run folder, and the cells without a result.

Every row holds the numbers of its record (``science``) as :mod:`secateur.store.record` types them; a new
field of a record is there for every table without a change here. Only long lists are not there: a study may
have ten thousand records, and a list of numbers takes four times the memory of an array.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from secateur.store import AttackScience, Conditions, Measured, NetworkScience

NORMS = ("l0", "l1", "l2", "linf")
"""The norms that every record has; one of an attack that counts pixels has its own besides."""

HoleKind = Literal["failed", "damaged", "blocked", "missing"]


@dataclass(frozen=True)
class Axes:
    """Where a cell stands in the grid of its study."""

    model: str
    seed: int
    criterion: str | None
    sparsity: float
    arm: str
    attack: str | None


@dataclass(frozen=True)
class Network:
    """A trained, pruned or fine-tuned network.

    Attributes:
        id: of its cell.
        stage: of its cell.
        axes: where the cell stands in the grid.
        role: what the network is compared as.
        robust: whether the study calls its model adversarially trained.
        sparsity_achieved: of a fine-tuned network, that of the network it was tuned from.
        collapsed: near chance, in records of older versions too.
        science: the numbers of its record, without the history of its training.
        latency: of its architecture, where it was measured.
    """

    id: str
    stage: str
    axes: Axes
    role: str
    robust: bool
    sparsity_achieved: float
    collapsed: bool
    science: NetworkScience
    latency: Measured | None = None


@dataclass(frozen=True)
class Attack:
    """One attack on one network, image by image.

    Attributes:
        id: of its cell.
        axes: where the cell stands in the grid; ``axes.attack`` is the study's label.
        role: what the network is compared as.
        network: the attacked network.
        method: the attack's registered name.
        settings: those of the cell.
        science: the numbers of its record, without the lists that ``arrays.LEFT_OUT`` names.
        recorded: the distances in its record, float64 [n] by norm, NaN where there is none.
        passes: mean forward and backward passes per image that the network gets right.
        hashes: the images [n], one tuple for all attacks on the same images.
        fixed: the attack looks for an example of a given size; then its distances say nothing.
        sizes: of a fixed attack, the found images, bool [n], at every ε that was tried.
    """

    id: str
    axes: Axes
    role: str
    network: Network
    method: str
    settings: Mapping[str, Any]
    science: AttackScience
    recorded: Mapping[str, NDArray[np.float64]]
    passes: tuple[float, float]
    hashes: tuple[str, ...]
    fixed: bool = False
    sizes: Mapping[float, NDArray[np.bool_]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The study's label of the attack."""
        return str(self.axes.attack)

    @property
    def n(self) -> int:
        """Number of attacked images."""
        return len(self.science.outcome)

    @property
    def norm(self) -> str:
        """The norm that the attack minimises or is bound by."""
        return self.science.norm

    @property
    def grade(self) -> str:
        """How far the result can be trusted, by the checks of the attack."""
        return self.science.grade

    @property
    def reasons(self) -> tuple[str, ...]:
        """The checks that failed, in words."""
        return tuple(f"{check.id}: {check.sentence}" for check in self.science.checks if not check.passed)

    @cached_property
    def found(self) -> NDArray[np.bool_]:
        """Images [n] with an adversarial example."""
        return np.array([outcome == "found" for outcome in self.science.outcome], dtype=bool)

    @cached_property
    def already_wrong(self) -> NDArray[np.bool_]:
        """Images [n] that the network gets wrong without an attack."""
        return np.array([outcome == "already_wrong" for outcome in self.science.outcome], dtype=bool)

    @cached_property
    def distances(self) -> Mapping[str, NDArray[np.float64]]:
        """Distances, float64 [n] by norm: 0 where already wrong, inf where nothing was found.

        The outcome decides, never the number: a clean image returned by a failed attack has distance 0.
        """
        norms = dict.fromkeys((*NORMS, self.norm))
        return {norm: _distances(self, self.recorded[norm]) for norm in norms}

    @property
    def forwards(self) -> float:
        """Forward passes per image that the network gets right."""
        return self.passes[0]

    @property
    def backwards(self) -> float:
        """Backward passes per image that the network gets right."""
        return self.passes[1]

    def robust_images(self, eps: float) -> NDArray[np.bool_] | None:
        """Images, bool [n], that are classified correctly and resist ``eps``; None at sizes nobody tried.

        An attack of fixed size decides by outcome, at the sizes it was run with. At 0 nothing needs to be
        tried.
        """
        if eps == 0:
            return ~self.already_wrong
        if not self.fixed:
            return np.asarray(self.distances[self.norm] > eps)
        # A size in a record and the same size in a study file may differ by the last digit.
        found = [hits for size, hits in self.sizes.items() if math.isclose(size, eps, rel_tol=1e-9)]
        return ~self.already_wrong & ~found[0] if found else None

    def robust_accuracy(self, eps: float) -> float | None:
        """The share of all attacked images that are right and resist ``eps``; None at sizes nobody tried."""
        robust = self.robust_images(eps)
        return None if robust is None else float(robust.mean())


@dataclass(frozen=True)
class Hole:
    """A cell without a usable result, and why."""

    id: str
    stage: str
    axes: Axes
    role: str
    kind: HoleKind
    reason: str
    detail: str = ""


@dataclass(frozen=True)
class Study:
    """Everything a report knows: the rows, the holes, and where they come from.

    ``conditions`` are those of its latencies; None where none were measured. ``epsilons`` are the budgets
    that the study states, by norm (``"linf"``); ``bounds`` and ``levels`` are those of its images.
    ``plugins`` are the names of the files that it needs.
    """

    name: str
    study_hash: str
    config: Mapping[str, Any]
    networks: tuple[Network, ...]
    attacks: tuple[Attack, ...]
    holes: tuple[Hole, ...]
    planned: tuple[tuple[Axes, str], ...]
    environments: tuple[tuple[str, int], ...]
    seconds: float
    limited: int | None
    notes: tuple[str, ...]
    robust: Mapping[str, bool]
    conditions: Conditions | None = None
    epsilons: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    bounds: tuple[float, float] = (0.0, 1.0)
    levels: int | None = None
    plugins: tuple[str, ...] = ()


def _distances(attack: Attack, values: NDArray[np.float64]) -> NDArray[np.float64]:
    distances = values.copy()
    distances[attack.already_wrong] = 0.0
    distances[~attack.found & ~attack.already_wrong] = np.inf
    return distances
