"""Multiply-adds of a tape, by the formulas of ``torch.utils.flop_counter``."""

from typing import Any

from torch.utils.flop_counter import flop_registry

from secateur.graph.tape import Ref, Tape


def macs(tape: Tape) -> int:
    """Multiply-adds of the recorded forward pass (flops of FlopCounterMode // 2), for its whole batch."""
    total = 0
    for call in tape.calls:
        formula = flop_registry.get(call.op._overloadpacket)
        if formula is not None:
            shapes = [_shape(tape, argument) for argument in call.args]
            named = {key: _shape(tape, argument) for key, argument in call.kwargs.items()}
            outputs = tuple(tape.values[number].shape for number in call.outputs if number is not None)
            total += int(formula(*shapes, **named, out_val=outputs[0] if len(outputs) == 1 else outputs))
    return total // 2


def _shape(tape: Tape, argument: Any) -> Any:
    if isinstance(argument, Ref):
        return tape.values[argument.id].shape
    if isinstance(argument, (list, tuple)):
        return type(argument)(_shape(tape, item) for item in argument)
    return argument
