"""Lays two tapes of one model side by side: which operation of the dense run is which of the pruned run."""

from secateur.graph.tape import Call, Tape

# Operations that come and go with the memory layout of their input, and change no value.
_COPIES = frozenset(
    f"aten::{name}"
    for name in ("clone", "contiguous", "_to_copy", "detach", "alias", "as_strided_", "lift_fresh", "empty")
)
_SAME = {
    "aten::_unsafe_view": "aten::view",
    "aten::_reshape_alias": "aten::view",
    "aten::reshape": "aten::view",
}


def steps(tape: Tape) -> list[int]:
    """Positions of the calls that do something."""
    return [place for place, call in enumerate(tape.calls) if call.name not in _COPIES]


def plain(call: Call) -> str:
    """The name of an operation, one name for all reshapes."""
    return _SAME.get(call.name, call.name)


def twins(dense: Tape, pruned: Tape) -> tuple[dict[int, int], int | None]:
    """Matching positions, and the first position of ``dense`` without a match (``None`` if all have one)."""
    found: dict[int, int] = {}
    theirs = steps(pruned)
    for number, place in enumerate(steps(dense)):
        if number >= len(theirs) or plain(pruned.calls[theirs[number]]) != plain(dense.calls[place]):
            return found, place
        found[place] = theirs[number]
    return found, None
