"""Multiply-adds of a tape, by the formulas of ``torch.utils.flop_counter``."""

from collections.abc import Callable
from typing import Any

from torch.utils.flop_counter import flop_registry

from secateur.graph.ops import Does, operations
from secateur.graph.trace.tape import Ref, Tape

_PRODUCTS = operations(Does.MATMUL)


def macs(tape: Tape, shape_of: Callable[[int], tuple[int, ...]] | None = None) -> int:
    """Multiply-adds of the recorded forward pass (flops of FlopCounterMode // 2), for its whole batch.

    ``shape_of`` gives other shapes for the values, such as those after surgery.

    >>> import torch
    >>> from secateur.graph import trace
    >>> macs(trace(torch.nn.Linear(4, 3), torch.zeros(2, 4)).tape)
    24
    """
    find = shape_of or (lambda number: tape.values[number].shape)
    total = 0
    for call in tape.calls:
        formula = flop_registry.get(call.op._overloadpacket)
        if formula is not None:
            shapes = _agreed(call.name, [_shape(find, argument) for argument in call.args])
            named = {key: _shape(find, argument) for key, argument in call.kwargs.items()}
            outputs = tuple(find(number) for number in call.results)
            result = outputs[0] if len(outputs) == 1 else outputs
            # torch's formulas are wrapped to take tensors, and these are shapes already.
            plain = getattr(formula, "__wrapped__", None)
            total += int(
                plain(*shapes, **named, out_shape=result)
                if plain
                else formula(*shapes, **named, out_val=result)
            )
    # torch counts a multiplication and an addition as two.
    return total // 2


def _agreed(name: str, shapes: list[Any]) -> list[Any]:
    """The shapes of a matrix product with equal inner dimensions.

    A hidden state that starts as zeros carries no labels, so that its expected shape is the dense one; the
    other argument has the size after surgery.
    """
    if name in _PRODUCTS:
        *others, left, right = shapes
        inner = min(left[-1], right[-2])
        return [*others, (*left[:-1], inner), (*right[:-2], inner, right[-1])]
    return shapes


def _shape(find: Callable[[int], tuple[int, ...]], argument: Any) -> Any:
    if isinstance(argument, Ref):
        return find(argument.id)
    if isinstance(argument, (list, tuple)):
        return type(argument)([_shape(find, item) for item in argument])
    return argument
