"""What the files of a study contain, read or known without reading, and whether its settings fit them."""

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from secateur import run_options
from secateur.config import Problem, Study, refuse
from secateur.errors import ExitCode, UserError
from secateur.hashing import digest
from secateur.recipes import Recipe
from secateur.registry import (
    ATTACKS,
    CRITERIA,
    DATASETS,
    MODELS,
    checkpoint,
    has_weights,
    registered,
    takes_steps,
)
from secateur.registry.settings import rules_of
from secateur.store import Store
from secateur.study.cells import Facts
from secateur.text import counted, nearest

# Parameters of an attack that the runner passes; a study cannot set them.
FILLED = {
    *("model", "x", "y", "generator", "bounds", "targets", "start"),
    *("on_progress", "batch_size", "seed"),
}

NORMALISED_BATCH = 2
"""Images that batch normalisation needs in a batch."""


def read_facts(study: Study) -> Facts:
    """Read the data and the weights of a study, and check every setting against the code it is for.

    Raises:
        UserError: missing or damaged data, or all settings that do not fit, a line each.

    >>> from secateur.config import parse_study
    >>> facts = read_facts(parse_study("{name: small, data: digits, models: {plain: resnet-tiny}}"))
    >>> facts.shape, facts.train, facts.levels
    ((1, 8, 8), 1258, 17)
    """
    from torch import Generator

    from secateur.data import load_splits
    from secateur.study.build_models import hash_weights, unfit_models, unknown_layers
    from secateur.study.preflight import preflight_problems

    generator = Generator().manual_seed(study.split_seed)
    chosen = study.data
    parts = load_splits(
        chosen.spec,
        fractions=chosen.fractions,
        sizes=chosen.sizes,
        resize=chosen.resize,
        generator=generator,
    )
    splits = (parts.train, parts.validation, parts.test)
    shape, classes = tuple(parts.train.shape), parts.train.num_classes
    # Each check runs only if those before found nothing, because it builds on settings that they accepted.
    problems = [*unknown_settings(study, parts.test.n), *_misnormalised(study, shape[0])]
    problems = problems or unknown_layers(study, shape=shape, classes=classes)
    problems = problems or unfit_models(study, shape=shape, classes=classes)
    if problems := problems or preflight_problems(study, parts.train):
        raise refuse(problems)
    return Facts(
        fingerprint=digest([part.fingerprint for part in splits]),
        train=parts.train.n,
        validation=parts.validation.n,
        test=parts.test.n,
        shape=shape,
        classes=classes,
        weights=hash_weights(study, shape=shape, classes=classes),
        bounds=parts.test.bounds,
        levels=parts.test.levels,
    )


def facts_to_price(study: Study) -> tuple[Facts, str]:
    """As :func:`read_facts`; where the images are missing, the official dataset's, and what is missing.

    Raises:
        UserError: as :func:`read_facts`, if nothing is known about the missing images.

    >>> from secateur.config import parse_study
    >>> study = parse_study("{name: small, data: 'cifar10:nowhere', models: {plain: resnet20}}")
    >>> facts, missing = facts_to_price(study)
    >>> facts.train + facts.validation, facts.test
    (50000, 10000)
    """
    from secateur.data import image_size, open_dataset
    from secateur.study.build_models import hash_weights, unknown_layers

    try:
        open_dataset(study.data.spec)
    except UserError as error:
        known = DATASETS.entry(study.data.spec.partition(":")[0]).facts
        if "images" not in known or known.get("built_in"):
            raise
        official, test = known["images"]
        validation = round(study.data.fractions[1] * official)
        train, validation, test = study.data.sizes or (official - validation, validation, test)
        shape, classes = known["shape"], known["classes"]
        if study.data.resize is not None:
            shape = (shape[0], *image_size(study.data.resize))
        # A network whose own settings are wrong cannot be built to look for its layers.
        problems = [*unknown_settings(study, test), *_misnormalised(study, shape[0])]
        if problems := problems or unknown_layers(study, shape=shape, classes=classes):
            raise refuse(problems) from None
        weights = hash_weights(study, shape=shape, classes=classes)
        return Facts("", train, validation, test, shape, classes, weights), str(error)
    return read_facts(study), ""


def known_facts(study: Study) -> Facts | None:
    """What is known without torch and without reading files, enough to count cells; None where it is not.

    Files must be read for images whose number or size only they state. A network must be built for weights,
    for layers that are named (``keep``, ``rates``), for settings of its own, for criteria and penalties that
    not every network has, for images of another size than it is made for, and for code of other packages.
    """
    sizes, known = _known_sizes(study), DATASETS.entry(study.data.spec.partition(":")[0]).facts
    if sizes is None or _needs_network(study, known.get("shape", ())) or _needs_code(study):
        return None
    if _short_batch(study, sizes[0]):
        return None
    return Facts("", *sizes, known["shape"], known["classes"])


def _known_sizes(study: Study) -> tuple[int, int, int] | None:
    """How many images train, validation and test have, if that is known and the files are there."""
    name, _, argument = study.data.spec.partition(":")
    known = DATASETS.entry(name).facts
    if known.get("built_in"):
        return _split_sizes(known["images"], study) if not argument else None
    path = Path(argument)
    files = known.get("files", ("",))
    if not argument or not (path.is_file() or any((path / file).exists() for file in files)):
        return None
    return _split_sizes(known["images"], study) if "images" in known else None


def _split_sizes(images: tuple[int, ...], study: Study) -> tuple[int, int, int] | None:
    """The sizes of the parts as ``data.load_splits`` makes them."""
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
    fits = all(_input_of(model.arch)[1:] == shape[1:] for model in study.models.values())
    layers = bool(study.pruning.keep) or isinstance(study.pruning.rates, dict)
    # These may leave nothing to remove from a narrow network.
    bounded = (
        study.pruning.min_channels > 1 or study.pruning.round_to > 1 or study.pruning.max_sparsity is not None
    )
    files = any(model.weights or model.settings or model.normalise for model in study.models.values())
    resized = study.data.resize is not None
    selective = any(CRITERIA.entry(name).facts.get("needs_layers") for name in study.criteria)
    penalised = any(recipe.penalty is not None for recipe in _recipes(study))
    return not fits or layers or bounded or files or resized or selective or penalised


def _input_of(arch: str) -> tuple[int, ...]:
    """The shape of the images that a zoo network is made for; () for networks of other packages."""
    if has_weights(arch):
        arch = checkpoint(arch).facts["arch"]
    made: tuple[int, ...] = MODELS.entry(arch).facts.get("input", ()) if registered(arch) else ()
    return made


def _needs_code(study: Study) -> bool:
    documented = all(rules_of(attack.attack) for attack in study.attacks.values())
    named = [CRITERIA.entry(name) for name in study.criteria]
    named += [MODELS.entry(model.arch) for model in study.models.values() if registered(model.arch)]
    named += [ATTACKS.entry(attack.attack) for attack in study.attacks.values()]
    return not documented or any(not entry.target.startswith("secateur.") for entry in named)


def _short_batch(study: Study, train: int) -> bool:
    """Whether a recipe may leave a network a single image per batch, counted as ``train.job.check`` does."""
    return any(
        train // -(-train // recipe.batch_size) // recipe.accumulate < NORMALISED_BATCH
        for recipe in _recipes(study)
        if recipe.epochs
    )


def _recipes(study: Study) -> list[Recipe]:
    own = [study.recipe(model) for model in study.models]
    return [*own, *(recipe for model in study.models for recipe in study.arms(model).values())]


def refuse_other_files(study: Study, store: Store) -> None:
    """Check that this machine has the data and the weights with which a run folder was planned.

    Raises:
        UserError: they are missing or differ; code ENVIRONMENT, because the study is not at fault.
    """
    planned = Facts.from_json(store.study["facts"])
    try:
        here = read_facts(study)
    except UserError as error:
        raise UserError(str(error), code=ExitCode.ENVIRONMENT) from None
    if (here.fingerprint, here.weights) != (planned.fingerprint, planned.weights):
        what = "data" if here.fingerprint != planned.fingerprint else "weights"
        raise UserError(
            f"the {what} on this machine are not those that {store.root} was planned with",
            hint=f"data: {study.data.spec}; relative paths start at the working directory",
            code=ExitCode.ENVIRONMENT,
        )


def unknown_settings(study: Study, test: int) -> Iterator[Problem]:
    """Settings that the attacks and networks of a study do not have, and more images than the test part.

    Imports torch only for networks with settings of their own and for attacks of other packages.
    """
    if study.images is not None and study.images > test:
        yield _problem(study, "images", f"there are only {test} test images (got {study.images})")
    for label, attack in study.attacks.items():
        given = {"norm", "steps", *(attack.model_extra or {})}
        if attack.norm is None:
            given.discard("norm")
        if not takes_steps(attack.attack):
            given.discard("steps")
        own = set(rules_of(attack.attack)) or _parameters(ATTACKS.get(attack.attack))
        taken = (own - FILLED) | set(run_options.NAMES)
        yield from _unknown(study, f"attacks.{label}", given - _single_norm(attack.attack), taken)
    yield from _trained_on_the_test_images(study)
    for label, model in study.models.items():
        if registered(model.arch) and model.settings:
            taken = _parameters(MODELS.get(model.arch)) - {"num_classes", "in_channels"}
            yield from _unknown(study, f"models.{label}.settings", set(model.settings), taken)


def _trained_on_the_test_images(study: Study) -> Iterator[Problem]:
    """Networks that come with weights, on another split of the images that they were trained on."""
    for label, model in study.models.items():
        if model.weights is None and has_weights(model.arch):
            own, asked = checkpoint(model.arch).facts["dataset"], study.data.spec
            if own != asked and own.partition(":")[0] == asked.partition(":")[0] and ":" in own:
                sentence = f"'{model.arch}' was trained on other parts of '{asked}', test images among them"
                yield _problem(study, f"models.{label}.arch", f"{sentence}: write spec: {own} under data")


def _misnormalised(study: Study, channels: int) -> Iterator[Problem]:
    """Means and deviations of another number of channels than the images have."""
    for label, model in study.models.items():
        count = len(model.statistics[0]) if model.statistics else 1
        if count not in (1, channels):
            sentence = f"has {count} values for images of {counted(channels, 'channel')}"
            yield _problem(study, f"models.{label}.normalise", sentence)


def _single_norm(attack: str) -> set[str]:
    # An attack of one norm need not have a parameter for it; of an installed package's none is known.
    return {"norm"} if len(ATTACKS.entry(attack).facts.get("norms", ())) <= 1 else set()


def _unknown(study: Study, key: str, given: set[str], taken: set[str]) -> Iterator[Problem]:
    for name in sorted(given - taken):
        sentence = f"unknown setting; there are {', '.join(sorted(taken)) or 'none'}"
        yield Problem(study.where(f"{key}.{name}"), f"{key}.{name}", sentence, nearest(name, taken))


def _parameters(function: Callable[..., Any]) -> set[str]:
    kinds = inspect.signature(function).parameters.values()
    return {p.name for p in kinds if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}


def _problem(study: Study, key: str, sentence: str) -> Problem:
    return Problem(study.where(key), key, sentence)
