"""The stages of a study: train, prune, tune, attack. Each computes one cell from its parent's artefacts."""

from collections.abc import Callable, Mapping

from secateur.config import Cell, Study
from secateur.stages.attack_stage import attack
from secateur.stages.attack_stage import attacked_images as attacked_images
from secateur.stages.networks import Tick
from secateur.stages.networks import network as network
from secateur.stages.networks import refuse_other_data as refuse_other_data
from secateur.stages.prune_stage import prune
from secateur.stages.train_stage import train, tune
from secateur.store import Parts, Store

__all__ = ["attacked_images", "execute", "network", "refuse_other_data"]


def execute(study: Study, cell: Cell, store: Store, *, on_progress: Tick | None = None) -> Parts:
    """Compute one cell from its settings and its parent's artefacts. The caller commits the result.

    The numbers in ``science`` depend on the cell's id alone: they are the same on every run and engine and in
    every order of the cells. An attack that an earlier cell of the study has done on equal weights is not
    done again: its numbers are those of that cell.

    Args:
        study: what the cells were planned from; names data, models and device.
        cell: the cell to compute.
        store: the run folder, which holds the parent.
        on_progress: called with (steps done, steps in all).

    Raises:
        UserError: the cell cannot be computed, for example because its training diverged; or the images are
            not those of the plan (code ENVIRONMENT).

    >>> import tempfile
    >>> from secateur.config import parse_study
    >>> from secateur.study import plan
    >>> planned = plan(parse_study('''
    ... name: doc
    ... data: {spec: digits, sizes: [40, 20, 20]}
    ... models: {net: {arch: resnet-tiny, settings: {widths: [2, 2]}, recipe: {epochs: 0}}}
    ... attacks: {ddn: {steps: 1}}
    ... images: 10
    ... '''))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = Store.create(f"{folder}/run", planned.to_json())
    ...     execute(planned.study, planned.cells[0], store).science.parameters
    220
    """
    refuse_other_data(study, store)
    return _STAGES[cell.stage](study, cell, store, on_progress)


_STAGES: Mapping[str, Callable[[Study, Cell, Store, Tick | None], Parts]] = {
    "train": train,
    "prune": prune,
    "tune": tune,
    "attack": attack,
}
