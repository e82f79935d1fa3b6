"""Types of single values of a study, and their checks, which return the value or raise ValueError."""

import math
import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from secateur.budgets import L0_PIXELS, NORM_KEYS, is_list, norm_of, sizes
from secateur.errors import UserError
from secateur.kinds import is_number, is_whole
from secateur.registry import (
    ATTACKS,
    CRITERIA,
    DATASETS,
    HUB,
    MODELS,
    RATES,
    Registry,
    checkpoint,
    has_weights,
    of_own_file,
)
from secateur.text import nearest

LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# Names that mean something else to a file system or to the format itself.
RESERVED = {
    "con",
    "prn",
    "aux",
    "nul",
    "none",
    "inf",
    "nan",
    *(f"{p}{i}" for p in ("com", "lpt") for i in range(10)),
}
DEVICE = re.compile(r"cpu|cuda(:[0-9]{1,3})?")
ZOOS = ("torchvision", "timm", "hf", "shipped", "robustbench")


class Settings(BaseModel):
    """The base of all settings: frozen, and nothing unknown is accepted."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def label(value: str) -> str:
    """A name that is safe as a folder, a legend and a key."""
    if not LABEL.fullmatch(value):
        raise ValueError(
            f"{value[:80]!r} is not a valid name: use at most 64 letters, digits, '.', '_' and '-'"
        )
    if value.lower().split(".")[0] in RESERVED:
        raise ValueError(f"{value!r} is a reserved name")
    return value


def unique(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """A list without repetitions."""
    for i, value in enumerate(values):
        if value in values[:i]:
            raise ValueError(f"{value!r} is listed twice")
    return values


def known_device(value: str) -> str:
    """The name of a device; only the machine that runs the networks knows whether it has one."""
    if not DEVICE.fullmatch(value):
        raise ValueError(f"a device is cpu, cuda, or one of several such as cuda:1 (got {value[:40]!r})")
    return value


def distance_norm(value: Any) -> float | str | None:
    """The norm of a distance: a number, or ``"L0-pixels"``, the one that has none."""
    try:
        norm = None if value is None else norm_of(value)
    except UserError:
        norm = -math.inf
    if norm is not None and norm not in NORM_KEYS:
        raise ValueError(f"a norm is 0, 1, 2, inf or L0-pixels (got {str(value)[:40]})")
    return str(norm) if norm == L0_PIXELS else norm


def known_criterion(value: str) -> str:
    """A registered criterion."""
    return _known(CRITERIA, value)


def layer_rates(value: Any) -> Any:
    """The name of registered pruning rates, a sparsity by layer, or nothing."""
    if isinstance(value, str):
        return _known(RATES, value)
    if value is None:
        return None
    if not isinstance(value, Mapping) or not value:
        raise ValueError("must be a name from `secateur ls rates`, or a mapping from layers to sparsities")
    for name, rate in value.items():
        if not is_number(rate) or not 0 <= rate < 1:
            raise ValueError(f"the sparsity of {name} must be a number in [0, 1), not {rate!r}")
    return dict(value)


def image_size(value: Any) -> Any:
    """The side of a square, or height and width; nothing leaves images as they are."""
    sides = value if isinstance(value, list | tuple) else [value, value]
    fit = len(sides) == 2 and all(is_whole(side, least=1) and side <= 4096 for side in sides)
    if value is not None and not fit:
        raise ValueError("must be one side, or [height, width], from 1 to 4096")
    return tuple(value) if isinstance(value, list) else value


def one_or_more(value: Any) -> Any:
    """A single number as a list of one."""
    return (value,) if is_number(value) else tuple(value) if isinstance(value, list) else value


def known_attack(value: str) -> str:
    """A registered attack."""
    return _known(ATTACKS, value)


def listed_sizes(eps: Any, kind: str | None) -> None:
    """The sizes of an attack, if ``eps`` lists several."""
    if not is_list(eps):
        return
    if kind == "minimum-norm":
        raise ValueError(
            "eps lists sizes, but this attack minimises the perturbation: state budgets as epsilons"
        )
    try:
        sizes(eps)
    except UserError as error:
        raise ValueError(str(error)) from None


def known_dataset(value: str) -> str:
    """A registered dataset, with its folder after a colon where it needs one."""
    if "\0" in value:
        raise ValueError("a path has no NUL characters")
    _known(DATASETS, value.partition(":")[0])
    return value


def known_model(value: str) -> str:
    """A zoo name, the name of an installed zoo and a model in it, or FILE.py:FUNCTION of a plug-in."""
    if of_own_file(value):
        return _of_plugin(value)
    zoo, colon, name = value.partition(":")
    if not colon:
        return _known(MODELS, value)
    if zoo not in ZOOS:
        zoos = ", ".join(f"{known}:NAME" for known in ZOOS)
        raise ValueError(
            f"{value!r} would run code: use the name of a network of the zoo, {zoos}, or of one that a "
            "plug-in registers (--plugin FILE.py)"
        )
    if has_weights(value):
        try:
            checkpoint(value)
        except UserError as error:
            raise ValueError(str(error)) from None
    # The names of other packages are checked when the network is built, which needs torch.
    elif not (name.isprintable() and name.strip() if value.startswith(HUB) else LABEL.fullmatch(name)):
        raise ValueError(f"{name!r} is not a valid model name")
    return value


def _of_plugin(value: str) -> str:
    """``net.py:build`` for ``models/net.py:build``, if the command line named the file as well."""
    path, _, function = value.rpartition(":")
    # Without the folder: neither the id of a cell nor the run folder depends on where the file lies.
    file = PurePath(path).name
    known = [name for name in MODELS.names() if name.startswith(f"{file}:")]
    if f"{file}:{function}" in known:
        return f"{file}:{function}"
    if known:
        functions = ", ".join(name.rpartition(":")[2] for name in known)
        raise ValueError(f"{file} has no function {function!r} that builds a network: it has {functions}")
    raise ValueError(
        f"{value!r} would run code, which a study file cannot ask for alone: name the file on the command "
        f"line as well, --plugin {path}"
    )


def plain_settings(values: dict[str, Any]) -> dict[str, Any]:
    """Settings whose values are numbers, words, booleans or lists of them."""
    for name, value in values.items():
        items = value if isinstance(value, list | tuple) else [value]
        if isinstance(value, Mapping) or any(isinstance(item, Mapping | list | tuple) for item in items):
            raise ValueError(f"{name} must be a number, a word, a boolean or a list of them")
    return values


def _known(registry: Registry, value: str) -> str:
    known = registry.names()
    if value not in known:
        near = nearest(value, known)
        # A suggestion or the whole list: together the list would hide the suggestion.
        listing = "" if near else f"; known: {', '.join(known)}"
        sentence = f"there is no {registry.kind} {value[:60]!r}{listing}"
        raise PydanticCustomError("unknown_name", "{sentence}", {"sentence": sentence, "near": near})
    return value


Label = Annotated[str, AfterValidator(label)]
Sparsity = Annotated[float, Field(ge=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
