"""The train stage and the fine-tuning stage (``tune``)."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from secateur import data, models, pruning
from secateur.config import Cell, Study, recipe_from
from secateur.data import Dataset, Splits
from secateur.errors import UserError
from secateur.hashing import derive_seed
from secateur.pruning.starting import with_weights
from secateur.registry import comes_with_weights, has_weights
from secateur.stages.networks import (
    Tick,
    architecture,
    dense_ancestor,
    generator,
    measured,
    network,
    parent_of,
    replaced,
    saved,
    splits_of,
    unreadable,
)
from secateur.store import Parts, Store, TrainScience, TuneScience
from secateur.train import Checkpoints, History
from secateur.train import train as fit
from secateur.trust import misfit


def train(study: Study, cell: Cell, store: Store, tick: Tick | None) -> Parts:
    """Train a dense network, or load its weights; with ``epochs: 0`` loaded weights stay as they are."""
    splits = splits_of(study)
    label = cell.axes["model"]
    chosen = study.models[label]
    published = has_weights(chosen.arch)
    own = published or comes_with_weights(chosen.arch)
    shape, classes = splits.test.shape, splits.test.num_classes
    pretrained = own and not chosen.weights
    build = partial(architecture, study, label, shape=shape, classes=classes, pretrained=pretrained)
    model = _planned(cell, build, chosen.weights) if chosen.weights else build()
    if not chosen.weights and comes_with_weights(chosen.arch):
        _refuse_other_weights(cell, model)
    elif not chosen.weights and not published:
        models.initialise(model, generator(derive_seed(cell.seed, "initialise")))
    trained, artefacts, timing, how = _fit(study, cell, store, model, splits, tick)
    notes = data.split_warnings(splits)
    notes += [told] if (told := models.describe_normalisation(model)) else []
    if published and (sentence := models.data_mismatch(chosen.arch, study.data.spec)):
        notes.append(sentence)
    # Weights from elsewhere may expect another normalisation or order of classes; trained ones cannot.
    given = bool(chosen.weights) or own
    if given and study.recipe(label).epochs == 0:
        notes += _misfits(model, splits.test, study.device)
    if published and study.recipe(label).epochs == 0:
        accuracy = trained.accuracy.test
        notes += [note] if (note := models.accuracy_mismatch(chosen.arch, accuracy, n=splits.test.n)) else []
    science = TrainScience(**trained.to_json(), robust=study.robust(label), notes=notes)
    return Parts(science, artefacts, timing, how)


def _misfits(model: nn.Module, test: Dataset, device: str) -> list[str]:
    """A sentence if a network with given weights recognises hardly any test image."""
    predicted = models.predict(models.to_device(model, device), test.x)
    model.cpu()
    return [sentence] if (sentence := misfit(predicted, test.y, test.classes)) else []


def _planned(cell: Cell, build: Callable[[], nn.Module], path: str) -> nn.Module:
    """The network with the weights at ``path``, if they are those that the study was planned with."""
    try:
        model = with_weights(build, path)
        changed = models.weights_hash(model) != cell.settings["weights"]
    except UserError as error:
        raise unreadable(f"the weights of '{cell.axes['model']}'", path, error) from error
    if changed:
        raise replaced(f"the weights in {path}", "the study")
    return model


def _refuse_other_weights(cell: Cell, model: nn.Module) -> None:
    """Refuse weights of a plug-in's network that changed since planning: their hash is in the cell's id."""
    if models.weights_hash(model) != cell.settings["weights"]:
        raise UserError(
            f"the model '{cell.axes['model']}' has other weights now than when the study was planned",
            hint="its function must give the same weights at every call",
        )


def tune(study: Study, cell: Cell, store: Store, tick: Tick | None) -> Parts:
    """Fine-tune the parent's network; masked weights stay zero."""
    # Distillation learns from the dense network, not from the parent.
    teacher = None
    if cell.settings["recipe"].get("distillation") is not None:
        teacher = network(study, dense_ancestor(cell, store), store)
    model = network(study, parent_of(cell), store)
    return Parts(*_fit(study, cell, store, model, splits_of(study), tick, teacher=teacher))


def _fit(
    study: Study,
    cell: Cell,
    store: Store,
    model: nn.Module,
    splits: Splits,
    tick: Tick | None,
    *,
    teacher: nn.Module | None = None,
) -> tuple[TuneScience, dict[str, bytes | Path], dict[str, float], dict[str, str]]:
    """Train or fine-tune from the cell's last checkpoint; the numbers, files, seconds, and how it went."""
    start = time.perf_counter()
    models.to_device(model, study.device)
    with pruning.reapply_masks(model) if cell.masked else nullcontext():
        history = fit(
            model,
            splits.train,
            splits.validation,
            recipe_from(cell.settings["recipe"]),
            seed=cell.seed,
            # The folder is this cell's: what does not fit is of a parent that was computed anew meanwhile.
            checkpoints=Checkpoints(store.scratch(cell.id) / "checkpoints", restart=True),
            teacher=teacher,
            on_progress=tick,
        )
    if history.outcome == "diverged":
        raise UserError(f"the training diverged: {history.sentence}", hint="lower the recipe's learning_rate")
    size: int | None = cell.settings.get("train_sample")
    seen = splits.train if size is None else _sample(splits.train, size, study.seed)
    sampled: dict[str, Any] = {} if size is None else {"train_sample": seen.n}
    parts = {"train": seen, "validation": splits.validation, "test": splits.test}
    plain = history.to_json()
    science = TuneScience(
        **measured(study, cell, model, **parts).to_json(),
        **sampled,
        best_epoch=plain["best_epoch"],
        history=plain["epochs"],
    )
    seconds = {"seconds": time.perf_counter() - start}
    return science, saved(model, store, cell), seconds, _shortage(history)


def _sample(images: Dataset, size: int, seed: int) -> Dataset:
    """Training images drawn by class, the same for every network of a study."""
    return data.subset(images, size, generator=generator(derive_seed(seed, "train_sample")))


def _shortage(history: History) -> dict[str, str]:
    if history.parts == 1:
        return {}
    said = f"memory ran short: batches in up to {history.parts} parts, their gradients summed"
    return {"training": f"{said}; equal up to rounding"}
