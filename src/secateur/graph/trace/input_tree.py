"""Inputs and outputs as trees: their parts, the tensors in them, and how a model is called with them.

Lists, tuples, mappings of any kind, named tuples, dataclasses, packed sequences, and objects that hold
tensors are taken apart; everything else (flags, numbers, strings, None) stays where it is.
"""

import copy
from collections import deque
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from torch import Tensor, nn

from secateur.errors import UserError


@dataclass(frozen=True)
class Slot:
    """The place of a tensor in a tree whose tensors were taken out."""

    number: int


_LEAVES = (Tensor, Slot)


def parts(thing: Any) -> dict[Any, Any]:
    """The parts of a container by name, or by index where they have none; none for anything else.

    >>> parts({"ids": 1, "mask": 2}), parts([3, 4]), parts(5)
    ({'ids': 1, 'mask': 2}, {0: 3, 1: 4}, {})
    """
    if isinstance(thing, (*_LEAVES, nn.Module, type, str, bytes)):
        return {}
    if isinstance(thing, Mapping):
        return dict(thing)
    if is_dataclass(thing):
        return {item.name: getattr(thing, item.name) for item in fields(thing) if hasattr(thing, item.name)}
    if isinstance(thing, tuple) and hasattr(thing, "_fields"):
        return dict(zip(thing._fields, thing, strict=True))
    if isinstance(thing, (list, tuple, deque)):
        return dict(enumerate(thing))
    # Boxes, padded images with their mask, graphs: classes of the user's own.
    held = getattr(thing, "__dict__", {})
    return dict(held) if any(map(_holds_tensors, held.values())) else {}


def rebuilt(thing: Any, new: Mapping[Any, Any]) -> Any:
    """A container like ``thing`` with ``new`` parts; the original is not changed.

    >>> rebuilt([1, 2], {0: 3, 1: 4})
    [3, 4]
    """
    if isinstance(thing, tuple):
        make = getattr(type(thing), "_make", type(thing))
        return make(new.values())
    if isinstance(thing, Mapping) and not isinstance(thing, MutableMapping):
        return dict(new)
    made = copy.copy(thing)
    if isinstance(thing, (Mapping, list, deque)):
        for key, value in new.items():
            made[key] = value
    else:
        for name, value in new.items():
            # Frozen dataclasses refuse the usual way.
            object.__setattr__(made, name, value)
    return made


def mapped(function: Callable[[str, Any], Any], tree: Any, path: str = "") -> Any:
    """The same tree with ``function(path, tensor)`` in the place of each tensor or slot, in order.

    Paths join keys and indices by dots; that of a single tensor is ``""``.

    >>> import torch
    >>> mapped(lambda path, tensor: path, {"ids": torch.zeros(1), "boxes": [torch.zeros(4), None]})
    {'ids': 'ids', 'boxes': ['boxes.0', None]}
    """
    if isinstance(tree, _LEAVES):
        return function(path, tree)
    found = parts(tree)
    if not found:
        return tree
    start = f"{path}." if path else ""
    return rebuilt(tree, {key: mapped(function, item, f"{start}{key}") for key, item in found.items()})


def tensors_in(tree: Any) -> list[Tensor]:
    """Every tensor of a tree, in order.

    >>> import torch
    >>> len(tensors_in([torch.zeros(1), {"mask": None, "ids": torch.zeros(2)}]))
    2
    """
    if isinstance(tree, Tensor):
        return [tree]
    return [tensor for item in parts(tree).values() for tensor in tensors_in(item)]


def paths_in(tree: Any, path: str = "") -> list[str]:
    """The path of every tensor of a tree, in order, as :func:`mapped` has it.

    >>> import torch
    >>> paths_in({"logits": torch.zeros(1), "states": (torch.zeros(2), None)})
    ['logits', 'states.0']
    """
    if isinstance(tree, Tensor):
        return [path]
    start = f"{path}." if path else ""
    return [name for key, item in parts(tree).items() for name in paths_in(item, f"{start}{key}")]


def as_call(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments: of a tuple or list, of a mapping; anything else is one argument.

    Named tuples (packed sequences among them) and dataclasses are one argument. So ``({...},)`` hands over
    one dict, and ``([...],)`` one list.

    Raises:
        UserError: a mapping with keys that are no names.

    >>> as_call((1, 2)), as_call({"x": 1}), as_call(({"x": 1},))
    (((1, 2), {}), ((), {'x': 1}), (({'x': 1},), {}))
    """
    if isinstance(inputs, Mapping):
        named = dict(inputs)
        if odd := [key for key in named if not isinstance(key, str)]:
            raise UserError(
                f"a dict of example inputs holds keyword arguments, and {odd[0]!r} is no name",
                hint="write ({...},) for one argument that is a dict",
            )
        return (), named
    if isinstance(inputs, (tuple, list)) and not hasattr(inputs, "_fields"):
        return tuple(inputs), {}
    return (inputs,), {}


def call_model(model: nn.Module, inputs: Any) -> Any:
    """Run the model on inputs in the forms of :func:`as_call`."""
    arguments, keywords = as_call(inputs)
    return model(*arguments, **keywords)


def named_output(result: Any, name: str | int | None) -> Any:
    """The output of that name or index; the whole result where no name is given.

    Raises:
        UserError: the model has no such output.

    >>> named_output({"logits": 1, "features": 2}, "logits")
    1
    """
    if name is None:
        return result
    found = parts(result)
    if isinstance(name, bool) or not isinstance(name, (str, int)) or name not in found:
        known = ", ".join(map(str, found)) or "a single tensor"
        raise UserError(f"the model has no output {name!r}", hint=f"its outputs are: {known}")
    return found[name]


def _holds_tensors(value: Any) -> bool:
    inside = value.values() if isinstance(value, Mapping) else [value]
    return any(isinstance(item, _LEAVES) for item in inside)
