"""Match the calls of the dense run of a model to those of its pruned run."""

from collections.abc import Iterator, Mapping
from difflib import SequenceMatcher

from secateur.graph.ops import Does, operations
from secateur.graph.trace.tape import Call, Tape

_COPIES, _RESHAPES = operations(Does.LAYOUT), operations(Does.RESHAPE)
_DETOURS = 12


def computing_calls(tape: Tape) -> list[int]:
    """Positions of the calls that compute something; copies and allocations are left out."""
    return [place for place, call in enumerate(tape.calls) if call.name not in _COPIES]


def _key(call: Call) -> tuple[str, str]:
    return "aten::view" if call.name in _RESHAPES else call.name, call.module


def match_calls(dense: Tape, pruned: Tape) -> tuple[dict[int, int], int | None]:
    """Matching positions, and the first call of ``dense`` that ``pruned`` lacks at its end, if any."""
    mine, theirs = computing_calls(dense), computing_calls(pruned)
    keys, others = [_key(dense.calls[i]) for i in mine], [_key(pruned.calls[i]) for i in theirs]
    common = next((n for n, (a, b) in enumerate(zip(keys, others, strict=False)) if a != b), None)
    if common is None:
        found = dict(zip(mine, theirs, strict=False))
        return found, mine[len(theirs)] if len(theirs) < len(mine) else None
    found = dict(zip(mine[:common], theirs[:common], strict=True))
    last = common
    # Devices differ in how they write constants into tensors; the rest is matched by longest common runs.
    matcher = SequenceMatcher(None, keys[common:], others[common:], autojunk=False)
    for block in matcher.get_matching_blocks():
        for number in range(block.size):
            found[mine[common + block.a + number]] = theirs[common + block.b + number]
            last = common + block.a + number + 1
    return found, mine[last] if last < len(mine) else None


def detours(tape: Tape) -> int:
    """How many draws more than one are worth a try, as code that decides by numbers may take another way."""
    return _DETOURS if tape.decides() else 0


def departs(dense: Tape, pruned: Tape) -> bool:
    """Whether the pruned run does something else than the dense one, rather than stopping early."""
    mine, theirs = ([_key(tape.calls[place]) for place in computing_calls(tape)] for tape in (dense, pruned))
    return theirs != mine[: len(theirs)]


def matched_results(
    dense: Tape, pruned: Tape, matches: Mapping[int, int]
) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """Each matched call of ``dense``, with the numbers of its results in both tapes, in order.

    Results that nothing reads are left out: side results of kernels (the bags of an embedding bag) have other
    shapes in other precisions.
    """
    read = {number for call in dense.calls for number in call.refs} | set(dense.outputs)
    for place, twin in matches.items():
        pairs = zip(dense.calls[place].outputs, pruned.calls[twin].outputs, strict=False)
        yield (
            place,
            [
                (mine, theirs)
                for number, (mine, theirs) in enumerate(pairs)
                if mine is not None and theirs is not None and (number == 0 or mine in read)
            ],
        )
