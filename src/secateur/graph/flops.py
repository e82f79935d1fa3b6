"""Multiply-adds of a tape, by the formulas of ``torch.utils.flop_counter``."""

from collections.abc import Callable
from typing import Any

from torch.utils.flop_counter import flop_registry

from secateur.graph.tape import Ref, Tape


def macs(tape: Tape, shape_of: Callable[[int], tuple[int, ...]] | None = None) -> int:
    """Multiply-adds of the recorded forward pass (flops of FlopCounterMode // 2), for its whole batch.

    ``shape_of`` gives other shapes for the values, such as those after surgery.
    """
    find = shape_of or (lambda number: tape.values[number].shape)
    total = 0
    for call in tape.calls:
        formula = flop_registry.get(call.op._overloadpacket)
        if formula is not None:
            shapes = [_shape(find, argument) for argument in call.args]
            named = {key: _shape(find, argument) for key, argument in call.kwargs.items()}
            outputs = tuple(find(number) for number in call.outputs if number is not None)
            total += int(formula(*shapes, **named, out_val=outputs[0] if len(outputs) == 1 else outputs))
    return total // 2


def _shape(find: Callable[[int], tuple[int, ...]], argument: Any) -> Any:
    if isinstance(argument, Ref):
        return find(argument.id)
    if isinstance(argument, (list, tuple)):
        return type(argument)(_shape(find, item) for item in argument)
    return argument
