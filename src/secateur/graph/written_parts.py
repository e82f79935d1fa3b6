"""What is written into a slice of a tensor, in the dimensions of the tensor that owns the memory."""

from secateur.graph.labels import Factor, with_new_dim
from secateur.graph.ops import Does, operations
from secateur.graph.trace.tape import Tape

_ONE = frozenset({"aten::select"})
_PARTS, _RESHAPES = operations(Does.PART), operations(Does.RESHAPE)


def in_owner(tape: Tape, number: int, root: int, factors: tuple[Factor, ...]) -> tuple[Factor, ...] | None:
    """Labels of a slice or single position in the dimensions of its owner; None for other views."""
    makers = {out: call for call in tape.calls for out in call.outputs}
    # A reshape in between would move the labels to other dimensions than the owner's.
    while number != root:
        call = makers.get(number)
        if call is None:
            return None
        same = tape.values[number].shape == tape.values[call.refs[0]].shape
        if call.name not in _PARTS | _ONE and not (call.name in _RESHAPES and same):
            return None
        number = call.refs[0]
        if call.name in _ONE:
            dim = call.integer("dim") % len(tape.values[number].shape)
            factors = tuple(with_new_dim(one, dim) for one in factors)
    return factors


def spans(factors: tuple[Factor, ...], shape: tuple[int, ...]) -> bool:
    """Whether the written part holds all channels along the dimensions that have them."""
    return all(factor.atoms.shape[dim] == shape[dim] for factor in factors for dim in factor.support)
