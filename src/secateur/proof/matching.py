"""Match the calls of the dense run of a model to those of its pruned run."""

from difflib import SequenceMatcher

from secateur.graph.ops import Does, operations
from secateur.graph.trace.tape import Call, Tape

_COPIES, _RESHAPES = operations(Does.LAYOUT), operations(Does.RESHAPE)


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
