"""The option --input: shapes, types and ranges of what a network is called with."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Annotated, Any

import typer

from secateur.errors import UserError
from secateur.registry import HUB, MODELS, checkpoint, has_weights
from secateur.text import did_you_mean

if TYPE_CHECKING:
    from secateur.data import Dataset

Input = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        help="Shape of the input, as in 1x3x32x32; or NAME:TYPE:SHAPE:LOW..HIGH, as in ids:int64:2x10:0..50, "
        "with or without the name. Repeatable: with names, keyword arguments. FILE.py:FUNCTION may return "
        "(model, inputs) instead.",
    ),
]

TYPES = (
    *("float32", "float64", "float16", "bfloat16", "complex64"),
    *("int64", "int32", "int16", "int8", "uint8", "bool"),
)
MAX_NUMBERS = 2**28
"""Of one input: more than any network is called with, and what the plan of a stranger could ask for."""
_SHAPE = re.compile(r"\d+(x\d+)*", re.IGNORECASE)
_FORM = "write [NAME:][TYPE:]SHAPE[:LOW..HIGH], as in 1x3x224x224 or ids:int64:2x10:0..50"

_RANGE = "write LOW..HIGH, as in 0..50"


@dataclass(frozen=True)
class Asked:
    """One --input: values are from ``low`` up to, not including, ``high``."""

    text: str
    name: str
    dtype: str
    shape: tuple[int, ...]
    low: float
    high: float

    @property
    def plain(self) -> bool:
        """Whether the text is a shape alone."""
        return _SHAPE.fullmatch(self.text) is not None


def asked_inputs(
    model: str, texts: Sequence[str] | None, images: "Dataset | None" = None
) -> tuple[Asked, ...]:
    """What --input asks for, or else the model's own shape, or that of the images, with a batch of one.

    Empty where nothing is known before the function of a file has returned.

    Raises:
        UserError: a text that cannot be read, inputs of which some have names, or a network whose inputs are
            unknown.

    >>> asked_inputs("mine.py:net", ["ids:int64:2x10:0..50"])[0].shape
    (2, 10)
    """
    refuse_exported(model)
    if not texts:
        known = _own_shape(model, images)
        if known is None and ".py:" not in model:
            raise UserError(unknown(model), hint="add --input, as in --input 1x3x32x32")
        return () if known is None else (read("x".join(map(str, known))),)
    found = tuple(map(read, texts))
    if len(found) == 1 and found[0].plain and len(found[0].shape) < 2:
        raise UserError(f"invalid --input {texts[0]}: a single number is no shape", hint=_FORM)
    names = [item.name for item in found if item.name]
    if names and len(names) < len(found):
        raise UserError("some of --input have names and some have none", hint="name all of them, or none")
    if len(set(names)) < len(names):
        raise UserError(
            f"--input names {max(names, key=names.count)} more than once", hint="names must differ"
        )
    return found


def refuse_exported(model: str) -> None:
    """Refuse an exported network where its modules are needed. Raises UserError."""
    if model.endswith(".pt2"):
        raise UserError(
            f"'{model}' is an exported network, which can be attacked and evaluated, and nothing else",
            hint="name the network that it was exported from",
        )


def unknown(model: str) -> str:
    """The sentence for a network whose inputs nobody states."""
    return f"the input shape of {model} is unknown"


def _own_shape(model: str, images: "Dataset | None") -> tuple[int, ...] | None:
    if has_weights(model) or (":" not in model and not model.endswith(".py")):
        name = checkpoint(model).facts["arch"] if has_weights(model) else model
        known = MODELS.entry(name).facts.get("input")
        if known is not None:
            return (1, *known)
    if images is None and model.startswith(HUB):
        from secateur.models import stated_size

        size = stated_size(model)
        return None if size is None else (1, 3, *size)
    return None if images is None else (1, *images.shape)


def read(text: str) -> Asked:
    """One --input.

    Raises:
        UserError: it does not have the form [NAME:][TYPE:]SHAPE[:LOW..HIGH].

    >>> read("int64:4:0..9")
    Asked(text='int64:4:0..9', name='', dtype='int64', shape=(4,), low=0, high=9)
    """
    parts = text.split(":")
    place = next((number for number, part in enumerate(parts) if _SHAPE.fullmatch(part)), None)
    if place is None or place > 2 or len(parts) > place + 2:
        raise UserError(f"invalid --input {text}: expected a shape such as 1x3x224x224", hint=_FORM)
    shape = tuple(int(size) for size in parts[place].lower().split("x"))
    if 0 in shape:
        raise UserError(f"invalid --input {text}: every size must be at least 1", hint=_FORM)
    if prod(shape) > MAX_NUMBERS:
        raise UserError(f"invalid --input {text}: more than {MAX_NUMBERS:,} numbers", hint=_FORM)
    before = parts[:place]
    dtype = before.pop() if len(before) == 2 or (before and before[0] in TYPES) else "float32"
    name = before[0] if before else ""
    if dtype not in TYPES:
        raise UserError(
            f"invalid --input {text}: there is no type '{dtype}'",
            hint=did_you_mean(dtype, TYPES, otherwise=_FORM),
        )
    if before and not name.isidentifier():
        raise UserError(f"invalid --input {text}: '{name}' is no name of an argument", hint=_FORM)
    return Asked(text, name, dtype, shape, *_range(text, dtype, parts[place + 1 :]))


def _range(text: str, dtype: str, parts: list[str]) -> tuple[float, float]:
    whole = "int" in dtype
    if dtype == "bool":
        if parts:
            raise UserError(f"invalid --input {text}: bool has no range (all are true)", hint=_FORM)
        return 1.0, 1.0
    if not parts:
        if whole:
            raise UserError(
                f"invalid --input {text}: {dtype} needs a range",
                hint=f"for example {text}:0..50: from 0 up to, not including, 50",
            )
        return 0.0, 1.0
    try:
        low, high = ((int if whole else float)(number) for number in parts[0].split(".."))
    except ValueError:
        raise UserError(f"invalid --input {text}: '{parts[0]}' is no range", hint=_RANGE) from None
    if not low < high:
        raise UserError(f"invalid --input {text}: the range is empty", hint=_RANGE)
    return low, high


def example(asked: Sequence[Asked]) -> Any:
    """Random inputs to trace with, the same in every run: a tensor, positional or keyword arguments.

    >>> example([read("a:float32:2x3"), read("b:bool:4")])["b"]
    tensor([True, True, True, True])
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    made = [_drawn(item, generator) for item in asked]
    if asked[0].name:
        return {item.name: tensor for item, tensor in zip(asked, made, strict=True)}
    return made[0] if len(made) == 1 else tuple(made)


def _drawn(item: Asked, generator: Any) -> Any:
    import torch

    dtype = getattr(torch, item.dtype)
    if item.dtype == "bool":
        return torch.ones(item.shape, dtype=dtype)
    if "int" in item.dtype:
        return torch.randint(int(item.low), int(item.high), item.shape, generator=generator, dtype=dtype)
    numbers = torch.rand(item.shape, generator=generator)
    if (item.low, item.high) != (0.0, 1.0):
        numbers = item.low + numbers * (item.high - item.low)
    return numbers.to(dtype)


def told(asked: Sequence[Asked]) -> list[int] | list[str]:
    """What a saved folder says of the inputs: a shape, or texts that --input reads."""
    if len(asked) == 1 and asked[0].plain:
        return list(asked[0].shape)
    return [item.text for item in asked]


def texts_of(saved: Sequence[int | str]) -> list[str] | None:
    """The texts of --input for what ``told`` gave.

    >>> texts_of([1, 3, 8, 8]), texts_of(["ids:int64:2x10:0..50"]), texts_of([])
    (['1x3x8x8'], ['ids:int64:2x10:0..50'], None)
    """
    if not saved:
        return None
    if all(isinstance(item, int) for item in saved):
        return ["x".join(map(str, saved))]
    return [str(item) for item in saved]
