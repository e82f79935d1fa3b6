"""Long lists of a record as arrays: ten thousand records as lists take several times the memory."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from secateur.report.records import NORMS
from secateur.store import AttackScience, NetworkScience

LEFT_OUT = (
    *("history", "hashes", "distances", "best_optim_distances", "num_forwards", "num_backwards"),
    *("ori_success", "adv_success", "box_failures", "batch_failures"),
)
"""Long lists of records that rows hold as arrays, or that no report shows."""

Long = TypeVar("Long", NetworkScience, AttackScience)


def recorded_distances(science: AttackScience) -> dict[str, NDArray[np.float64]]:
    """The distances of a record that reports show, float64 [n] by norm, NaN where there is none."""
    norms = dict.fromkeys((*NORMS, science.norm))
    return {norm: np.array(science.distances[norm], dtype=np.float64) for norm in norms}


def mean_passes(science: AttackScience) -> tuple[float, float]:
    """Mean forward and backward passes per image that the network gets right."""
    right = np.array([outcome != "already_wrong" for outcome in science.outcome], dtype=bool)
    return _mean(science.num_forwards, right), _mean(science.num_backwards, right)


def without_long_lists(science: Long) -> Long:
    """The numbers of a record without the lists that :data:`LEFT_OUT` names, which are empty then."""
    lists = {name: getattr(science, name) for name in LEFT_OUT if science.says(name)}
    return science.model_copy(update={name: type(value)() for name, value in lists.items()})


def _mean(counts: list[float], chosen: NDArray[np.bool_]) -> float:
    return float(np.asarray(counts, dtype=np.float64)[chosen].mean()) if chosen.any() else 0.0
