"""Widths that modules of the model's own classes state in attributes, and that no run may ever read.

Code that merges branches for deployment, branches for training, and the reader of ``print(model)`` take them
to be the widths of the layers inside. An attribute follows

1. the layers of torch inside the module that state a width of the same name and value,
2. if its name says so, the inputs or outputs of the module,
3. if its name is that of a width, the parameters inside with a dimension of this size,
4. if it counts groups, one for each channel, the widths that the same module states.

Where these lost different numbers of channels the attribute is left as it is, and a note says so.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any

from torch import nn

from secateur.graph.channel_masks import ChannelMasks
from secateur.graph.dependency import DependencyGraph
from secateur.graph.trace.tape import Tape
from secateur.kinds import is_whole
from secateur.repair.candidates import numbers_in, with_number
from secateur.surgery.cut import temporarily_on_meta
from secateur.surgery.plan import Plan, Repair

_WIDTH = re.compile("chan|chs|width|feature|plane|hidden|embed|(^|_)dims?($|_)|^inp$|^oup$")
_OTHER = re.compile("image|img|patch|kernel|window|grid|pool|stride|num_embed|depth|height|vocab|max_|len")
_INPUT, _OUTPUT = re.compile("(^|_)in(p|put)?(_|$)|^inplanes"), re.compile("(^|_)out(p|put)?(_|$)|^oup$")
_GROUPS = ("groups", "num_groups", "conv_groups")
# Smaller numbers are more often counts and positions of dimensions.
_LEAST = 4


@dataclass(frozen=True)
class Stated:
    """Repairs for the attributes that follow, and notes on those that cannot."""

    repairs: tuple[Repair, ...]
    notes: tuple[str, ...] = ()


def stated_widths(graph: DependencyGraph, plan: Plan, masks: ChannelMasks) -> Stated:
    """The attributes that state a width which the plan changes, but for those that it sets already."""
    known = {(repair.module, repair.attribute) for repair in plan.repairs}
    after = plan.shapes_after()
    changing = {
        old
        for name, shape in plan.shapes.items()
        for old, new in zip(shape, after[name], strict=True)
        if old != new
    }
    inside: _Inside | None = None
    values: dict[tuple[str, str], tuple[Any, Any]] = {}
    notes: list[str] = []
    depthwise: list[tuple[str, str, int]] = []
    for name, module in graph.model.named_modules():
        if type(module).__module__.startswith("torch.") or isinstance(module, nn.ModuleList):
            continue
        for attribute, index, value in numbers_in(module):
            if (name, attribute) in known or value not in changing:
                continue
            inside = inside or _Inside(graph, plan, masks)
            found = inside.follow(name, attribute, value)
            if not found and attribute in _GROUPS:
                depthwise.append((name, attribute, value))
            if len(found) > 1 and attribute in _read_names(type(module)):
                sizes = ", ".join(map(str, sorted(found)))
                notes.append(
                    f"'{attribute}' of {name or 'the model'} stays {value}: its layers now have {sizes}"
                )
            if len(found) != 1 or value in found:
                continue
            (new_value,) = found
            before = module.__dict__[attribute]
            old, new = values.get((name, attribute), (before, before))
            values[name, attribute] = (old, with_number(new, index, new_value))
    repairs = [Repair(*key, *change) for key, change in values.items()]
    for name, attribute, value in depthwise:
        beside = {
            item.after for item in (*plan.repairs, *repairs) if item.module == name and item.before == value
        }
        if len(beside) == 1:
            repairs.append(Repair(name, attribute, value, *beside))
    return Stated(tuple(repairs), tuple(notes))


class _Inside:
    """What the widths inside a module become under a plan."""

    def __init__(self, graph: DependencyGraph, plan: Plan, masks: ChannelMasks) -> None:
        self._masks, self._tape = masks, graph.tape
        self._before, self._after = plan.shapes, plan.shapes_after()
        layers = {
            name: module
            for name, module in graph.model.named_modules()
            if type(module).__module__.startswith("torch.nn.modules")
        }
        dense = {name: dict(_plain(module)) for name, module in layers.items()}
        with temporarily_on_meta(graph.model, plan):
            self._layers = {
                name: [(key, value, now.get(key)) for key, value in dense[name].items()]
                for name, module in layers.items()
                if (now := dict(_plain(module)))
            }

    def follow(self, name: str, attribute: str, value: int) -> set[int]:
        """The sizes that the width becomes: one where it can follow, several where that is undecided."""
        start = f"{name}." if name else ""
        same = {
            after
            for layer, widths in self._layers.items()
            for key, before, after in widths
            if layer.startswith(start) and key == attribute and before == value and after is not None
        }
        if len(same) == 1 or (same and not _states_width(attribute)):
            return same
        if not _states_width(attribute):
            return set()
        ends = _ends(self._tape, name)
        for pattern, numbers in ((_INPUT, ends[0]), (_OUTPUT, ends[1])):
            if pattern.search(attribute) and (found := self._sizes(numbers, value)):
                return found if len(found) == 1 else same or found
        if same:
            return same
        if value < _LEAST:
            return set()
        inside = {
            after
            for tensor, shape in self._before.items()
            if tensor.startswith(start)
            for before, after in zip(shape, self._after[tensor], strict=True)
            if before == value
        }
        return inside or self._sizes([*ends[0], *ends[1]], value)

    def _sizes(self, numbers: Sequence[int], value: int) -> set[int]:
        return {
            after
            for number in numbers
            for before, after in zip(
                self._tape.values[number].shape, self._masks.expected_shape(number), strict=True
            )
            if before == value
        }


def _states_width(attribute: str) -> bool:
    return _WIDTH.search(attribute) is not None and _OTHER.search(attribute) is None


def _plain(module: nn.Module) -> Iterator[tuple[str, int]]:
    yield from ((key, value) for key, value in module.__dict__.items() if is_whole(value))


def _ends(tape: Tape, name: str) -> tuple[list[int], list[int]]:
    """The activations that come into a module, and those that leave it."""
    own = [call for call in tape.calls if not name or f"{call.module}.".startswith(f"{name}.")]
    made = {number for call in own for number in call.results}
    mine = {id(call) for call in own}
    read = {number for call in tape.calls if id(call) not in mine for number in call.refs} | {*tape.outputs}
    into = {
        number
        for call in own
        for number in call.refs
        if number not in made and tape.values[number].kind in {"result", "input"}
    }
    return sorted(into), sorted(made & read)


def _read_names(kind: type) -> set[str]:
    """The names that methods read which neither the constructor nor ``forward`` calls."""
    codes = codes_of(kind)
    # What ``forward`` reads was seen to run; what only the constructor calls does not run again.
    known = _called(codes, {"__init__", "extra_repr", "__repr__", "forward"})
    return set().union(*(names_of(code) for name, code in codes.items() if name not in known))


def codes_of(kind: type) -> dict[str, CodeType]:
    """The code of the methods of a class, without those of torch's."""
    codes: dict[str, CodeType] = {}
    for base in reversed(kind.__mro__):
        if not base.__module__.startswith("torch.") and base is not object:
            held = {name: getattr(item, "__func__", item) for name, item in vars(base).items()}
            codes |= {name: item.__code__ for name, item in held.items() if isinstance(item, FunctionType)}
    return codes


def _called(codes: Mapping[str, CodeType], names: set[str]) -> set[str]:
    """These methods and those that they call."""
    found, new = set(names), names
    while new:
        new = {name for one in new if one in codes for name in names_of(codes[one])} & set(codes) - found
        found |= new
    return found


def names_of(code: CodeType) -> set[str]:
    """The names of attributes and globals in a function, and in functions inside it."""
    inner = (names_of(item) for item in code.co_consts if isinstance(item, CodeType))
    return set(code.co_names).union(*inner)
