"""What a report knows: typed rows read from records, and the holes between them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from secateur.store import Conditions, Measured

NORMS = ("l0", "l1", "l2", "linf")

Outcome = Literal["found", "already_wrong", "not_found"]
HoleKind = Literal["failed", "damaged", "blocked", "missing"]
OUTCOMES: tuple[Outcome, ...] = ("found", "already_wrong", "not_found")


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
    """A trained, pruned or fine-tuned network and what it costs; accuracies in [0, 1].

    ``latency`` is that of its architecture, where it was measured.
    """

    id: str
    stage: str
    axes: Axes
    role: str
    robust: bool
    parameters: int
    macs: int
    accuracy: Mapping[str, float]
    sparsity_achieved: float
    collapsed: bool
    weights_hash: str
    best_epoch: int | None
    latency: Measured | None = None


@dataclass(frozen=True)
class Attack:
    """One attack on one network, sample by sample.

    ``name`` is the study's label, ``method`` the attack's own name. ``distances[norm]`` is float64 [n]: 0
    where already wrong, inf where no adversarial example was found.
    ``found`` and ``already_wrong`` are bool [n]; ``hashes`` names the images in the same order.
    ``targeted``: an example counts when it reaches a target class, which says nothing about other classes.
    ``fixed`` attacks look for an example of a given size: they have no distances to speak of, but ``sizes``,
    the found images, bool [n], of every ε that was tried. Others have no sizes.
    """

    id: str
    axes: Axes
    role: str
    network: Network
    name: str
    method: str
    norm: str
    found: NDArray[np.bool_]
    already_wrong: NDArray[np.bool_]
    distances: Mapping[str, NDArray[np.float64]]
    hashes: tuple[str, ...]
    grade: str
    reasons: tuple[str, ...]
    forwards: float
    backwards: float
    settings: Mapping[str, Any]
    targeted: bool = False
    fixed: bool = False
    sizes: Mapping[float, NDArray[np.bool_]] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """Number of attacked images."""
        return len(self.found)


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
