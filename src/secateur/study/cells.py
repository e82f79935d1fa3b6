"""From the settings of a study to its cells, each with an id that hashes everything its numbers depend on.

Ids form a Merkle chain, train → prune → tune → attack: a cell hashes its parent's id, so that a changed
attack retrains no network and two studies share the work they have in common. Labels, paths, threads, batch
sizes and the machine are not part of an id, because they change no number.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from fractions import Fraction
from typing import Any

from secateur.config import Cell, Role, Stage, Study, recipe_from
from secateur.errors import UserError
from secateur.hashing import canonical, canonical_json, sha256_hex
from secateur.registry import ATTACKS, CRITERIA, MODELS, RATES, registered, takes_steps

# Raise one when the results of that stage change for the same settings; its cells are then computed afresh.
SCIENCE: Mapping[str, int] = {"train": 1, "prune": 1, "tune": 1, "attack": 3}
TAUGHT = 2
"""Version of the numbers of a distillation, part of the ids of its cells; 2: teachers are asked once."""
ID_DIGITS = 32
# Of more training images the accuracy of a network is measured on a sample of so many.
TRAIN_SAMPLE = 10_000
# Settings that the chain of cells expresses itself.
_SCHEDULE = {"schedule", "rounds", "spacing"}


@dataclass(frozen=True)
class Facts:
    """What the files of a study contain, as far as its cells depend on it.

    Attributes:
        fingerprint: hash of the decoded images and labels of all three parts.
        train: images to train on.
        validation: images to choose the best epoch on.
        test: images to report on.
        shape: channels, height and width of an image.
        classes: number of classes.
        weights: hash of the starting weights of every model that names a file or comes with them (of a
            plug-in), by label.
        bounds: lowest and highest value of a pixel.
        levels: grey levels of the images; None for continuous values, or if the images were not read.

    >>> Facts("f" * 64, train=1000, validation=100, test=200, shape=(1, 8, 8), classes=10).bounds
    (0.0, 1.0)
    """

    fingerprint: str
    train: int
    validation: int
    test: int
    shape: tuple[int, ...]
    classes: int
    weights: Mapping[str, str] = field(default_factory=dict)
    bounds: tuple[float, float] = (0.0, 1.0)
    levels: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The facts as plain JSON data."""
        plain: dict[str, Any] = canonical(asdict(self))
        return plain

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Facts":
        """The inverse of :meth:`to_json`. Raises UserError when something is missing or unknown."""
        tuples = {key: tuple(data[key]) for key in ("shape", "bounds") if key in data}
        try:
            return cls(**{**data, **tuples})
        except TypeError as error:
            raise UserError(f"the facts of the data cannot be used: {str(error).partition(' ')[2]}") from None


def grid(study: Study, facts: Facts) -> tuple[Cell, ...]:
    """Every cell of the study, parents before children, each once.

    >>> from secateur.config import parse_study
    >>> study = parse_study("{name: small, data: digits, models: {plain: resnet18}, sparsities: [0.5]}")
    >>> facts = Facts("f" * 64, train=1000, validation=100, test=200, shape=(1, 8, 8), classes=10)
    >>> [(cell.stage, cell.role) for cell in grid(study, facts)]
    [('train', 'dense'), ('prune', 'untuned')]
    """
    cells: dict[str, Cell] = {}
    attacks = _attacks_of(study)
    for seed in study.seeds:
        for model in study.models:
            for cell in _network(study, facts, model, seed, attacks=attacks):
                known = cells.get(cell.id)
                # A step of the iterative schedule may equal a grid point, which has a role in comparisons.
                if known is None or (known.role == "round" != cell.role):
                    cells[cell.id] = cell
    return tuple(cells.values())


@dataclass(frozen=True)
class _Work:
    """Settings of a stage, and how their part of an id is spelled: most are those of many cells."""

    settings: Mapping[str, Any]
    spelled: str


_Attacks = Mapping[str, _Work]


def _work(settings: Mapping[str, Any]) -> _Work:
    return _Work(settings, canonical_json(_science(settings)))


def _network(study: Study, facts: Facts, model: str, seed: int, *, attacks: _Attacks) -> Iterator[Cell]:
    axes = {"model": model, "seed": seed, "criterion": None, "sparsity": 0.0, "arm": "none", "attack": None}
    # Sparsity 0 asks for the dense network, whatever the controls say.
    dense = _cell("train", None, axes, "dense", _work(_training(study, facts, model, seed)))
    controls, whole = study.controls, 0 in study.sparsities
    sample = {name: value for name, value in dense.settings.items() if name == "train_sample"}
    arms = {arm: _work({"recipe": asdict(recipe), **sample}) for arm, recipe in study.arms(model).items()}
    yield dense
    if controls.dense or whole:
        yield from _attacks(attacks, dense)
    if controls.dense_tuned or whole:
        for arm, tuning in arms.items():
            yield from _in_rounds(study, dense, {**axes, "arm": arm}, tuning=tuning, attacks=attacks)
    for criterion in study.criteria:
        settings = _choosing(study, criterion)
        for sparsity in (value for value in study.sparsities if value > 0):
            point = {**axes, "criterion": criterion, "sparsity": sparsity}
            if controls.untuned or not arms:
                pruned = _cell("prune", dense, point, "untuned", _work({**settings, "sparsity": sparsity}))
                yield pruned
                yield from _attacks(attacks, pruned)
            for arm, tuning in arms.items():
                where = {**point, "arm": arm}
                yield from _in_rounds(study, dense, where, tuning=tuning, attacks=attacks, settings=settings)


def _in_rounds(
    study: Study,
    dense: Cell,
    axes: dict[str, Any],
    *,
    tuning: _Work,
    attacks: _Attacks,
    settings: Mapping[str, Any] | None = None,
) -> Iterator[Cell]:
    """Prune and fine-tune, once or in rounds, then attack; without ``settings``, tune the dense control.

    One-shot pruning is the same for all arms, so its cell has the axes of the untuned network.
    """
    above, last = dense, len(_targets(study, axes["sparsity"]))
    for number, target in enumerate(_targets(study, axes["sparsity"]), start=1):
        step = {"sparsity": target, "round": number, "towards": axes["sparsity"]}
        if settings is not None:
            arm = "none" if number == 1 else axes["arm"]
            point = {**axes, "arm": arm, **(step if last > 1 else {})}
            goal = {**settings, "sparsity": target, **_rates_of(study, settings, number)}
            above = _cell("prune", above, point, "round" if last > 1 else "untuned", _work(goal))
            yield above
        finished = number == last
        role: Role = "round" if not finished else "dense_tuned" if settings is None else "pruned"
        point = axes if finished else {**axes, **step}
        above = _cell("tune", above, point, role, tuning)
        yield above
    yield from _attacks(attacks, above)


def _targets(study: Study, sparsity: float) -> list[float]:
    """The sparsity after each round."""
    if study.pruning.rounds is None:
        return [sparsity]
    from secateur.pruning.schedule import round_targets  # imports torch, not needed for one shot

    return round_targets(Fraction(str(sparsity)), study.pruning.rounds, study.pruning.spacing or "linear")


def _rates_of(study: Study, settings: Mapping[str, Any], number: int) -> dict[str, Any]:
    """The rates of single layers after a round; they grow with the sparsity."""
    rates = settings.get("rates")
    if rates is None or study.pruning.rounds is None:
        return {}
    final = RATES.get(rates)() if isinstance(rates, str) else rates
    return {"rates": {name: _targets(study, rate)[number - 1] for name, rate in final.items()}}


def _choosing(study: Study, criterion: str) -> dict[str, Any]:
    """The settings of a prune cell, but for its sparsity."""
    facts = CRITERIA.entry(criterion).facts
    settings = {
        "criterion": criterion,
        "criterion_version": facts.get("science", 1),
        "scope": study.pruning.scope,
        "keep": study.pruning.keep,
    }
    if facts.get("kind") == "weights":  # the other settings concern channels
        return settings
    # Defaults are not part of the id, so that a setting added later leaves existing ids as they are.
    chosen = study.pruning.model_dump(exclude_defaults=True)
    return settings | {key: value for key, value in chosen.items() if key not in _SCHEDULE}


def _training(study: Study, facts: Facts, model: str, seed: int) -> dict[str, Any]:
    chosen = study.models[model]
    return {
        "data": facts.fingerprint,
        "fractions": study.data.fractions,
        "study_seed": study.seed,
        "seed": seed,
        "arch": chosen.arch,
        "arch_version": _arch_version(chosen.arch),
        "arch_settings": chosen.settings,
        # As for pruning: a default is not part of the id.
        **({"normalise": chosen.statistics} if chosen.statistics else {}),
        "weights": facts.weights.get(model),
        "recipe": asdict(study.recipe(model)),
        # Smaller splits are measured whole, and their ids stay as they were.
        **({"train_sample": TRAIN_SAMPLE} if facts.train > TRAIN_SAMPLE else {}),
    }


def _arch_version(arch: str) -> Any:
    if registered(arch):
        return MODELS.entry(arch).facts.get("science", 1)
    # Networks of these packages have the normalisation of their own configuration since version 2.
    return 2 if arch.partition(":")[0] in ("timm", "torchvision") else 1


def _attacks_of(study: Study) -> _Attacks:
    """Every attack of the study by its label, the same on every network."""
    return {
        name: _work(
            {
                "attack": chosen.attack,
                "attack_version": ATTACKS.entry(chosen.attack).facts.get("science", 1),
                "norm": chosen.resolved_norm,
                **({"steps": chosen.steps} if takes_steps(chosen.attack) else {}),
                "images": study.images,
                **chosen.options.changed(),
                **chosen.own,
            }
        )
        for name, chosen in study.attacks.items()
    }


def _attacks(attacks: _Attacks, parent: Cell) -> Iterator[Cell]:
    for name, work in attacks.items():
        yield _cell("attack", parent, {**parent.axes, "attack": name}, parent.role, work)


def _cell(stage: Stage, parent: Cell | None, axes: dict[str, Any], role: Role, work: _Work) -> Cell:
    above = parent.id if parent else None
    return Cell(_id_of(stage, above, work), stage, above, axes, role, work.settings)


def _id_of(stage: Stage, parent: str | None, work: _Work) -> str:
    # The canonical JSON of these four, with the settings as they are spelled already.
    above = canonical_json(parent)
    identity = f'{{"parent":{above},"science":{SCIENCE[stage]},"settings":{work.spelled},"stage":"{stage}"}}'
    return sha256_hex(identity)[:ID_DIGITS]


def is_as_planned(cell: Cell, planned: Cell) -> bool:
    """Whether a cell of a run folder is what its id says, and stands where this version would put it.

    Settings that older versions did not have make no difference, as they make none to the id.
    """
    try:
        same = _id_of(cell.stage, cell.parent, _work(cell.settings)) == planned.id
    except (TypeError, ValueError, AttributeError, KeyError):  # a recipe that is none
        return False
    return same and all(cell.axes.get(name, value) == value for name, value in planned.axes.items())


def _science(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a cell's settings that its numbers depend on.

    A recipe is hashed by what differs from the defaults, so that adding a setting to recipes leaves the ids
    of existing cells as they are.
    """
    recipe = settings.get("recipe")
    if recipe is None:
        return dict(settings)
    chosen = _chosen(recipe_from(recipe))
    # Resuming is exact, so the number of checkpoints changes no result.
    chosen.pop("checkpoint_every", None)
    taught = {"taught_version": TAUGHT} if "distillation" in chosen else {}
    return {**settings, "recipe": chosen, **taught}


def _chosen(record: Any) -> dict[str, Any]:
    found = {}
    for part in fields(record):
        value = getattr(record, part.name)
        if value != part.default:
            found[part.name] = _chosen(value) if is_dataclass(value) else value
    return found
