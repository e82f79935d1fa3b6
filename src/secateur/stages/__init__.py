"""The stages of a study: train, prune, tune, attack. Each computes one cell from its parent's artefacts."""

from collections.abc import Callable, Mapping

from secateur.config import Cell, Study
from secateur.stages.attack_stage import attack
from secateur.stages.attack_stage import attacked_images as attacked_images
from secateur.stages.networks import Tick
from secateur.stages.networks import network as network
from secateur.stages.prune_stage import prune
from secateur.stages.train_stage import train, tune
from secateur.store import Parts, Store

__all__ = ["attacked_images", "execute", "network"]


def execute(study: Study, cell: Cell, store: Store, *, on_progress: Tick | None = None) -> Parts:
    """Compute one cell from its settings and its parent's artefacts. The caller commits the result.

    Everything in ``science`` is a function of the cell's id: the same on every run, engine and order of work.

    Raises:
        UserError: the cell cannot be computed as asked, for example because its training diverged.
    """
    return _STAGES[cell.stage](study, cell, store, on_progress)


_STAGES: Mapping[str, Callable[[Study, Cell, Store, Tick | None], Parts]] = {
    "train": train,
    "prune": prune,
    "tune": tune,
    "attack": attack,
}
