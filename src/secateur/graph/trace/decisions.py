"""Decisions: what a run picks by comparing numbers, where the shapes of what follows depend on it.

Thresholds, non-maximum suppression and predicted lengths give other shapes for other weights and inputs. A
pruned network that computes the same numbers decides the same. So these numbers are outputs, and every run
that is compared with the trace decides as the trace did.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from math import isinf
from typing import Any

import torch
from torch import Tensor

from secateur.graph.ops import Does, operations
from secateur.graph.trace.tape import Call, Tape, copied
from secateur.graph.trace.told import TELLING, Key, numbered

Decided = tuple[Any, ...]
"""The results of one call: integers, flags, rounded numbers, and None for what is computed again."""

_INDEXED = frozenset(f"aten::{name}" for name in ("index", "_unsafe_index"))
_NAN = frozenset(f"aten::{name}" for name in ("isnan", "isinf", "isposinf", "isneginf"))
_WRITTEN = frozenset(f"aten::{name}" for name in ("index_put", "index_put_", "_unsafe_index_put"))
_FILLED = frozenset({"aten::masked_scatter", "aten::masked_scatter_"})
_MOVES = operations(Does.MOVE)
_PICKING = operations(Does.PICK) | _WRITTEN
_FLAGS = {torch.bool, torch.uint8}
_COUNTS = operations(Does.COUNT)
_ROUNDS = frozenset(f"aten::{name}" for name in ("ceil", "floor", "round", "trunc"))


def deciding_calls(tape: Tape, given: Collection[int] = ()) -> frozenset[int]:
    """Positions of the calls that turn numbers into integers or flags on which later shapes depend.

    Whole numbers that the code reads (``int(width.ceil())``) count as integers. What is computed from the
    ``given`` inputs alone is the same in every run, and decides nothing.

    >>> from torch import nn
    >>> from secateur.graph.trace.recorder import record
    >>> class Positive(nn.Module):
    ...     def forward(self, x):
    ...         return x[x > 0]
    >>> tape, _ = record(Positive(), torch.tensor([1.0, -1.0]))
    >>> [tape.calls[place].short_name for place in deciding_calls(tape)]
    ['gt']
    """
    moving = _moving(tape, given)
    makers = {number: place for place, call in enumerate(tape.calls) for number in call.outputs}
    read = tape.read()
    found: set[int] = set()
    queue: list[int] = []
    for place, call in enumerate(tape.calls):
        wanted = _shape_giving(tape, call, read)
        queue += wanted
        if (
            wanted
            and call.name not in _INDEXED
            and _makes_whole(tape, call)
            and _takes_numbers(tape, call, moving)
        ):
            found.add(place)
    found |= _rounding(tape, makers, moving)
    seen = set(queue)
    while queue:
        number = queue.pop()
        place = makers.get(number, -1)
        if place < 0 or tape.values[number].dtype.is_floating_point or _looks_for_nan(tape.calls[place]):
            continue
        if _takes_numbers(tape, tape.calls[place], moving):
            found.add(place)
            continue
        more = set(tape.calls[place].refs) - seen
        seen |= more
        queue += more
    return frozenset(found)


def _rounding(tape: Tape, makers: Mapping[int | None, int], moving: set[int]) -> set[int]:
    """The calls that round numbers which the code reads: the size of a box in whole pixels."""
    queue = [ref for call in tape.readings() for ref in call.refs]
    found, seen = set[int](), set(queue)
    while queue:
        place = makers.get(queue.pop(), -1)
        call = tape.calls[place]
        if place < 0 or _makes_whole(tape, call):
            continue
        if call.name in _ROUNDS and _takes_numbers(tape, call, moving):
            found.add(place)
        elif call.name in _MOVES or torch.Tag.pointwise in call.op.tags:
            queue += set(call.refs) - seen
            seen.update(call.refs)
    return found


def _looks_for_nan(call: Call) -> bool:
    """Whether a call asks for NaN or infinity, which decides nothing among ordinary numbers."""
    if call.name not in {"aten::eq", "aten::ne"}:
        return call.name in _NAN
    other = call.args[1]
    # NaN differs from itself.
    return bool(call.args[0] == other) or (isinstance(other, float) and isinf(other))


def _shape_giving(tape: Tape, call: Call, read: set[int]) -> list[int]:
    """The arguments whose values decide the shape of a result, or are read as plain numbers."""
    tags = call.op.tags
    if call.name in _INDEXED or (call.name in _WRITTEN and _fills_in_order(tape, call)):
        return [ref.id for ref in call.tensors("indices") if ref and tape.values[ref.id].dtype in _FLAGS]
    if call.name in _FILLED:
        return [call.tensor("mask").id]
    dynamic = torch.Tag.dynamic_output_shape in tags or torch.Tag.data_dependent_output in tags
    # Operations of other packages say nothing of this; suppression of boxes is one of them.
    foreign = call.op.namespace != "aten" and _makes_whole(tape, call)
    return list(call.refs) if dynamic or foreign or copied(call, read) else []


def _fills_in_order(tape: Tape, call: Call) -> bool:
    """Whether values are written to what a mask picks one by one, so that there must be as many."""
    masks = [ref for ref in call.tensors("indices") if ref and tape.values[ref.id].dtype in _FLAGS]
    if len(masks) != 1:
        return bool(masks)
    rest = len(tape.values[call.refs[0]].shape) - len(tape.values[masks[0].id].shape)
    lead = call.tensors("indices").index(masks[0])
    values = tape.values[call.tensor("values").id].shape
    return len(values) == rest + 1 and values[lead] != 1


def choosing_calls(tape: Tape) -> frozenset[int]:
    """Positions of the deciding calls whose flags do nothing but pick among the numbers that are compared.

    Which channels there are may change with them; other decisions (of boxes, lengths) mean every number.

    >>> from torch import nn
    >>> from secateur.graph.trace.recorder import Recorder, record
    >>> class Positive(nn.Module):
    ...     def forward(self, x):
    ...         return x[x > 0].mean()
    >>> recorder = Recorder(Positive())
    >>> recorder.decisions = Decisions(frozenset({0}))
    >>> sorted(choosing_calls(record(Positive(), torch.tensor([1.0, -1.0]), recorder)[0]))
    [0]
    """
    readers = tape.readers()
    kept = {*tape.outputs, *tape.returned}

    def only_picks(number: int) -> bool:
        return number not in kept and all(
            call.name in _PICKING
            or (
                (torch.Tag.pointwise in call.op.tags or call.name in _MOVES)
                and all(tape.values[ref].dtype is torch.bool for ref in call.refs)
                and all(map(only_picks, call.results))
            )
            for call in (tape.calls[place] for place in readers.get(number, ()))
        )

    return frozenset(
        place
        for place in tape.decided
        if torch.Tag.pointwise in tape.calls[place].op.tags
        and all(
            number is not None and tape.values[number].dtype is torch.bool and only_picks(number)
            for number in tape.calls[place].outputs
        )
    )


def _makes_whole(tape: Tape, call: Call) -> bool:
    return any(not tape.values[number].dtype.is_floating_point for number in call.results)


def _takes_numbers(tape: Tape, call: Call, moving: set[int]) -> bool:
    return call.name not in _COUNTS and any(
        number in moving and tape.values[number].dtype.is_floating_point for number in call.refs
    )


def _moving(tape: Tape, given: Collection[int]) -> set[int]:
    """The values that differ between runs: weights, inputs drawn anew, and what follows from them."""
    kinds = {"parameter", "buffer", "input"}
    found = {number for number, value in enumerate(tape.values) if value.kind in kinds} - set(given)
    for call in tape.calls:
        if not found.isdisjoint(call.refs):
            found.update(call.results)
    return found


def decided(result: Any, name: str = "") -> Decided:
    """The integers and flags among the results of a call, and what an operation of that name rounded."""
    flat = result if isinstance(result, (list, tuple)) else (result,)
    return tuple(
        item.detach().clone()
        if isinstance(item, Tensor) and (name in _ROUNDS or not item.is_floating_point())
        else None
        for item in flat
    )


def as_decided(result: Any, known: Decided) -> Any:
    """The results of a call, with integers and flags as they were decided before.

    >>> as_decided((torch.tensor([0.5]), torch.tensor([3])), (None, torch.tensor([1])))
    (tensor([0.5000]), tensor([1]))
    """
    if not isinstance(result, (list, tuple)):
        return result if known[0] is None else known[0].to(result, copy=True)
    return type(result)(
        [item if one is None else one.to(item, copy=True) for item, one in zip(result, known, strict=True)]
    )


def by_order(tape: Tape, compact: Callable[[int, Tensor], Tensor]) -> dict[Key, Decided]:
    """What was decided, by operation, module, and how often it gave integers or flags there before.

    So other runs find it, which may cast numbers more or less often. ``compact(number, tensor)`` drops the
    channels that another run does not have.
    """
    return {
        key: tuple(
            None if one is None or number is None else compact(number, one)
            for number, one in zip(call.outputs, tape.decided[place], strict=True)
        )
        for key, place, call in numbered(tape, lambda call: _makes_whole(tape, call) or call.name in _ROUNDS)
        if place in tape.decided
    }


class Decisions:
    """What a recorder does about decisions: keep those of some places, or decide as another tape did.

    ``told`` are numbers to give to plain code in place of the run's own.
    """

    def __init__(
        self,
        keep: frozenset[int] = frozenset(),
        known: Mapping[Key, Decided] | None = None,
        told: Mapping[Key, Any] | None = None,
    ) -> None:
        self._keep, self._known, self._told = keep, known or {}, told or {}
        self._counts: Counter[tuple[str, str]] = Counter()
        self._telling: Counter[tuple[str, str]] = Counter()
        self.sources: list[Tensor] = []
        self.active = bool(self._keep or self._known or self._told)

    def settle(self, tape: Tape, key: tuple[str, str], arguments: list[Tensor], result: Any) -> Any:
        """The result of the next call of an operation in a module, as it was decided; notes what decides."""
        if key[0] in TELLING:
            result = self._tell(key, arguments, result)
        mine = decided(result, key[0])
        if all(item is None for item in mine):
            return result
        place = len(tape.calls)
        known = self._known.get((*key, self._counts[key]))
        self._counts[key] += 1
        if known is None and place not in self._keep:
            return result
        tape.decided[place] = mine if known is None else known
        self.sources += [item for item in arguments if item.is_floating_point()]
        return as_decided(result, tape.decided[place])

    def _tell(self, key: tuple[str, str], arguments: list[Tensor], result: Any) -> Any:
        """The result of a call that tells plain code a number: what it is to be told, if that is given."""
        known = self._told.get((*key, self._telling[key]))
        self._telling[key] += 1
        if known is None:
            return result
        self.sources += [item for item in arguments if item.is_floating_point()]
        return known.to(result, copy=True) if isinstance(known, Tensor) else known
