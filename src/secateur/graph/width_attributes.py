"""Widths that the model's own code reads: sizes in module attributes, and sizes that must agree.

Labels do not show these; repair finds them. They are stated in *spots*, dimensions of an argument or result
of one recorded call, so that a finding holds for other modules of the class and for later selections.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import nn

from secateur.graph.atoms import Atoms, Reason
from secateur.graph.groups import Group, Row, Tie
from secateur.graph.labels import Factor, IntArray, Marks, columns_last
from secateur.graph.trace.tape import Call, Tape


@dataclass(frozen=True)
class Spot:
    """Dimension ``dim`` of the ``slot``-th value (arguments first, then results) of call ``call``."""

    call: int
    slot: int
    dim: int


@dataclass(frozen=True)
class Literal:
    """An attribute of a module that names a width: it scales with the size at ``spot``.

    ``index`` is the position inside a tuple or list, ``None`` for a plain number; ``value`` is the dense
    number.
    """

    module: str
    attribute: str
    index: int | None
    value: int
    spot: Spot


@dataclass(frozen=True)
class Match:
    """Two spots that must keep equally many."""

    first: Spot
    second: Spot


@dataclass
class Learned:
    """Findings about one graph, kept for later plans.

    ``blocked`` are groups that stay whole, with the reason; ``meta`` is whether the model runs on the meta
    device; ``shrunk`` is the graph on smaller images.
    """

    literals: list[Literal] = field(default_factory=list)
    matches: list[Match] = field(default_factory=list)
    blocked: dict[str, str] = field(default_factory=dict)
    meta: bool | None = None
    shrunk: Any = None


def slots(call: Call) -> list[int]:
    """The numbers of a call's values: arguments in order, then results."""
    return [*call.refs, *call.results]


def factor_at(tape: Tape, marks: dict[int, Marks], spot: Spot) -> Factor | None:
    """The factor whose column is this dimension."""
    values = slots(tape.calls[spot.call])
    if spot.slot >= len(values):
        return None
    found = marks[values[spot.slot]]
    return next((factor for factor in found.factors if factor.column == spot.dim), None)


def parts_of(groups: tuple[Group, ...], atoms: Atoms) -> tuple[IntArray, IntArray]:
    """The part of each atom, -1 where it is frozen, and its channel (counted through all groups)."""
    parts, channels = (np.full(atoms.size, -1, dtype=np.int64) for _ in range(2))
    first = 0
    for group in groups:
        for member in group.members:
            where = atoms.starts[member.tensor, member.dim] + member.indices
            parts[where], channels[where] = group.parts[member.channels], first + member.channels
        first += group.size
    return parts, channels


def row_at(factor: Factor, parts: IntArray, channels: IntArray) -> Row:
    """The count along a factor's column, as fixed positions and parts."""
    atoms = columns_last(factor)[0]
    own = np.where(atoms >= 0, parts[atoms], -1)
    # How often each channel occurs: a flattened one once for every position.
    found = {}
    for part in np.unique(own[own >= 0]):
        inside = atoms[own == part]
        found[int(part)] = max(1, int(inside.size // np.unique(channels[inside]).size))
    return Row(int((own < 0).sum()), tuple(sorted(found.items())))


def tie_of(
    tape: Tape, marks: dict[int, Marks], match: Match, parts: IntArray, channels: IntArray
) -> Tie | None:
    """The tie that follows from a match, if both spots carry channels."""
    ends = [factor_at(tape, marks, spot) for spot in (match.first, match.second)]
    if ends[0] is None or ends[1] is None:
        return None
    reason = Reason.at(tape.calls[match.first.call], "must have the same width")
    return Tie((row_at(ends[0], parts, channels), row_at(ends[1], parts, channels)), reason)


def siblings(model: nn.Module, tape: Tape, spots: list[Spot], module: str) -> list[tuple[str, list[Spot]]]:
    """The same spots in the other modules of the same class that did the same operations."""
    modules = dict(model.named_modules())
    kind = type(modules[module])
    inside = _calls_inside(tape, module)
    if module == "" or any(spot.call not in inside for spot in spots):
        return []
    order = {position: number for number, position in enumerate(inside)}
    names = [tape.calls[position].name for position in inside]
    found = []
    for name, other in modules.items():
        if name == module or type(other) is not kind:
            continue
        inside_other = _calls_inside(tape, name)
        # Modules of one class may take different paths; only the same operations can be compared.
        if [tape.calls[position].name for position in inside_other] == names:
            moved = [Spot(inside_other[order[spot.call]], spot.slot, spot.dim) for spot in spots]
            if all(_exists(tape, spot) for spot in moved):
                found.append((name, moved))
    return found


def _exists(tape: Tape, spot: Spot) -> bool:
    """Whether there is such a dimension: a module may do the same operations on other shapes."""
    values = slots(tape.calls[spot.call])
    return spot.slot < len(values) and spot.dim < len(tape.values[values[spot.slot]].shape)


def _calls_inside(tape: Tape, module: str) -> list[int]:
    return [
        position
        for position, call in enumerate(tape.calls)
        if call.module == module or call.module.startswith(f"{module}.")
    ]


def literal_value(module: nn.Module, literal: Literal) -> Any:
    """The attribute as it is now, ``None`` if it is not there."""
    held = module.__dict__.get(literal.attribute)
    if literal.index is None:
        return held
    return held[literal.index] if isinstance(held, (tuple, list)) and literal.index < len(held) else None
