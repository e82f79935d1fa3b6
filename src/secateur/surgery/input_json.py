"""Example inputs in plan files: specifications of the tensors, and where they are, as JSON."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch.nn.utils.rnn import PackedSequence

from secateur.errors import UserError
from secateur.graph.trace.example_inputs import Inputs, InputSpec
from secateur.graph.trace.input_tree import Slot, parts

_RARE = ("given", "host")
MAX_NUMBERS = 2**28
"""Of one input: more than any network is called with, and what a stranger's plan can make us draw."""
# What a plan file can hold of a tree, by the name of its kind.
_KINDS: dict[type, str] = {list: "list", tuple: "tuple", dict: "dict", PackedSequence: "packed"}


def inputs_to_json(inputs: Inputs) -> dict[str, Any]:
    """The fields ``inputs`` and, where paths alone do not say it, ``form``.

    >>> import torch
    >>> from secateur.graph.trace.example_inputs import input_specs
    >>> inputs_to_json(input_specs({"x": torch.rand(2, 3), "scale": 2.0}))["form"]
    {'dict': {'x': {'tensor': 0}, 'scale': {'value': 2.0}}}
    """
    specs = []
    for item in inputs:
        plain = vars(item) | {"shape": list(item.shape)}
        # Fields that most inputs leave empty are left out.
        specs.append({key: value for key, value in plain.items() if key not in _RARE or value})
    form = _written(inputs.form)
    told = form == _written(_by_paths([item.path for item in inputs]))
    return {"inputs": specs, **({} if told else {"form": form})}


def inputs_from_json(data: Mapping[str, Any]) -> Inputs:
    """Read back what ``inputs_to_json`` gave.

    Raises:
        KeyError, TypeError, ValueError: the data are damaged.

    >>> import torch
    >>> from secateur.graph.trace.example_inputs import input_specs
    >>> inputs = input_specs(([torch.rand(2, 3), None], torch.tensor([5])))
    >>> inputs_from_json(inputs_to_json(inputs)).form
    ([Slot(number=0), None], Slot(number=1))
    """
    specs = tuple(
        InputSpec(
            *(item["path"], tuple(item["shape"]), item["dtype"], float(item["low"]), float(item["high"])),
            given=str(item.get("given", "")),
            host=bool(item.get("host", False)),
        )
        for item in data["inputs"]
    )
    for item in specs:
        if not all(type(side) is int and side >= 0 for side in item.shape) or not _is_type(item.dtype):
            raise ValueError(f"the input '{item.path}' is of shape {item.shape} and type {item.dtype}")
        if math.prod(item.shape) > MAX_NUMBERS:
            raise ValueError(f"the input '{item.path}' has more than {MAX_NUMBERS:,} numbers")
    if "form" not in data:
        return Inputs(specs, _by_paths([item.path for item in specs]))
    return Inputs(specs, _read(data["form"]))


def _is_type(name: object) -> bool:
    return isinstance(name, str) and isinstance(getattr(torch, name, None), torch.dtype)


def missing_class(inputs: Inputs) -> str | None:
    """The name of a class among the inputs that a plan file cannot hold, ``None`` if it holds them all.

    >>> from fractions import Fraction
    >>> missing_class(Inputs((), (1, Fraction(1, 2)))), missing_class(Inputs((), (1, None)))
    ('fractions.Fraction', None)
    """
    return _missing(_written(inputs.form))


def _by_paths(paths: list[str]) -> Any:
    """The tree of a single tensor, or of arguments that are tensors."""
    slots = [Slot(number) for number in range(len(paths))]
    if paths == [""]:
        return slots[0]
    if all(path.isdigit() for path in paths):
        return tuple(slots)
    return dict(zip(paths, slots, strict=True))


def _written(form: Any) -> dict[str, Any]:
    if isinstance(form, Slot):
        return {"tensor": form.number}
    if isinstance(form, _Missing):
        return {"missing": form.name}
    if type(form) is float and not math.isfinite(form):
        return {"float": str(form)}
    if form is None or type(form) in (bool, int, float, str):
        return {"value": form}
    kind = _KINDS.get(type(form))
    if kind is None or (kind == "dict" and not all(isinstance(key, str) for key in form)):
        return {"missing": f"{type(form).__module__}.{type(form).__qualname__}"}
    if kind == "dict":
        return {kind: {key: _written(item) for key, item in form.items()}}
    return {kind: [_written(item) for item in parts(form).values()]}


class _Missing:
    """Inputs in a class that the plan file could not hold."""

    def __init__(self, name: str) -> None:
        self.name = name


def _read(data: Mapping[str, Any]) -> Any:
    ((kind, held),) = data.items()
    if kind == "value":
        return held
    if kind == "float":
        return float(held)
    if kind == "tensor":
        return Slot(int(held))
    if kind == "missing":
        return _Missing(str(held))
    if kind == "dict":
        return {str(key): _read(item) for key, item in held.items()}
    items = [_read(item) for item in held]
    if kind == "packed":
        return PackedSequence._make(items)
    return {"list": list, "tuple": tuple}[kind](items)


def _missing(written: Mapping[str, Any]) -> str | None:
    ((kind, held),) = written.items()
    if kind == "missing":
        return str(held)
    inside = held.values() if kind == "dict" else held if isinstance(held, list) else ()
    return next((name for item in inside if (name := _missing(item)) is not None), None)


def check_stored(inputs: Inputs) -> None:
    """Refuse inputs that a plan file could not hold.

    Raises:
        UserError: always says which class is missing.

    >>> check_stored(Inputs((), (1, None)))
    """
    if (name := missing_class(inputs)) is not None:
        raise UserError(
            f"the plan was made with inputs of class {name}, which a file cannot hold",
            hint="pass example_inputs",
        )
