"""What one cell does: a function per stage, the parent's artefacts in, artefacts and numbers out."""

import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from torch import Generator, Tensor, nn

from secateur import data, evaluate, measure, models, pruning
from secateur.config import Cell, Study, derive_seed, recipe_from
from secateur.data import Dataset, Splits, load_splits, subset
from secateur.errors import UserError
from secateur.graph import trace
from secateur.recipes import Adversary
from secateur.registry import CRITERIA
from secateur.store import Parts, Store
from secateur.train import Checkpoints, History, perturb, train

Tick = Callable[[int, int], None]

# How many training images a criterion looks at.
EVIDENCE = 256
# What robust_taylor attacks with where the network was not trained adversarially.
ADVERSARY = Adversary(epsilon=8 / 255, step_size=2 / 255, steps=10)


def execute(study: Study, cell: Cell, store: Store, *, on_progress: Tick | None = None) -> Parts:
    """Compute one cell from its settings and its parent's artefacts. The caller commits the result.

    Everything in ``science`` is a function of the cell's id: the same on every run, engine and order of work.

    Raises:
        UserError: the cell cannot be computed as asked, for example because its training diverged.
    """
    return _STAGES[cell.stage](study, cell, store, on_progress)


def network(study: Study, cell_id: str, store: Store) -> nn.Module:
    """The network that a finished train, prune or tune cell left behind, in evaluation mode.

    Raises:
        UserError: the cell is not finished, or its artefacts are damaged.
    """
    record = store.record(cell_id)
    if record is None or record["status"] != "ok":
        raise UserError(f"cell {cell_id} is not finished in {store.root}", hint="run the study again")
    paths = [store.artefact(cell_id, name) for name in record["artefacts"]]
    splits = _splits(study)
    return pruning.load(
        paths[0].parent, lambda: _architecture(study, record["axes"]["model"], splits.test)
    ).eval()


def attacked_images(study: Study) -> Dataset:
    """The test images every network is attacked on: stratified, fixed by the study's seed alone."""
    test = _splits(study).test
    if study.images is None:
        return test
    return subset(test, study.images, generator=_generator(derive_seed(study.seed, "images")))


def _train(study: Study, cell: Cell, store: Store, tick: Tick | None) -> Parts:
    splits = _splits(study)
    label = cell.axes["model"]
    chosen = study.models[label]
    published = chosen.arch.startswith("robustbench:")
    model = _architecture(study, label, splits.test, pretrained=published and not chosen.weights)
    if chosen.weights:
        models.load_weights(model, chosen.weights)
    elif not published:
        models.initialise(model, _generator(derive_seed(cell.seed, "initialise")))
    parts = _fit(cell, store, model, splits, tick)
    notes = data.findings(splits)
    if published and study.recipe(label).epochs == 0:
        accuracy = parts.science["accuracy"]["test"]
        notes += [note] if (note := models.off_published(chosen.arch, accuracy, n=splits.test.n)) else []
    science = {**parts.science, "robust": study.robust(label), "notes": notes}
    return Parts(science, parts.artefacts, parts.timing)


def _prune(study: Study, cell: Cell, store: Store, tick: Tick | None) -> Parts:
    start = time.perf_counter()
    splits = _splits(study)
    model = network(study, _parent(cell), store)
    dense = (store.record(_parent(cell)) or {})["science"]
    settings = cell.settings
    example = splits.validation.x[:2]
    plan = pruning.plan(
        trace(model, example),
        seed=cell.seed,
        batch=_evidence(study, cell, model, splits.train),
        **{key: value for key, value in settings.items() if key != "criterion_version"},
    )
    report = pruning.apply(model, plan, example_inputs=example)
    science = {
        **_size(model, splits.test),
        "parameters_dense": dense["parameters"],
        "macs_dense": dense["macs"],
        "sparsity_requested": settings["sparsity"],
        "sparsity_achieved": report.sparsity_achieved,
        "groups": report.groups_pruned,
        "proof": {
            "max_error": report.max_error,
            "gradient_error": report.gradient_error,
            "changed_by_design": list(report.changed_by_design),
        },
        "notes": list(report.notes),
        **_quality(model, {"test": splits.test}),
    }
    return Parts(science, _save(model, store, cell), {"seconds": time.perf_counter() - start})


def _tune(study: Study, cell: Cell, store: Store, tick: Tick | None) -> Parts:
    teacher = None
    if cell.settings["recipe"].get("distillation") is not None:
        teacher = network(study, _dense_ancestor(cell, store), store)
    return _fit(cell, store, network(study, _parent(cell), store), _splits(study), tick, teacher=teacher)


def _attack(study: Study, cell: Cell, store: Store, tick: Tick | None) -> Parts:
    start = time.perf_counter()
    model = network(study, _parent(cell), store)
    settings = {key: value for key, value in cell.settings.items() if key not in _NOT_THE_ATTACKS}
    result = evaluate.attack(
        model,
        attacked_images(study),
        cell.settings["attack"],
        batch_size=study.batch_size,
        seed=cell.seed,
        on_progress=tick,
        **settings,
    )
    science = result.to_json(timings=False)
    return Parts(science, {}, {"seconds": time.perf_counter() - start, "times": list(result.result.times)})


_STAGES: Mapping[str, Callable[[Study, Cell, Store, Tick | None], Parts]] = {
    "train": _train,
    "prune": _prune,
    "tune": _tune,
    "attack": _attack,
}
# Keys of an attack cell's settings that are the study's, not the attack's.
_NOT_THE_ATTACKS = {"attack", "attack_version", "images"}


def _fit(
    cell: Cell,
    store: Store,
    model: nn.Module,
    splits: Splits,
    tick: Tick | None,
    *,
    teacher: nn.Module | None = None,
) -> Parts:
    """Train or fine-tune, resuming from the cell's checkpoints, and measure what came out."""
    start = time.perf_counter()
    history = train(
        model,
        splits.train,
        splits.validation,
        recipe_from(cell.settings["recipe"]),
        seed=cell.seed,
        checkpoints=Checkpoints(store.scratch(cell.id) / "checkpoints"),
        teacher=teacher,
        on_progress=tick,
    )
    _refuse_divergence(history)
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    science = {**_size(model, splits.test), **_quality(model, parts), **_told(history)}
    return Parts(science, _save(model, store, cell), {"seconds": time.perf_counter() - start})


def _refuse_divergence(history: History) -> None:
    if history.outcome == "diverged":
        raise UserError(f"the training diverged: {history.sentence}", hint="lower the recipe's learning_rate")


def _told(history: History) -> dict[str, Any]:
    plain = history.to_json()
    return {"best_epoch": plain["best_epoch"], "history": plain["epochs"]}


def _size(model: nn.Module, images: Dataset) -> dict[str, int]:
    return {"parameters": measure.parameters(model), "macs": measure.macs(model, images.x[:1])}


def _quality(model: nn.Module, parts: Mapping[str, Dataset]) -> dict[str, Any]:
    accuracy = {name: models.accuracy(model, part.x, part.y) for name, part in parts.items()}
    test = parts["test"]
    low, _ = measure.wilson(round(accuracy["test"] * test.n), test.n)
    return {
        "accuracy": accuracy,
        "collapsed": low <= 1 / test.num_classes,
        "weights_hash": models.weights_hash(model),
    }


def _save(model: nn.Module, store: Store, cell: Cell) -> dict[str, bytes | Path]:
    folder = store.scratch(cell.id) / "network"
    pruning.save(model, folder, overwrite=True)
    return {path.name: path for path in folder.iterdir()}


def _architecture(study: Study, label: str, images: Dataset, *, pretrained: bool = False) -> nn.Module:
    chosen = study.models[label]
    size: dict[str, Any] = {"num_classes": images.num_classes, "in_channels": images.shape[0]}
    if ":" in chosen.arch:
        return models.resolve(chosen.arch, allow_code=False, pretrained=pretrained, **size)
    return models.build(chosen.arch, **size, **chosen.settings)


def _parent(cell: Cell) -> str:
    if cell.parent is None:
        raise UserError(
            f"the cell {cell.label} has no parent", hint="the run folder is damaged: plan it again"
        )
    return cell.parent


def _evidence(study: Study, cell: Cell, model: nn.Module, train: Dataset) -> tuple[Tensor, Tensor] | None:
    """Training images for the criteria that look at data: stratified, drawn from the cell's seed.

    Adversarial ones are made by the adversary that the network was trained against, or else by ``ADVERSARY``.
    """
    wanted = CRITERIA.entry(cell.settings["criterion"]).facts.get("needs_batch")
    if not wanted:
        return None
    generator = _generator(derive_seed(cell.seed, "evidence"))
    images = subset(train, min(train.n, EVIDENCE), generator=generator)
    if wanted != "adversarial":
        return images.x, images.y
    adversary = study.recipe(cell.axes["model"]).adversary or ADVERSARY
    attacked = perturb(
        model, images.x, images.y, adversary=adversary, generator=generator, bounds=images.bounds
    )
    return attacked, images.y


def _dense_ancestor(cell: Cell, store: Store) -> str:
    """The train cell that this one descends from."""
    above: str | None = _parent(cell)
    while above is not None and (record := store.record(above)) is not None:
        if record["parent"] is None:
            return above
        above = record["parent"]
    raise UserError(f"the dense network of the cell {cell.label} is not finished", hint="run the study again")


def _splits(study: Study) -> Splits:
    return _read_splits(study.data.spec, study.data.fractions, study.data.sizes, study.split_seed)


@lru_cache(maxsize=1)
def _read_splits(
    spec: str, fractions: tuple[float, float, float], sizes: tuple[int, int, int] | None, seed: int
) -> Splits:
    return load_splits(spec, fractions=fractions, sizes=sizes, generator=_generator(seed))


def _generator(seed: int) -> Generator:
    return Generator().manual_seed(seed)
