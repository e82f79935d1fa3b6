"""States that begin as fills: before its first step a recurrent cell concatenates zeros with its input.

The zeros stand for channels that only the next step shows, at the same concatenation of the same line.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping

import numpy as np

from secateur.graph.labels import Factor, IntArray, Marks
from secateur.graph.ops import Does, operations
from secateur.graph.trace.tape import Call, Tape

_FILLS = operations(Does.FILL)

States = dict[tuple[int, int], IntArray]
"""The labels that a fill stands for, by the position of the concatenation and of the operand."""


def first_states(tape: Tape, trial: Callable[[], Mapping[int, Marks]]) -> States:
    """What the fills among the operands of repeated concatenations stand for.

    ``trial`` gives the labels of all values as they are without this; it is called only where fills are
    concatenated at a line that runs more than once.
    """
    repeated = _repeated(tape)
    if not repeated or not any(call.name in _FILLS for call in tape.calls):
        return {}
    marks = trial()
    found: States = {}
    for places in repeated:
        dim = _dim(tape, tape.calls[places[0]])
        for operand in range(len(tape.calls[places[0]].tensors("tensors"))):
            known = [_along(tape, marks, place, operand, dim) for place in places]
            atoms = next((one for one in known if one is not None), None)
            for place in places:
                number = _operand(tape, place, operand)
                if (
                    atoms is not None
                    and number is not None
                    and marks[number].free[dim]
                    and not marks[number].along(dim)
                ):
                    found[place, operand] = atoms
    return found


def _repeated(tape: Tape) -> list[list[int]]:
    """Positions of concatenations of the same shapes at the same line of the same module."""
    together: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for position, call in enumerate(tape.calls):
        if call.name == "aten::cat" and call.source:
            shapes = tuple(tape.values[number].shape for number in call.refs)
            together[call.module, call.source, shapes, call.argument("dim")].append(position)
    return [places for places in together.values() if len(places) > 1 and tape.calls[places[0]].refs]


def _dim(tape: Tape, call: Call) -> int:
    return call.integer("dim") % max(1, max(len(tape.values[number].shape) for number in call.refs))


def _operand(tape: Tape, place: int, operand: int) -> int | None:
    ref = tape.calls[place].tensors("tensors")[operand]
    # An empty vector may take part in any concatenation.
    return None if ref is None or len(tape.values[ref.id].shape) < 2 else ref.id


def _along(tape: Tape, marks: Mapping[int, Marks], place: int, operand: int, dim: int) -> IntArray | None:
    """The labels of an operand along the dimension, if they are a plain vector of channels."""
    number = _operand(tape, place, operand)
    factors = [] if number is None else marks[number].along(dim)
    if len(factors) != 1 or factors[0].support != (dim,) or bool((factors[0].atoms < 0).any()):
        return None
    return factors[0].atoms.reshape(-1)


def stood_for(tape: Tape, marks: Mapping[int, Marks], call: Call) -> list[Factor]:
    """The labels in a concatenation that its operands, fills, only stand for."""
    result = call.outputs[0]
    if call.name != "aten::cat" or result is None:
        return []
    dim = _dim(tape, call)
    found: list[Factor] = []
    bounds = np.cumsum([0, *(tape.values[number].shape[dim] for number in call.refs)])
    for number, start, stop in zip(call.refs, bounds[:-1], bounds[1:], strict=True):
        if marks[number].free[dim] and not marks[number].along(dim):
            here = range(start, stop)
            found += [Factor(factor.atoms.take(here, dim), dim) for factor in marks[result].along(dim)]
    return found
