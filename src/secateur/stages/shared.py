"""What the stages have in common: the images, the networks of finished cells, and what is measured of one."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from torch import Generator, nn

from secateur import measure, models, pruning
from secateur.config import Cell, Study
from secateur.data import Dataset, Splits, load_splits
from secateur.errors import UserError
from secateur.stats import wilson
from secateur.store import Store

Tick = Callable[[int, int], None]


def network(study: Study, cell_id: str, store: Store) -> nn.Module:
    """The network that a finished train, prune or tune cell left behind, in evaluation mode.

    Raises:
        UserError: the cell is not finished, or its artefacts are damaged.
    """
    record = store.record(cell_id)
    if record is None or record["status"] != "ok":
        raise UserError(f"cell {cell_id} is not finished in {store.root}", hint="run the study again")
    paths = [store.artefact(cell_id, name) for name in record["artefacts"]]
    test = splits_of(study).test
    return pruning.load(paths[0].parent, lambda: architecture(study, record["axes"]["model"], test)).eval()


def architecture(study: Study, label: str, images: Dataset, *, pretrained: bool = False) -> nn.Module:
    """A fresh network of the model with this label."""
    chosen = study.models[label]
    return models.resolve(
        chosen.arch,
        num_classes=images.num_classes,
        in_channels=images.shape[0],
        settings=chosen.settings,
        normalise=chosen.statistics,
        allow_code=False,
        pretrained=pretrained,
    )


def parent_of(cell: Cell) -> str:
    """The id of the cell above.

    Raises:
        UserError: there is none.
    """
    if cell.parent is None:
        raise UserError(
            f"the cell {cell.label} has no parent", hint="the run folder is damaged: plan it again"
        )
    return cell.parent


def dense_ancestor(cell: Cell, store: Store) -> str:
    """The id of the train cell that this one descends from.

    Raises:
        UserError: a cell in between is not finished.
    """
    above: str | None = parent_of(cell)
    while above is not None and (record := store.record(above)) is not None:
        if record["parent"] is None:
            return above
        above = record["parent"]
    raise UserError(f"the dense network of the cell {cell.label} is not finished", hint="run the study again")


def size(model: nn.Module, images: Dataset, cell: Cell) -> dict[str, int]:
    """Parameters and multiply-adds as the network computes them; of a masked one also what is not zero."""
    found = {"parameters": measure.parameters(model), "macs": measure.macs(model, images.x[:1])}
    if cell.masked:
        found["parameters_nonzero"] = pruning.count_nonzero(model)
    return found


def quality(study: Study, model: nn.Module, parts: Mapping[str, Dataset]) -> dict[str, Any]:
    """Accuracy on each part, and whether the network is at chance: its 95 % interval holds 1/classes.

    The network is judged on the study's device, and is on the CPU afterwards.
    """
    models.to_device(model, study.device)
    accuracy = {name: models.accuracy(model, part.x, part.y) for name, part in parts.items()}
    model.cpu()
    test = parts["test"]
    low, _ = wilson(round(accuracy["test"] * test.n), test.n)
    return {
        "accuracy": accuracy,
        "collapsed": low <= 1 / test.num_classes,
        "weights_hash": models.weights_hash(model),
    }


def saved(model: nn.Module, store: Store, cell: Cell) -> dict[str, bytes | Path]:
    """The network as artefacts."""
    folder = store.scratch(cell.id) / "network"
    pruning.save(model, folder, overwrite=True)
    return {path.name: path for path in folder.iterdir()}


def splits_of(study: Study) -> Splits:
    """The study's images."""
    chosen = study.data
    return _read_splits(chosen.spec, chosen.fractions, chosen.sizes, chosen.resize, study.split_seed)


@lru_cache(maxsize=1)
def _read_splits(
    spec: str,
    fractions: tuple[float, float, float],
    sizes: tuple[int, int, int] | None,
    resize: int | tuple[int, int] | None,
    seed: int,
) -> Splits:
    return load_splits(spec, fractions=fractions, sizes=sizes, resize=resize, generator=generator(seed))


def generator(seed: int) -> Generator:
    """A random stream."""
    return Generator().manual_seed(seed)
