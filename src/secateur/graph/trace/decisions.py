"""Decisions: what a run picks by comparing numbers, where the shapes of what follows depend on it.

Thresholds, non-maximum suppression and predicted lengths give other shapes for other weights and inputs. A
pruned network that computes the same numbers decides the same. So these numbers are outputs, and every run
that is compared with the trace decides as the trace did.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from math import isinf
from typing import Any

import torch
from torch import Tensor

from secateur.graph.ops import Does, operations
from secateur.graph.trace.tape import Call, Tape

Decided = tuple[Any, ...]
"""The results of one call: tensors of integers and flags, and None for those that were computed again."""

_INDEXED = frozenset(f"aten::{name}" for name in ("index", "_unsafe_index"))
_NAN = frozenset(f"aten::{name}" for name in ("isnan", "isinf", "isposinf", "isneginf"))
_FLAGS = {torch.bool, torch.uint8}
_COUNTS = operations(Does.COUNT)


def deciding_calls(tape: Tape, given: Collection[int] = ()) -> frozenset[int]:
    """Positions of the calls that turn numbers into integers or flags on which later shapes depend.

    What is computed from the ``given`` inputs alone is the same in every run, and decides nothing.

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


def _looks_for_nan(call: Call) -> bool:
    """Whether a call asks for NaN or infinity, which decides nothing among ordinary numbers."""
    if call.name not in {"aten::eq", "aten::ne"}:
        return call.name in _NAN
    other = call.args[1]
    # NaN differs from itself.
    return bool(call.args[0] == other) or (isinstance(other, float) and isinf(other))


def _shape_giving(tape: Tape, call: Call, read: set[int] | frozenset[int]) -> list[int]:
    """The arguments whose values decide the shape of a result, or are read as plain numbers."""
    tags = call.op.tags
    if call.name in _INDEXED:
        return [ref.id for ref in call.tensors("indices") if ref and tape.values[ref.id].dtype in _FLAGS]
    dynamic = torch.Tag.dynamic_output_shape in tags or torch.Tag.data_dependent_output in tags
    # Operations of other packages say nothing of this; suppression of boxes is one of them.
    foreign = call.op.namespace != "aten" and _makes_whole(tape, call)
    # ``tolist`` and numpy leave a copy that nothing reads.
    copied = call.name == "aten::detach" and not read & set(call.outputs)
    return list(call.refs) if dynamic or foreign or copied else []


def _makes_whole(tape: Tape, call: Call) -> bool:
    return any(
        number is not None and not tape.values[number].dtype.is_floating_point for number in call.outputs
    )


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
            found.update(number for number in call.outputs if number is not None)
    return found


def decided(result: Any) -> Decided:
    """The integers and flags among the results of a call."""
    flat = result if isinstance(result, (list, tuple)) else (result,)
    return tuple(
        item.detach().clone() if isinstance(item, Tensor) and not item.is_floating_point() else None
        for item in flat
    )


def as_decided(result: Any, known: Decided) -> Any:
    """The results of a call, with integers and flags as they were decided before.

    >>> as_decided((torch.tensor([0.5]), torch.tensor([3])), (None, torch.tensor([1])))
    (tensor([0.5000]), tensor([1]))
    """
    if not isinstance(result, (list, tuple)):
        return result if known[0] is None else known[0].to(result.device, copy=True)
    return type(result)(
        [
            item if one is None else one.to(item.device, copy=True)
            for item, one in zip(result, known, strict=True)
        ]
    )


def by_order(tape: Tape) -> dict[tuple[str, int], Decided]:
    """What was decided, by operation and how often that had run before: so other runs find it."""
    counts: Counter[str] = Counter()
    found: dict[tuple[str, int], Decided] = {}
    for place, call in enumerate(tape.calls):
        if place in tape.decided:
            found[call.name, counts[call.name]] = tape.decided[place]
        counts[call.name] += 1
    return found


class Decisions:
    """What a recorder does about decisions: keep those of some places, or decide as another tape did."""

    def __init__(
        self, keep: frozenset[int] = frozenset(), known: Mapping[tuple[str, int], Decided] | None = None
    ) -> None:
        self._keep, self._known = keep, known or {}
        self._counts: Counter[str] = Counter()
        self.sources: list[Tensor] = []
        self.active = bool(self._keep or self._known)

    def settle(self, tape: Tape, name: str, arguments: list[Tensor], result: Any) -> Any:
        """The result of the next call, as it was decided; notes the numbers that decide."""
        place = len(tape.calls)
        known = self._known.get((name, self._counts[name]))
        self._counts[name] += 1
        if known is None and place not in self._keep:
            return result
        tape.decided[place] = decided(result) if known is None else known
        self.sources += [item for item in arguments if item.is_floating_point()]
        return as_decided(result, tape.decided[place])
