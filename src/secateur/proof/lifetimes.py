"""Choose gradient-checkpoint boundaries where few activations are live."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import prod

import numpy as np

from secateur.graph.labels import IntArray
from secateur.graph.ops import Does, operations
from secateur.graph.trace.tape import Call, Tape, mutates

SAVED_BYTES = 320 * 2**20
"""Up to this many bytes of float64 activations saved for the backward pass, no boundary is needed."""
_MOST = 16
_LIGHT, _GIVING = operations(Does.SAVES_NOTHING), operations(Does.SAVES_RESULT)
_SCALING = operations(Does.SAVES_FACTORS)


def choose_boundaries(tape: Tape, kept: int = SAVED_BYTES) -> list[int]:
    """The calls before which a new segment begins, so that few bytes are saved for the backward pass at once.

    None where one piece keeps no more than ``kept`` bytes. Of pieces, the values that cross the cuts are
    kept, and the results of one piece. The last piece need not run twice: the fewest pieces that keep no more
    than ``kept`` are taken, or, where none do, those that keep least.
    """
    sizes = saved_bytes(tape)
    least = sum(sizes)
    if least <= kept:
        return []
    places = _possible_boundaries(tape)
    best: list[int] = []
    before = [0, *accumulate(sizes)]
    for pieces in range(2, _MOST + 1):
        found = _spread(before, places, before[-1] / pieces)
        largest = max(before[end] - before[begin] for begin, end in pairwise([0, *found, len(sizes)]))
        need = largest + places.crossing(found)
        if need < least:
            best, least = found, need
        if least <= kept:
            break
    return best


def saved_bytes(tape: Tape) -> list[int]:
    """Estimated bytes of the results of each call that autograd saves for the backward pass."""
    wanted: set[int] = set()
    for call in tape.calls:
        read = {tape.values[number].root for number in call.refs}
        made = {tape.values[number].root for number in call.results}
        is_view = made <= read and not mutates(call.op)
        scales = call.name in _SCALING and len(read) == 1
        if not (call.name in _LIGHT or is_view or scales):
            wanted |= made if call.name in _GIVING else read
    return [sum(_bytes(tape, number) for number in call.results if number in wanted) for call in tape.calls]


def lifetimes(tape: Tape) -> dict[int, tuple[int, int]]:
    """For each input and result the call that makes it (-1: none) and its last reader (outputs: the end)."""
    lives = dict.fromkeys(tape.inputs, (-1, -1))
    for position, call in enumerate(tape.calls):
        for number in call.results:
            lives.setdefault(number, (position, position))
        for number in call.refs:
            if number in lives:
                lives[number] = (lives[number][0], position)
    for number in tape.outputs:
        if number in lives:
            lives[number] = (lives[number][0], len(tape.calls))
    return lives


def writes_parameters(tape: Tape) -> bool:
    """Whether the forward pass writes into parameters."""
    return any(tape.values[root].kind == "parameter" for call in tape.calls for root in _written(tape, call))


@dataclass(frozen=True)
class _Boundaries:
    """Possible boundaries in order, live bytes before each call, and (born, last use, bytes) per storage."""

    allowed: list[int]
    alive: IntArray
    owners: list[tuple[int, int, int]]

    def crossing(self, found: Sequence[int]) -> int:
        """Bytes that are live across at least one of the boundaries."""
        return sum(
            size for born, last, size in self.owners if bisect_right(found, born) < bisect_right(found, last)
        )


def _possible_boundaries(tape: Tape) -> _Boundaries:
    """Boundaries at which no live storage is written to later, as each segment runs twice from its start."""
    end = len(tape.calls)
    lives: dict[int, tuple[int, int]] = {}
    for number, (born, last) in lifetimes(tape).items():
        root = tape.values[number].root
        first, latest = lives.get(root, (born, last))
        lives[root] = (min(first, born), max(latest, last))
    blocked = np.zeros(end + 2, dtype=np.int64)
    for position, call in enumerate(tape.calls):
        for root in _written(tape, call):
            born, last = lives.get(root, (-1, end))
            # Parameters and constants are read anew for each segment, so no boundary may precede a write.
            made = tape.values[root].kind == "result"
            blocked[born + 1 if made else 0] += 1
            blocked[(position if made else max(last, position)) + 1] -= 1
    alive = np.zeros(end + 2, dtype=np.int64)
    owners = [(born, last, _bytes(tape, root)) for root, (born, last) in lives.items()]
    for born, last, size in owners:
        alive[born + 1] += size
        alive[last + 1] -= size
    free = np.flatnonzero(blocked.cumsum()[:end] == 0)
    return _Boundaries([int(place) for place in free if place > 0], alive.cumsum(), owners)


def _spread(before: Sequence[int], places: _Boundaries, target: float) -> list[int]:
    """Boundaries so that segments, counted from the end, save ``target`` bytes or down to half of it."""
    found: list[int] = []
    end = len(before) - 1
    while before[end] > target:
        low = bisect_left(places.allowed, bisect_left(before, before[end] - target))
        high = bisect_right(places.allowed, bisect_right(before, before[end] - target / 2) - 1)
        # Without a possible boundary in the window the segment gets longer.
        window = places.allowed[low:high] or places.allowed[max(low - 1, 0) : low]
        if not window:
            break
        end = min(window, key=lambda place: (int(places.alive[place]), place))
        found.append(end)
    return found[::-1]


def _written(tape: Tape, call: Call) -> set[int]:
    """The storages that a call writes to, by the value that owns them."""
    if not mutates(call.op):
        return set()
    owners = {tape.values[number].root for number in call.refs}
    results = {tape.values[number].root for number in call.results}
    return owners & results or owners


def _bytes(tape: Tape, number: int) -> int:
    """Bytes of a value in float64."""
    value = tape.values[number]
    return prod(value.shape) * (8 if value.dtype.is_floating_point else value.dtype.itemsize)
