"""What is known about a study's files without reading them: most studies are checked without torch."""

from pathlib import Path

from secateur.config import Study
from secateur.recipes import Recipe
from secateur.registry import ATTACKS, CRITERIA, DATASETS, MODELS, checkpoint, has_weights
from secateur.registry.settings import rules_of
from secateur.study.cells import Facts

SEVERAL = 2
"""Images that batch normalisation needs in a batch."""


def sketch(study: Study) -> Facts | None:
    """The facts of a study as far as its cells can be counted by them; None where files must be read.

    Files must be read for images whose number or size only they know. A network must be built for weights,
    for layers that are named (``keep``, ``rates``), for settings of its own, for criteria and penalties that
    not every network has, for images of another size than it is made for, and for code that is not ours.
    """
    parts, known = _parts(study), DATASETS.entry(study.data.spec.partition(":")[0]).facts
    if parts is None or _needs_network(study, known.get("shape", ())) or _needs_code(study):
        return None
    if _short_batch(study, parts[0]):
        return None
    return Facts("", *parts, known["shape"], known["classes"])


def _parts(study: Study) -> tuple[int, int, int] | None:
    """How many images train, validation and test have, if that is known and the files are there."""
    name, _, argument = study.data.spec.partition(":")
    known = DATASETS.entry(name).facts
    if known.get("built_in"):
        return _cut(known["images"], study) if not argument else None
    place = Path(argument)
    files = known.get("files", ("",))
    if not argument or not (place.is_file() or any((place / file).exists() for file in files)):
        return None
    return _cut(known["images"], study) if "images" in known else None


def _cut(images: tuple[int, ...], study: Study) -> tuple[int, int, int] | None:
    """The parts as ``data.load_splits`` makes them."""
    _, share, last = study.data.fractions
    official = len(images) > 1
    test = images[1] if official else round(last * images[0])
    validation = round(share * images[0])
    train = images[0] - validation - (0 if official else test)
    if not study.data.sizes:
        return train, validation, test
    fits = all(size <= part for size, part in zip(study.data.sizes, (train, validation, test), strict=True))
    return study.data.sizes if fits else None


def _needs_network(study: Study, shape: tuple[int, ...]) -> bool:
    fits = all(_made_for(model.arch)[1:] == shape[1:] for model in study.models.values())
    layers = bool(study.pruning.keep) or isinstance(study.pruning.rates, dict)
    files = any(model.weights or model.settings or model.normalise for model in study.models.values())
    sized = study.data.resize is not None
    choosy = any(CRITERIA.entry(name).facts.get("needs_layers") for name in study.criteria)
    penalised = any(recipe.penalty is not None for recipe in _recipes(study))
    return not fits or layers or files or sized or choosy or penalised


def _made_for(arch: str) -> tuple[int, ...]:
    """The images that a network of the zoo is made for; nothing is known about those of other packages."""
    if has_weights(arch):
        arch = checkpoint(arch).facts["arch"]
    made: tuple[int, ...] = () if ":" in arch else MODELS.entry(arch).facts.get("input", ())
    return made


def _needs_code(study: Study) -> bool:
    ours = all(rules_of(attack.attack) for attack in study.attacks.values())
    named = [CRITERIA.entry(name) for name in study.criteria]
    named += [MODELS.entry(model.arch) for model in study.models.values() if ":" not in model.arch]
    named += [ATTACKS.entry(attack.attack) for attack in study.attacks.values()]
    return not ours or any(not entry.target.startswith("secateur.") for entry in named)


def _short_batch(study: Study, train: int) -> bool:
    """Whether a recipe may leave a network with a single image per batch, as ``train`` counts them."""
    return any(
        train // -(-train // recipe.batch_size) // recipe.accumulate < SEVERAL
        for recipe in _recipes(study)
        if recipe.epochs
    )


def _recipes(study: Study) -> list[Recipe]:
    own = [study.recipe(model) for model in study.models]
    return [*own, *(recipe for model in study.models for recipe in study.arms(model).values())]
