"""Runs a tape again, in float64, with other parameters, and with removed channels masked to zero.

Masks are applied to the result of every operation, so that activations with f(0) ≠ 0 are covered. Where an
operation takes statistics over the channels themselves (layer norm, softmax, mean), it runs on the kept
channels alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from secateur.graph import depthwise
from secateur.graph.labels import Factor, Marks
from secateur.graph.tape import Call, Recorder, Ref, Tape

_NARROW = {torch.float32, torch.float16, torch.bfloat16}
_VIEWS = {"aten::view", "aten::_unsafe_view", "aten::_reshape_alias"}
# What is zero stays zero in these: their results need no mask.
_PASSING = _VIEWS | {
    f"aten::{name}"
    for name in (
        *("reshape", "permute", "transpose", "t", "unsqueeze", "squeeze", "expand", "clone", "contiguous"),
        *("detach", "alias", "_to_copy", "slice", "split", "split_with_sizes", "unbind", "relu", "relu_"),
    )
}
Keep = npt.NDArray[np.bool_]


def widen(thing: Any) -> Any:
    """Float tensors and float types in arguments become float64."""
    if isinstance(thing, Tensor):
        return thing.double() if thing.dtype in _NARROW else thing
    if isinstance(thing, torch.dtype):
        return torch.float64 if thing in _NARROW else thing
    if isinstance(thing, (list, tuple)):
        return type(thing)(widen(item) for item in thing)
    return thing


class WideRecorder(Recorder):  # type: ignore[no-untyped-call]
    """Records a run in float64: casts to narrower types on the way are widened too."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not func._schema.is_mutable:
            args = self._widen(args)
        kwargs = {key: widen(value) for key, value in (kwargs or {}).items()}
        return super().__torch_dispatch__(func, types, args, kwargs)

    def _widen(self, thing: Any) -> Any:
        if isinstance(thing, Tensor) and thing.dtype in _NARROW:
            wide = thing.double()
            self._leaves[id(wide)] = self.number(thing)
            self._alive.append(wide)
            return wide
        if isinstance(thing, (list, tuple)):
            return type(thing)(self._widen(item) for item in thing)
        return widen(thing) if isinstance(thing, torch.dtype) else thing


@dataclass
class Masks:
    """Which atoms are kept, what the values' labels are, and the pruned run to take constants from.

    ``keep`` has one more entry, which is true, for the positions that no channel owns (-1).
    """

    keep: Keep
    marks: Mapping[int, Marks]
    statistics: frozenset[int]
    pruned: Tape
    twins: Mapping[int, int]
    _stays: dict[Factor, Keep | None] = field(default_factory=dict, init=False, repr=False)
    _sizes: dict[int, tuple[int, ...]] = field(default_factory=dict, init=False, repr=False)

    def of(self, factor: Factor) -> Keep | None:
        """Which positions of a factor stay, ``None`` if all do."""
        if factor not in self._stays:
            kept = self.keep[factor.atoms]
            self._stays[factor] = None if kept.all() else kept
        return self._stays[factor]

    def cut(self, number: int) -> list[Factor]:
        """The factors of a value that lose positions."""
        return [factor for factor in self.marks[number].factors if self.of(factor) is not None]

    def kept(self, number: int) -> list[tuple[int, Keep]]:
        """The dimensions of a value that shrink, and which positions stay: those that every factor keeps."""
        found: dict[int, Keep] = {}
        for factor in self.marks[number].factors:
            if (kept := self.of(factor)) is None:
                continue
            found[factor.column] = found[factor.column] & kept if factor.column in found else kept
        return list(found.items())

    def expected_shape(self, number: int) -> tuple[int, ...]:
        """The shape of a value after surgery."""
        if number not in self._sizes:
            shape = list(self.marks[number].shape)
            for column, kept in self.kept(number):
                row = [0 if dim != column else slice(None) for dim in range(kept.ndim)]
                shape[column] = int(np.count_nonzero(kept[tuple(row)]))
            self._sizes[number] = tuple(shape)
        return self._sizes[number]

    def fits(self, number: int, shape: tuple[int, ...]) -> bool:
        """Whether a value may have this shape after surgery; free dimensions may have any size."""
        expected = self.expected_shape(number)
        if shape == expected:
            return True
        free = self.marks[number].free
        return len(shape) == len(expected) and all(
            a == b or anything for a, b, anything in zip(shape, expected, free, strict=True)
        )

    def apply(self, number: int, tensor: Tensor) -> Tensor:
        """Set removed positions to zero; weights need not be, what they produce is masked."""
        if not tensor.is_floating_point() or self.marks[number].weight:
            return tensor
        for _, stays in self.kept(number):
            kept = torch.from_numpy(stays).to(tensor.device)
            tensor = torch.where(kept, tensor, torch.zeros((), dtype=tensor.dtype, device=tensor.device))
        return tensor

    def compact(self, number: int, tensor: Tensor) -> Tensor:
        """Drop removed positions."""
        for column, kept in self.kept(number):
            tensor = torch.take_along_dim(tensor, _positions(kept, column).to(tensor.device), column)
        return tensor

    def spread(self, number: int, tensor: Tensor) -> Tensor:
        """Undo ``compact``: removed positions are zero."""
        for column, kept in reversed(self.kept(number)):
            shape = list(tensor.shape)
            shape[column] = self.marks[number].shape[column]
            where = _positions(kept, column).to(tensor.device).expand(tensor.shape)
            blank = torch.zeros(shape, dtype=tensor.dtype, device=tensor.device)
            tensor = blank.scatter(column, where, tensor)
        return tensor


def _positions(kept: Keep, column: int) -> Tensor:
    """Where the kept positions along a dimension are, in order."""
    count = int(kept.sum(axis=column).min())
    order = np.argsort(~kept, axis=column, kind="stable").take(range(count), column)
    return torch.from_numpy(np.ascontiguousarray(order))


def replay(
    tape: Tape,
    state: Mapping[str, Tensor],
    inputs: list[Tensor],
    masks: Masks | None = None,
    watch: Callable[[int, Call, list[Any]], None] | None = None,
) -> list[Tensor]:
    """Run the tape's operations with the parameters in ``state``; differentiable with respect to ``inputs``.

    ``watch(position, call, results)`` sees every result.
    """
    values = dict(zip(tape.inputs, (item.clone() for item in inputs), strict=True))
    for number, value in enumerate(tape.values):
        if value.kind in {"parameter", "buffer"}:
            held = state[value.name]
            # A table that a layer reads (coordinates) is no result of an operation that would mask it.
            values[number] = masks.apply(number, held) if masks and value.kind == "buffer" else held
    values |= {number: widen(tensor) for number, tensor in tape.constants.items()}
    last = _last_uses(tape)
    for position, call in enumerate(tape.calls):
        twin = None
        if masks is not None:
            twin = masks.pruned.calls[masks.twins[position]] if position in masks.twins else call
        results = _run(call, twin, values, masks, position)
        values.update((out, item) for out, item in zip(call.outputs, results, strict=True) if out is not None)
        for item in results:
            if isinstance(item, Tensor) and item.requires_grad:
                item.register_hook(_same_layout(item))  # type: ignore[no-untyped-call]
        if watch is not None:
            watch(position, call, results)
        for number in last.get(position, ()):
            values.pop(number, None)
    return [values[number] for number in tape.outputs]


def _same_layout(result: Tensor) -> Callable[[Tensor | None], Tensor | None]:
    """Gives gradients the memory layout of their tensor.

    torch 2.13 on CPUs returns wrong float64 gradients where a contiguous image meets channels-last gradients.
    """
    last = result.ndim == 4 and not result.is_contiguous()
    layout = torch.contiguous_format
    if last and result.is_contiguous(memory_format=torch.channels_last):
        layout = torch.channels_last
    return lambda gradient: None if gradient is None else gradient.contiguous(memory_format=layout)


def _last_uses(tape: Tape) -> dict[int, list[int]]:
    final: dict[int, int] = {}
    for position, call in enumerate(tape.calls):
        for number in [*call.refs, *(out for out in call.outputs if out is not None)]:
            final[number] = position
    gone: dict[int, list[int]] = {}
    for number, position in final.items():
        if number not in tape.outputs:
            gone.setdefault(position, []).append(number)
    return gone


def _run(
    call: Call, twin: Call | None, values: Mapping[int, Tensor], masks: Masks | None, position: int
) -> list[Any]:
    if call.name == "aten::as_strided_":
        return [values[call.refs[0]]]
    # A value that was masked may lie in memory differently, so that a view must be allowed to copy.
    op = torch.ops.aten.reshape if call.name in _VIEWS else call.op
    if call.name == "aten::convolution":
        op = _convolution
    if masks is None or twin is None:
        return _flat(op(*_filled(call.args, values), **_filled(dict(call.kwargs), values)))
    if position in masks.statistics and any(masks.cut(number) for number in call.refs):
        compacted = {number: masks.compact(number, values[number]) for number in call.refs}
        arguments = _with_refs(twin.args, call.args)
        named = {key: _with_refs(value, call.kwargs.get(key)) for key, value in twin.kwargs.items()}
        results = _flat(op(*_filled(arguments, compacted), **_filled(named, compacted)))
        return [
            masks.spread(number, result) if number is not None else result
            for number, result in zip(call.outputs, results, strict=True)
        ]
    arguments = _with_floats(call.args, twin.args)
    named = {key: _with_floats(value, twin.kwargs.get(key)) for key, value in call.kwargs.items()}
    results = _flat(op(*_filled(arguments, values), **_filled(named, values)))
    if call.name in _PASSING:
        return results
    return [
        masks.apply(number, result) if number is not None and isinstance(result, Tensor) else result
        for number, result in zip(call.outputs, results, strict=True)
    ]


def _convolution(*args: Any) -> Tensor:
    if depthwise.applies(args):
        return depthwise.convolve(args)
    result: Tensor = torch.ops.aten.convolution.default(*args)
    return result


def _flat(result: Any) -> list[Any]:
    return list(result) if isinstance(result, (tuple, list)) else [result]


def _filled(thing: Any, values: Mapping[int, Tensor]) -> Any:
    if isinstance(thing, Ref):
        return widen(values[thing.id])
    if isinstance(thing, dict):
        return {key: _filled(item, values) for key, item in thing.items()}
    if isinstance(thing, (list, tuple)):
        return type(thing)(_filled(item, values) for item in thing)
    return widen(thing)


def _with_floats(mine: Any, other: Any) -> Any:
    """My arguments, with floating-point constants of the other call (they may depend on widths)."""
    if isinstance(mine, float) and isinstance(other, float):
        return other
    if isinstance(mine, (list, tuple)) and isinstance(other, (list, tuple)) and len(mine) == len(other):
        return type(mine)(_with_floats(a, b) for a, b in zip(mine, other, strict=True))
    return mine


def _with_refs(other: Any, mine: Any) -> Any:
    """The other call's arguments, with my tensors."""
    if isinstance(mine, Ref):
        return mine
    if isinstance(mine, (list, tuple)) and isinstance(other, (list, tuple)) and len(mine) == len(other):
        return type(other)(_with_refs(a, b) for a, b in zip(other, mine, strict=True))
    return other
