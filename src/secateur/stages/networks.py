"""The images of a study, the networks of its finished cells, and what every stage measures of a network."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from torch import Generator, nn

from secateur import measure, models, pruning
from secateur.config import Cell, Study
from secateur.data import Dataset, Splits, load_splits
from secateur.durable import is_stray
from secateur.errors import ExitCode, UserError
from secateur.hashing import digest
from secateur.stats import wilson
from secateur.store import NetworkScience, Store

Tick = Callable[[int, int], None]


def network(study: Study, cell_id: str, store: Store) -> nn.Module:
    """The network of a finished train, prune or tune cell, on the CPU and in evaluation mode.

    Its weights are compared with the hashes in its record before they are loaded.

    Raises:
        UserError: the cell is not finished, or its artefacts are damaged.
    """
    folder = store.artefacts(cell_id)
    label, images = store.cell(cell_id).axes["model"], splits_of(study).test
    shape, classes = images.shape, images.num_classes
    return pruning.load(folder, lambda: architecture(study, label, shape=shape, classes=classes)).eval()


def architecture(
    study: Study, label: str, *, shape: tuple[int, ...], classes: int, pretrained: bool = False
) -> nn.Module:
    """A new network of the study's model ``label``, for images of this shape and number of classes."""
    chosen = study.models[label]
    return models.resolve(
        chosen.arch,
        num_classes=classes,
        in_channels=shape[0],
        settings=chosen.settings,
        normalise=chosen.statistics,
        # A study file may come from anybody: it never runs a Python file that it names.
        allow_code=False,
        pretrained=pretrained,
    )


def parent_of(cell: Cell) -> str:
    """The id of the parent cell.

    Raises:
        UserError: the cell has no parent.
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
    """Size and accuracy of a network. It is evaluated on the study's device, and left on the CPU.

    Args:
        study: names the device.
        cell: where its network has masked weights, the weights that are not zero are counted too.
        model: the network.
        parts: images by name, ``test`` among them.
    """
    models.to_device(model, study.device)
    accuracy = {name: models.accuracy(model, part.x, part.y) for name, part in parts.items()}
    model.cpu()
    test = parts["test"]
    parameters, macs = measure.parameters(model), measure.macs(model, test.x[:1])
    masked = {"parameters_nonzero": pruning.count_nonzero(model)} if cell.masked else {}
    # At chance: the 95 % interval of the test accuracy reaches down to 1/classes.
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
    """Write the network into the cell's scratch folder; its files by name, for the store to commit."""
    folder = store.scratch(cell.id) / "network"
    pruning.save(model, folder, overwrite=True)
    return {path.name: path for path in folder.iterdir() if not is_stray(path.name)}


def splits_of(study: Study) -> Splits:
    """The images of the study: train, validation and test."""
    chosen = study.data
    return _read_splits(chosen.spec, chosen.fractions, chosen.sizes, chosen.resize, study.split_seed)


def refuse_other_data(study: Study, store: Store) -> None:
    """Compare the images that this process has read, once, with those that the run was planned with.

    Files may change between the plan and a process that starts later, on this machine or another: its numbers
    would stand under the ids of the planned images.

    Raises:
        UserError: they differ, or can no longer be read (code ENVIRONMENT: no cell is at fault).

    >>> import tempfile
    >>> from secateur.config import parse_study
    >>> from secateur.study import plan
    >>> planned = plan(parse_study("{name: doc, data: digits, models: {net: resnet-tiny}}"))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     refuse_other_data(planned.study, Store.create(f"{folder}/run", planned.to_json()))
    """
    try:
        splits = splits_of(study)
    except UserError as error:
        raise unreadable("the images of the study", study.data.spec, error) from error
    found = digest([part.fingerprint for part in (splits.train, splits.validation, splits.test)])
    if found != store.study["facts"]["fingerprint"]:
        # A process may outlive the wrong files, as those of a cluster do.
        _read_splits.cache_clear()
        raise replaced(f"the images of {study.data.spec}", str(store.root))


def unreadable(what: str, path: str, error: UserError) -> UserError:
    """The error for files of a study that cannot be read any more; no cell is at fault."""
    hint = f"restore {path}, then run the same command again"
    return UserError(f"{what} can no longer be read: {error}", hint=hint, code=ExitCode.ENVIRONMENT)


def replaced(what: str, planned: str) -> UserError:
    """The error for files that have changed since they were planned with; no cell is at fault."""
    hint = "nothing wrong was recorded; restore them, then run the same command again"
    sentence = f"{what} are not those that {planned} was planned with"
    return UserError(sentence, hint=hint, code=ExitCode.ENVIRONMENT)


# One process computes many cells of one study: the images are read once.
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
    """A random generator of its own, so that no draw depends on the order of the cells."""
    return Generator().manual_seed(seed)
