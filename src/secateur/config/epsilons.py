"""The budgets that a study states: a list, or a list by norm."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from secateur.budgets import NORM_KEYS, norm_of
from secateur.config.values import unique
from secateur.kinds import is_number

# Images of a study lie in [0, 1]: a larger Linf budget is most likely one in grey levels.
WIDTH = 1.0
GREY_LEVELS = "images lie in [0, 1], where 8 grey levels of 256 are 8/255"


def budgets(value: Any) -> Any:
    """Budgets as a tuple of positive numbers, or such a tuple by norm (l0, l0_pixels, l1, l2, linf)."""
    if not isinstance(value, Mapping):
        return _listed(value)
    spelled = {f"{norm:g}": key for norm, key in NORM_KEYS.items()}
    found = {}
    for key, values in value.items():
        norm = spelled.get(f"{key:g}" if isinstance(key, float | int) else str(key), str(key))
        if norm not in spelled.values():
            raise ValueError(f"{str(key)[:40]!r} is not a norm: use l0, l0_pixels, l1, l2 or linf")
        if norm in found:
            raise ValueError(f"{norm} is listed twice")
        found[norm] = _listed(values, f"{norm} ")
    return found


def _listed(values: Any, what: str = "") -> tuple[float, ...]:
    if not isinstance(values, list | tuple):
        raise ValueError(f"{what}should be a list of budgets, such as [1/255, 8/255]")
    for value in values:
        if not is_number(value) or not 0 < value < float("inf"):
            raise ValueError(f"a budget should be greater than 0 (got {str(value)[:40]})")
    unique(tuple(values))
    return tuple(float(value) for value in values)


Budgets = Annotated[
    Any,  # one type for both spellings: a union has no single sentence for what is wrong with a value
    AfterValidator(budgets),
    Field(
        description="budgets at which robust accuracy is stated: a list for the attacks of norm inf (or of "
        "the only norm), or lists by norm, as in {linf: [8/255], l2: [0.5]}; by default the usual ones",
        json_schema_extra={"type": ["array", "object"]},
    ),
]


def check_budgets(given: Any, attacks: Sequence[tuple[float | str | None, str | None]]) -> None:
    """Refuse budgets that no attack, given by norm and kind, could be reported at.

    Raises:
        ValueError: as :func:`epsilons_by_norm`, all attacks are of fixed size, or a budget is larger than any
            perturbation.
    """
    searching = [norm for norm, kind in attacks if kind != "fixed-eps"]
    if given and attacks and not searching:
        raise ValueError("every attack of the study runs at sizes of its own: list those as its eps")
    norms = tuple(dict.fromkeys(NORM_KEYS[norm_of(norm)] for norm in searching if norm is not None))
    largest = epsilons_by_norm(given, norms).get("linf", (0.0,))[-1]
    if largest > WIDTH:
        raise ValueError(f"{GREY_LEVELS} (got {largest:g})")


def epsilons_by_norm(given: Any, norms: tuple[str, ...]) -> dict[str, tuple[float, ...]]:
    """Stated budgets by norm, in rising order.

    A plain list is for the attacks of norm linf, or for the only norm of the study. ``norms`` are those of
    the minimum-norm attacks; attacks of fixed size state the sizes that they were run at.

    Raises:
        ValueError: a plain list is given and the study has several norms but not linf, or budgets are for a
            norm that no minimum-norm attack has.

    >>> epsilons_by_norm((0.2, 0.1), ("linf", "l2"))
    {'linf': (0.1, 0.2)}
    """
    if isinstance(given, Mapping):
        if strange := [norm for norm in given if norms and norm not in norms]:
            raise ValueError(
                f"no minimum-norm attack of the study has the norm {strange[0]}: it has {', '.join(norms)}"
            )
        return {norm: tuple(sorted(values)) for norm, values in given.items() if values}
    if not given or not norms:
        return {}
    if "linf" not in norms and len(norms) > 1:
        example = f"{{{norms[0]}: [...], {norms[1]}: [...]}}"
        raise ValueError(
            f"say which norm the budgets are for, as in {example}: no such attack has the norm linf"
        )
    return {"linf" if "linf" in norms else norms[0]: tuple(sorted(given))}
