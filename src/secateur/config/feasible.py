"""Settings of attacks and adversaries that cannot be carried out, found without torch or any image."""

import math
from collections.abc import Iterator, Mapping

from secateur.config.epsilons import epsilons_by_norm
from secateur.config.study import Study
from secateur.recipes import Recipe
from secateur.registry import ATTACKS
from secateur.registry.settings import problems

# Images of a study lie in [0, 1]: an Linf budget above 1 is most likely one in grey levels.
WIDTH = 1.0
_GREY_LEVELS = "images lie in [0, 1], where 8 grey levels of 256 are 8/255"


def impossible_attacks(study: Study) -> Iterator[tuple[str, str]]:
    """Every value that an attack of ours would refuse: its key in the study, and a sentence."""
    for label, attack in study.attacks.items():
        given = dict(attack.model_extra or {})
        for name, sentence in problems(attack.attack, given):
            yield f"attacks.{label}.{name}", f"{sentence} (got {_spelled(given[name])})"
        eps = given.get("eps")
        for size in eps if isinstance(eps, list | tuple) else [eps]:
            if attack.resolved_norm == math.inf and isinstance(size, int | float) and WIDTH < size < math.inf:
                yield f"attacks.{label}.eps", f"{_GREY_LEVELS} (got {size:g})"


def impossible_budgets(study: Study) -> Iterator[tuple[str, str]]:
    """Stated budgets that no attack of the study is judged at, or that are larger than any perturbation."""
    kinds: dict[str, set[object]] = {}
    for attack in study.attacks.values():
        if attack.resolved_norm is not None:
            kind = ATTACKS.entry(attack.attack).facts.get("kind")
            kinds.setdefault(f"l{attack.resolved_norm:g}", set()).add(kind)
    # A plain list is for the attacks without sizes of their own; lists by norm say what they are for.
    searching = tuple(norm for norm, found in kinds.items() if found != {"fixed-eps"})
    norms = tuple(kinds) if isinstance(study.epsilons, Mapping) else searching
    for norm, budgets in epsilons_by_norm(study.epsilons, norms).items():
        if kinds.get(norm) == {"fixed-eps"}:
            sentence = f"every attack of norm {norm} has sizes of its own, and is judged at no other: list"
            yield "epsilons", f"{sentence} them as its eps"
        if norm == "linf" and budgets and budgets[-1] > WIDTH:
            yield "epsilons", f"{_GREY_LEVELS} (got {budgets[-1]:g})"


def out_of_scale(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Sizes of an adversary that are larger than the range of the images: key in the recipe, sentence."""
    if (adversary := recipe.adversary) is None or adversary.norm != math.inf:
        return
    for name in ("epsilon", "step_size"):
        if WIDTH < (value := getattr(adversary, name)) < math.inf:
            yield f"adversary.{name}", f"{_GREY_LEVELS} (got {value:g})"


def _spelled(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, str | list | tuple) else f"{value}"
