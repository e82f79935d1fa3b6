"""Candidate repairs for a pruned model that fails: widths in attributes, and counts that must be equal."""

import re
from collections.abc import Iterator
from typing import Any

from torch import nn

from secateur.graph.channel_masks import ChannelMasks
from secateur.graph.dependency import DependencyGraph
from secateur.graph.width_attributes import Literal, Match, Spot, factor_at, slots
from secateur.kinds import is_whole

_WIDTH = re.compile("dim|chan|chs|width|size|feature|plane|hidden|inner|embed")


def needs_shapes(graph: DependencyGraph, masks: ChannelMasks) -> bool:
    """Whether sizes in the code can matter.

    A call with a list of sizes returns cut channels, or a fill (a first state of zeros) meets cut channels.
    """
    for call in graph.tape.calls:
        sized = any(isinstance(item, (list, tuple)) and _ints(item) for item in call.args[1:])
        if sized and any(map(masks.loses_channels, call.results)):
            return True
        filled = any(
            free and size > 1
            for number in call.refs
            for free, size in zip(graph.marks[number].free, graph.marks[number].shape, strict=True)
        )
        if filled and any(masks.loses_channels(number) for number in slots(call)):
            return True
    return False


def _ints(items: Any) -> bool:
    return bool(items) and all(isinstance(item, int) for item in items)


def candidates(graph: DependencyGraph, masks: ChannelMasks, place: int) -> Iterator[list[Literal | Match]]:
    """Candidates, most likely first: single findings, and all literals of one module together."""
    for match in _matches(graph, masks, place):
        yield [match]
    literals = list(_literals(graph, place, _sizes_at_stake(graph, masks, place)))
    first: dict[tuple[str, str, int | None], Literal] = {}
    for literal in literals:
        first.setdefault((literal.module, literal.attribute, literal.index), literal)
    for owner in dict.fromkeys(literal.module for literal in literals):
        together = [literal for literal in first.values() if literal.module == owner]
        exact = [literal for literal in together if _is_exact(graph, literal)]
        if exact:
            yield list(exact)
        if len(together) > len(exact):
            yield list(together)
    for literal in literals:
        yield [literal]


def states_a_width(graph: DependencyGraph, literal: Literal) -> bool:
    """Whether an attribute is the size at its spot by value and by name, and should follow it in any case."""
    return _is_exact(graph, literal) and _WIDTH.search(literal.attribute) is not None


def _is_exact(graph: DependencyGraph, literal: Literal) -> bool:
    number = slots(graph.tape.calls[literal.spot.call])[literal.spot.slot]
    return graph.tape.values[number].shape[literal.spot.dim] == literal.value


def _sizes_at_stake(graph: DependencyGraph, masks: ChannelMasks, place: int) -> list[tuple[Spot, int, int]]:
    """Cut dimensions of the failing call and the next few: spot, dense size, size after surgery."""
    found = []
    for near in range(place, min(place + 4, len(graph.tape.calls))):
        values = slots(graph.tape.calls[near])
        for slot in reversed(range(len(values))):
            dense = graph.tape.values[values[slot]].shape
            after = masks.expected_shape(values[slot])
            found += [
                (Spot(near, slot, d), a, b)
                for d, (a, b) in enumerate(zip(dense, after, strict=True))
                if a != b
            ]
    return found


def _matches(graph: DependencyGraph, masks: ChannelMasks, place: int) -> Iterator[Match]:
    """Dimensions around the failure that were one number in the dense model and are two after surgery."""
    around: list[tuple[Spot, int, int]] = []
    for near in sorted(
        range(max(place - 40, 0), min(place + 40, len(graph.tape.calls))), key=lambda n: abs(n - place)
    ):
        for slot, number in enumerate(slots(graph.tape.calls[near])):
            dense, after = graph.tape.values[number].shape, masks.expected_shape(number)
            for dim, (a, b) in enumerate(zip(dense, after, strict=True)):
                if a != b and factor_at(graph.tape, graph.marks, Spot(near, slot, dim)) is not None:
                    around.append((Spot(near, slot, dim), a, b))
    seen: set[tuple[int, int, int]] = set()
    for number, (second, whole, left) in enumerate(around):
        for first, size, new in around[:number]:
            key = (whole, min(left, new), max(left, new))
            if size == whole and new != left and key not in seen:
                seen.add(key)
                yield Match(first, second)


def _literals(graph: DependencyGraph, place: int, stake: list[tuple[Spot, int, int]]) -> Iterator[Literal]:
    """Attributes of the running module and its owners that equal or scale with a size at stake."""
    modules = dict(graph.model.named_modules())
    around = owners(graph.tape.calls[place].module)
    # Modules whose methods are called directly (rotary embeddings) are never the module that runs.
    children = (f"{around[0]}.{name}".lstrip(".") for name, _ in modules[around[0]].named_children())
    around += [name for name in children if name in modules]
    for exact in (True, False):
        for owner in around:
            for attribute, at, value in numbers_in(modules[owner]):
                for spot, dense, after in stake:
                    if value == dense if exact else value != dense and _scales(value, dense, after):
                        yield Literal(owner, attribute, at, value, spot)
                        if exact:
                            break


def owners(module: str) -> list[str]:
    """The names of a module and of the modules around it, innermost first."""
    parts = module.split(".") if module else []
    return [".".join(parts[:length]) for length in range(len(parts), -1, -1)]


def numbers_in(module: nn.Module) -> Iterator[tuple[str, int | None, int]]:
    """The integers above 1 among a module's attributes: name, position in a tuple or list, number."""
    for name, value in module.__dict__.items():
        if is_whole(value, least=2):
            yield name, None, value
        elif isinstance(value, (tuple, list)):
            yield from ((name, place, item) for place, item in enumerate(value) if is_whole(item, least=2))


def with_number(held: Any, index: int | None, number: int) -> Any:
    """A number, or a tuple or list with it at ``index``, in the place of what an attribute holds."""
    if index is None:
        return number
    changed = (number if place == index else item for place, item in enumerate(held))
    return type(held)(changed) if isinstance(held, (tuple, list)) else held


def _scales(value: int, dense: int, after: int) -> bool:
    related = value % dense == 0 or dense % value == 0
    return related and (value * after) % dense == 0
