"""Numbers that a run tells to plain code (``float(x)``, ``x.tolist()``), for another run to tell the same.

What the code does with a number (a size, a branch) is not on the tape. Runs that are told the numbers of the
example go its way; the numbers themselves are then compared like outputs.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from typing import Any

from torch import Tensor

from secateur.graph.ops import Does, operations
from secateur.graph.trace.tape import Call, Tape

Key = tuple[str, str, int]
# numpy and ``tolist`` read a copy without gradients, which no operation reads.
TELLING = operations(Does.READ) | {"aten::detach"}
_MOST = 4096


def as_told(result: Any) -> Any:
    """A number that is told, or a copy of a tensor of a few; None for integers and flags, which are decided.

    >>> as_told(0.5), as_told(3)
    (0.5, None)
    """
    if isinstance(result, float):
        return result
    few = isinstance(result, Tensor) and result.is_floating_point() and 0 < result.numel() <= _MOST
    return result.detach().clone() if few and not result.is_meta else None


def told_in_order(tape: Tape, compact: Callable[[int, Tensor], Tensor]) -> dict[Key, Any]:
    """What the run told, by operation, module, and how often it had told something there before.

    ``compact(number, tensor)`` drops the channels that another run does not have.
    """
    found: dict[Key, Any] = {}
    told = _told(tape)
    for key, place, call in numbered(tape, lambda call: call.name in TELLING):
        if place in told:
            item, number = tape.told[place], call.outputs[0]
            found[key] = item if number is None else compact(number, item)
    return found


def numbered(tape: Tape, counts: Callable[[Call], bool]) -> Iterator[tuple[Key, int, Call]]:
    """The calls that count, with key (operation, module, how often it counted there before) and place."""
    before: Counter[tuple[str, str]] = Counter()
    for place, call in enumerate(tape.calls):
        if counts(call):
            key = call.name, call.module
            yield (*key, before[key]), place, call
            before[key] += 1


def comparing_told(tape: Tape) -> Tape | None:
    """The tape with the numbers that were told among its outputs; None if none were."""
    told = _told(tape)
    return comparing(tape, told) if told else None


def comparing(tape: Tape, more: Collection[int] = ()) -> Tape:
    """The tape with the numbers among its outputs that decide something, or that these calls take."""
    outputs = dict.fromkeys(tape.outputs[: tape.named])
    for place, call in enumerate(tape.calls):
        if place in tape.decided or place in more:
            outputs |= dict.fromkeys(n for n in call.refs if tape.values[n].dtype.is_floating_point)
    return replace(tape, outputs=tuple(outputs))


def _told(tape: Tape) -> dict[int, Call]:
    """The calls after which plain code knows numbers."""
    read = tape.read()
    found = ((place, tape.calls[place]) for place in tape.told)
    return {place: call for place, call in found if read.isdisjoint(call.results)}
