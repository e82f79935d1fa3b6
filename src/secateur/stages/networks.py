"""The images of a study, the networks of its finished cells, and what every stage measures of a network."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from torch import Generator, nn

from secateur import measure, models, pruning
from secateur.config import Cell, Study
from secateur.data import Dataset, Splits, load_splits
from secateur.errors import UserError
from secateur.stats import wilson
from secateur.store import NetworkScience, Store

Tick = Callable[[int, int], None]


def network(study: Study, cell_id: str, store: Store) -> nn.Module:
    """The network that a finished train, prune or tune cell left behind, in evaluation mode.

    Raises:
        UserError: the cell is not finished, or its artefacts are damaged.
    """
    folder = store.artefacts(cell_id)
    label = next(cell.axes["model"] for cell in store.cells if cell.id == cell_id)
    return pruning.load(folder, lambda: architecture(study, label, splits_of(study).test)).eval()


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
        if record.parent is None:
            return above
        above = record.parent
    raise UserError(f"the dense network of the cell {cell.label} is not finished", hint="run the study again")


def measured(study: Study, cell: Cell, model: nn.Module, **parts: Dataset) -> NetworkScience:
    """What is measured of every network: its size, and its accuracy on each of the ``parts``.

    The network is judged on the study's device, and is on the CPU afterwards.

    Args:
        study: names the device.
        cell: of masked weights, those that are not zero are counted too.
        model: the network, on the CPU or the study's device.
        parts: images by name, ``test`` among them.
    """
    models.to_device(model, study.device)
    accuracy = {name: models.accuracy(model, part.x, part.y) for name, part in parts.items()}
    model.cpu()
    test = parts["test"]
    parameters, macs = measure.parameters(model), measure.macs(model, test.x[:1])
    masked = {"parameters_nonzero": pruning.count_nonzero(model)} if cell.masked else {}
    low, _ = wilson(round(accuracy["test"] * test.n), test.n)
    return NetworkScience.from_json(
        {
            "parameters": parameters,
            "macs": macs,
            **masked,
            "accuracy": accuracy,
            "collapsed": low <= 1 / test.num_classes,
            "weights_hash": models.weights_hash(model),
        }
    )


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
