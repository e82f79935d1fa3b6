"""Settings that contradict each other or that nothing could carry out, found without torch or any image."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from secateur.config.epsilons import GREY_LEVELS, WIDTH
from secateur.config.problems import Problem
from secateur.config.study import Study
from secateur.recipes import Recipe
from secateur.recipes import problems as recipe_problems
from secateur.registry import RATES
from secateur.registry.settings import problems as attack_problems
from secateur.text import nearest


def contradictions(study: Study) -> list[Problem]:
    """Problems that no single setting shows: unknown models, impossible settings, equal grid points."""
    problems = []
    for name, arm in study.finetune.items():
        for i, model in enumerate(arm.models or ()):
            if model not in study.models:
                key = f"finetune.{name}.models.{i}"
                near = nearest(model, study.models)
                problems.append(Problem(study.where(key), key, f"there is no model '{model}'", near))
    # A model that does not exist has no recipes or attacks to check.
    if problems:
        return problems
    found = [*_impossible_recipes(study), *impossible_attacks(study), *_unfit_rates(study)]
    return [Problem(study.where(key), key, said) for key, said in found or _coincidences(study)]


def _impossible_recipes(study: Study) -> list[tuple[str, str]]:
    """Recipes that no range of a single setting refuses, such as select: robust without an adversary."""
    found = []
    for model in study.models:
        own = study.recipe(model)
        if own.distillation is not None and own.epochs:
            sentence = "needs a teacher, the dense network, which only the arms of finetune have"
            found.append((f"models.{model}.recipe.distillation", sentence))
        recipes = {f"models.{model}.recipe": own}
        recipes |= {f"finetune.{arm}": recipe for arm, recipe in study.arms(model).items()}
        for key, recipe in recipes.items():
            found += [(key, text) for text in recipe_problems(recipe)]
            found += [(f"{key}.{name}", text) for name, text in out_of_scale(recipe)]
    return found


def _unfit_rates(study: Study) -> list[tuple[str, str]]:
    """Published rates set every layer of one architecture, so no sparsity changes them."""
    name = study.pruning.rates
    if not isinstance(name, str):
        return []
    arch = RATES.entry(name).facts["arch"]
    found = [
        (f"models.{label}.arch", f"{name} is for {arch}, not for {model.arch}")
        for label, model in study.models.items()
        if model.arch != arch
    ]
    if len([sparsity for sparsity in study.sparsities if sparsity > 0]) > 1:
        found.append(("sparsities", f"{name} sets the rate of every layer: give one sparsity, to call it by"))
    return found


def _coincidences(study: Study) -> list[tuple[str, str]]:
    found = []
    models = {
        name: (model.arch, repr(model.settings), model.weights, model.statistics, study.recipe(name))
        for name, model in study.models.items()
    }
    # With the norm filled in, so that ddn and ddn with norm: 2 count as the same attack.
    attacks = {
        name: {**attack.model_dump(), "norm": attack.resolved_norm} for name, attack in study.attacks.items()
    }
    for key, twins in (("models", models), ("attacks", attacks)):
        found += [(f"{key}.{b}", f"is the same as '{a}'") for a, b in _twins(twins)]
    for model in study.models:
        for a, b in _twins(study.arms(model)):
            sentence = f"is the same as '{a}' for model '{model}': give one of them 'models: [...]'"
            found.append((f"finetune.{b}", sentence))
    return found


def _twins(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    names = list(values)
    return [(a, b) for i, b in enumerate(names) for a in names[:i] if values[a] == values[b]]


def impossible_attacks(study: Study) -> Iterator[tuple[str, str]]:
    """Every value that an attack would refuse: its key in the study, and a sentence."""
    for label, attack in study.attacks.items():
        given = dict(attack.model_extra or {})
        for name, sentence in attack_problems(attack.attack, given):
            yield f"attacks.{label}.{name}", f"{sentence} (got {_spelled(given[name])})"
        eps = given.get("eps")
        for size in eps if isinstance(eps, list | tuple) else [eps]:
            if attack.resolved_norm == math.inf and isinstance(size, int | float) and WIDTH < size < math.inf:
                yield f"attacks.{label}.eps", f"{GREY_LEVELS} (got {size:g})"


def out_of_scale(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Sizes of an adversary that are larger than the range of the images: key in the recipe, sentence."""
    if (adversary := recipe.adversary) is None or adversary.norm != math.inf:
        return
    for name in ("epsilon", "step_size"):
        if WIDTH < (value := getattr(adversary, name)) < math.inf:
            yield f"adversary.{name}", f"{GREY_LEVELS} (got {value:g})"


def _spelled(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, str | list | tuple) else f"{value}"
