"""Replay a tape in float64 with given parameters, and with removed channels masked to zero.

The mask is applied after every operation, because activations with f(0) ≠ 0 turn zeros into other numbers.
Operations that take statistics over the channels themselves (layer norm, softmax, mean) run on the kept
channels alone, and so do those of weights alone, which are not masked.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from secateur.cpu import depthwise
from secateur.graph.channel_masks import ChannelMasks
from secateur.graph.ops import Does, operations
from secateur.graph.trace.decisions import as_decided
from secateur.graph.trace.tape import Call, Ref, Tape
from secateur.proof.float64 import to_float64
from secateur.proof.following_widths import with_numbers
from secateur.proof.rounding import WIDE
from secateur.surgery.perturbed import Perturbed

_VIEWS, _PASSING, _LIFT = (operations(that) for that in (Does.RESHAPE, Does.ZERO, Does.LITERAL))
_DISTANCES, _SUMMING = operations(Does.DISTANCE), operations(Does.SUM | Does.MATMUL)


class Values(dict[int, Tensor]):
    """Values of a run by number; parameters, buffers and constants are loaded on first access."""

    def __init__(
        self,
        tape: Tape,
        state: Mapping[str, Tensor],
        masks: ChannelMasks | None,
        *,
        start: Mapping[int, Tensor],
    ) -> None:
        super().__init__(start)
        self._tape, self._state, self._masks = tape, state, masks
        self._names: dict[int, str] = {}
        self._watched: list[StorageWeakRef] = []

    def __missing__(self, number: int) -> Tensor:
        value = self._tape.values[number]
        if value.kind not in {"parameter", "buffer"}:
            self[number] = held = cast(Tensor, to_float64(self._constant(number)))
            return held
        held = self._state[value.name]
        if self._masks is not None and value.kind == "buffer":
            # Buffers read directly (tables of coordinates) are no results, so the mask is applied here.
            held = self._masks.apply(number, held)
        elif isinstance(self._state, Perturbed):
            memory = held.untyped_storage()
            self._names[memory._cdata] = value.name
            # A weak reference keeps the address from being given to another storage.
            self._watched.append(StorageWeakRef(memory))  # type: ignore[no-untyped-call]
        self[number] = held
        return held

    def _constant(self, number: int) -> Tensor:
        """A constant; scalars come from the pruned run, as they may depend on widths (1/sqrt(d)).

        So do numbers that the pruned run, in float64, only rounds less.
        """
        own = self._tape.constants[number]
        if self._masks is None:
            return own
        other = self._in_pruned(number, own)
        return other if not own.ndim or _rounded(own, other) else own

    def _in_pruned(self, number: int, own: Tensor) -> Tensor:
        assert self._masks is not None
        pruned, twins = self._masks.pruned, self._masks.matches
        for place, call in enumerate(self._tape.calls):
            if number in call.refs and place in twins:
                theirs = pruned.calls[twins[place]].refs[call.refs.index(number)]
                lifted = {out: c.refs[0] for c in pruned.calls if c.name in _LIFT for out in c.outputs}
                return pruned.constants.get(lifted.get(theirs, theirs), own)
            if call.refs == (number,) and call.name in _LIFT:
                number = cast(int, call.outputs[0])
        return own

    def building_again(self) -> AbstractContextManager[object]:
        """Inside, autograd saves names of perturbed weights, which are built again in the backward pass."""
        if not isinstance(self._state, Perturbed):
            return nullcontext()
        return torch.autograd.graph.saved_tensors_hooks(self._packed, self._unpacked)

    def _packed(self, tensor: Tensor) -> Any:
        name = self._names.get(tensor.untyped_storage()._cdata)
        return tensor if name is None else (name, tensor.shape, tensor.stride(), tensor.storage_offset())

    def _unpacked(self, packed: Any) -> Tensor:
        if isinstance(packed, Tensor):
            return packed
        name, *geometry = packed
        return self._state[name].as_strided(*geometry)


def replay(
    tape: Tape,
    state: Mapping[str, Tensor],
    inputs: list[Tensor],
    masks: ChannelMasks | None = None,
    watch: Callable[[int, Call, list[Any]], None] | None = None,
) -> list[Tensor]:
    """Run the tape's operations with the parameters in ``state``; differentiable with respect to ``inputs``.

    ``watch(position, call, results)`` sees every result.
    """
    start = dict(zip(tape.inputs, (item.clone() for item in inputs), strict=True))
    values = Values(tape, state, masks, start=start)
    run_calls(tape, values, masks, span=(0, len(tape.calls)), watch=watch)
    return [values[number] for number in tape.outputs]


def run_calls(
    tape: Tape,
    values: Values,
    masks: ChannelMasks | None,
    *,
    span: tuple[int, int],
    watch: Callable[[int, Call, list[Any]], None] | None = None,
) -> None:
    """Run the operations of ``span``; values are dropped after their last use on the tape."""
    last = _last_uses(tape)
    for position in range(*span):
        call, twin = tape.calls[position], None
        if masks is not None:
            twin = masks.pruned.calls[masks.matches[position]] if position in masks.matches else call
        results = _run(call, twin, values, masks, position)
        if position in tape.decided:
            results = as_decided(results, tape.decided[position])
        values.update((out, item) for out, item in zip(call.outputs, results, strict=True) if out is not None)
        for item in results:
            if isinstance(item, Tensor) and item.requires_grad:
                item.register_hook(_same_layout(item))  # type: ignore[no-untyped-call]
        if watch is not None:
            watch(position, call, results)
        for number in last.get(position, ()):
            values.pop(number, None)


def _rounded(own: Tensor, other: Tensor) -> bool:
    """Whether two constants are the same numbers, but for the rounding of the narrower type."""
    if own.shape != other.shape or not (own.is_floating_point() and other.is_floating_point()):
        return False
    room = 4 * max(torch.finfo(own.dtype).eps, torch.finfo(other.dtype).eps)
    return own.dtype != other.dtype and torch.allclose(own.double(), other.double(), rtol=room, atol=0.0)


def _same_layout(result: Tensor) -> Callable[[Tensor | None], Tensor | None]:
    """A hook that gives gradients the memory layout of their tensor.

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
        for number in [*call.refs, *call.results]:
            final[number] = position
    gone: dict[int, list[int]] = {}
    for number, position in final.items():
        if number not in tape.outputs:
            gone.setdefault(position, []).append(number)
    return gone


def _run(
    call: Call, twin: Call | None, values: Mapping[int, Tensor], masks: ChannelMasks | None, position: int
) -> list[Any]:
    if call.name == "aten::as_strided_" or (call.name == "aten::copy_" and _onto_itself(call, values)):
        return [values[call.refs[0]]]
    # Masking may change strides, and a view of other strides may need a copy.
    op: Callable[..., Any] = torch.ops.aten.reshape if call.name in _VIEWS else WIDE.get(call.op, call.op)
    if call.name == "aten::convolution":
        op = _convolution
    if masks is None or twin is None:
        return _flat(op(*_filled(call.args, values), **_filled(dict(call.kwargs), values)))
    alone = position in masks.statistics or _takes_weights(call, twin, masks)
    if alone and any(masks.loses_channels(number) for number in call.refs):
        compacted = {number: masks.compact(number, values[number]) for number in call.refs}
        arguments = _with_refs(twin.args, call.args)
        named = {key: _with_refs(value, call.kwargs.get(key)) for key, value in twin.kwargs.items()}
        results = _flat(op(*_filled(arguments, compacted), **_filled(named, compacted)))
        return [
            _spread(masks, number, result) if number is not None else result
            for number, result in zip(call.outputs, results, strict=True)
        ]
    arguments, named = with_numbers(masks, call, twin)
    results = _flat(op(*_filled(arguments, values), **_filled(named, values)))
    if call.name in _PASSING:
        return results
    return [
        masks.apply(number, result) if number is not None and isinstance(result, Tensor) else result
        for number, result in zip(call.outputs, results, strict=True)
    ]


def _spread(masks: ChannelMasks, number: int, result: Tensor) -> Tensor:
    """A result of the kept channels at their places; weights are one elsewhere, as others divide by them."""
    spread = masks.scatter(number, result)
    if not masks.marks[number].weight:
        return spread
    return torch.where(masks.scatter(number, torch.ones_like(result)) > 0, spread, torch.ones_like(spread))


def _takes_weights(call: Call, twin: Call, masks: ChannelMasks) -> bool:
    """Whether weights enter a result that their removed channels would change: they are not masked."""
    # Dimensions that may take any size (copies) are not labelled: they do not shrink where others do.
    shapes = [masks.pruned.values[number].shape for number in twin.refs] if twin is not call else []
    if any(True in masks.marks[number].free for number in call.refs) and shapes != [
        masks.expected_shape(number) for number in call.refs
    ]:
        return False
    mine = [masks.marks[number] for number in call.refs]
    summed = call.name in _SUMMING and all(marks.weight and not marks.whole for marks in mine)
    return summed or call.name in _DISTANCES


def _onto_itself(call: Call, values: Mapping[int, Tensor]) -> bool:
    """Whether a copy writes a tensor onto itself, as ``x[1:] += y`` ends; its gradient would be slow."""
    target, *sources = (values[number] for number in call.refs)
    return all(
        source.data_ptr() == target.data_ptr()
        and source.dtype == target.dtype
        and source.shape == target.shape
        and source.stride() == target.stride()
        for source in sources
    )


def _convolution(*args: Any) -> Tensor:
    if depthwise.applies(args):
        return depthwise.convolve(args)
    result: Tensor = torch.ops.aten.convolution.default(*args)
    return result


def _flat(result: Any) -> list[Any]:
    return list(result) if isinstance(result, (tuple, list)) else [result]


def _filled(thing: Any, values: Mapping[int, Tensor]) -> Any:
    if isinstance(thing, Ref):
        return to_float64(values[thing.id])
    if isinstance(thing, dict):
        return {key: _filled(item, values) for key, item in thing.items()}
    if isinstance(thing, (list, tuple)):
        return type(thing)(_filled(item, values) for item in thing)
    return to_float64(thing)


def _with_refs(other: Any, mine: Any) -> Any:
    """The arguments ``other`` with the tensors of ``mine``."""
    if isinstance(mine, Ref):
        return mine
    if isinstance(mine, (list, tuple)) and isinstance(other, (list, tuple)) and len(mine) == len(other):
        return type(other)(_with_refs(a, b) for a, b in zip(other, mine, strict=True))
    return other
