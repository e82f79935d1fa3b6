"""From the settings of a study to its cells, each with an id that hashes everything its numbers depend on.

Ids form a Merkle chain, train → prune → tune → attack: a cell hashes its parent's id, so a changed attack
never retrains a network and two studies share the work they have in common. Labels, paths, threads, batch
sizes and the machine are no part of an id, because they change no number.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any

from secateur.config import Cell, Role, Stage, Study, canonical, digest, recipe_from
from secateur.registry import ATTACKS, CRITERIA, MODELS

# Raise one when the results of that stage change for the same settings; its cells are then computed afresh.
SCIENCE: Mapping[str, int] = {"train": 1, "prune": 1, "tune": 1, "attack": 1}
ID_DIGITS = 32


@dataclass(frozen=True)
class Facts:
    """What the study's files contain, as far as the cells depend on it.

    Attributes:
        fingerprint: hash of the decoded images and labels of all three parts.
        train: images to train on.
        validation: images to choose the best epoch on.
        test: images to report on.
        shape: channels, height and width of an image.
        classes: number of classes.
        weights: hash of the starting weights of every model that names a file, by label.
    """

    fingerprint: str
    train: int
    validation: int
    test: int
    shape: tuple[int, ...]
    classes: int
    weights: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The facts as plain JSON data."""
        plain: dict[str, Any] = canonical(asdict(self))
        return plain

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Facts":
        """The inverse of :meth:`to_json`."""
        return cls(**{**data, "shape": tuple(data["shape"])})


def grid(study: Study, facts: Facts) -> tuple[Cell, ...]:
    """Every cell of the study, parents before children, each once."""
    cells: dict[str, Cell] = {}
    for seed in study.seeds:
        for model in study.models:
            for cell in _network(study, facts, model, seed):
                cells.setdefault(cell.id, cell)
    return tuple(cells.values())


def _network(study: Study, facts: Facts, model: str, seed: int) -> Iterator[Cell]:
    axes = {"model": model, "seed": seed, "criterion": None, "sparsity": 0.0, "arm": "none", "attack": None}
    dense = _cell("train", None, axes, "dense", _training(study, facts, model, seed))
    controls, whole = study.controls, 0 in study.sparsities
    yield dense
    if controls.dense or whole:
        yield from _attacks(study, dense)
    if controls.dense_tuned or whole:
        yield from _arms(study, dense, "dense_tuned")
    for criterion in study.criteria:
        for sparsity in study.sparsities:
            if sparsity == 0:
                continue
            settings = {
                "criterion": criterion,
                "criterion_version": CRITERIA.entry(criterion).facts.get("science", 1),
                "sparsity": sparsity,
                "scope": study.pruning.scope,
                "keep": study.pruning.keep,
                # What is not asked for is no part of the identity: a later version may add to it.
                **study.pruning.model_dump(exclude_defaults=True),
            }
            point = {**axes, "criterion": criterion, "sparsity": sparsity}
            pruned = _cell("prune", dense, point, "untuned", settings)
            yield pruned
            if controls.untuned or not study.arms(model):
                yield from _attacks(study, pruned)
            yield from _arms(study, pruned, "pruned")


def _training(study: Study, facts: Facts, model: str, seed: int) -> dict[str, Any]:
    chosen = study.models[model]
    zoo = ":" in chosen.arch
    return {
        "data": facts.fingerprint,
        "fractions": study.data.fractions,
        "study_seed": study.seed,
        "seed": seed,
        "arch": chosen.arch,
        "arch_version": 1 if zoo else MODELS.entry(chosen.arch).facts.get("science", 1),
        "arch_settings": chosen.settings,
        "weights": facts.weights.get(model),
        "recipe": asdict(study.recipe(model)),
    }


def _arms(study: Study, parent: Cell, role: Role) -> Iterator[Cell]:
    for arm, recipe in study.arms(parent.axes["model"]).items():
        tuned = _cell("tune", parent, {**parent.axes, "arm": arm}, role, {"recipe": asdict(recipe)})
        yield tuned
        yield from _attacks(study, tuned)


def _attacks(study: Study, parent: Cell) -> Iterator[Cell]:
    for name in study.attacks:
        chosen = study.attacks[name]
        settings = {
            "attack": chosen.attack,
            "attack_version": ATTACKS.entry(chosen.attack).facts.get("science", 1),
            "norm": chosen.resolved_norm,
            "steps": chosen.steps,
            "images": study.images,
            **(chosen.model_extra or {}),
        }
        yield _cell("attack", parent, {**parent.axes, "attack": name}, parent.role, settings)


def _cell(
    stage: Stage, parent: Cell | None, axes: dict[str, Any], role: Role, settings: dict[str, Any]
) -> Cell:
    above = parent.id if parent else None
    identity = {"stage": stage, "science": SCIENCE[stage], "settings": _science(settings), "parent": above}
    return Cell(digest(identity)[:ID_DIGITS], stage, above, axes, role, settings)


def _science(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What of a cell's settings its numbers depend on.

    A recipe counts by what differs from the defaults, so that a setting which a later version adds does not
    orphan what an earlier one has computed.
    """
    recipe = settings.get("recipe")
    if recipe is None:
        return dict(settings)
    chosen = _chosen(recipe_from(recipe))
    # Resumption is exact, so how often a training is saved changes no number.
    chosen.pop("checkpoint_every", None)
    return {**settings, "recipe": chosen}


def _chosen(record: Any) -> dict[str, Any]:
    found = {}
    for part in fields(record):
        value = getattr(record, part.name)
        if value != part.default:
            found[part.name] = _chosen(value) if is_dataclass(value) else value
    return found
