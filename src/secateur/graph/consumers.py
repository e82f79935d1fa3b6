"""Which dimension of a value holds its channels, as the operations that read it later have it.

A reshape of ``C·H·W`` features to ``[C, H, W]`` does not say which of them are channels; the convolution or
normalisation behind it does.
"""

from collections.abc import Mapping

import torch

from secateur.graph.labels import chunks
from secateur.graph.ops import Does, operations
from secateur.graph.rules import concat_index, contract, normalization, pointwise, reduce, spatial
from secateur.graph.rules.context import Rule, find
from secateur.graph.trace.tape import Call, Tape

_SECOND: tuple[Rule, ...] = (
    *(contract.convolution, normalization.batch_norm, normalization.group_norm),
    *(spatial.sampled, concat_index.channel_shuffle),
)
_RESHAPES = operations(Does.RESHAPE)
_SAME: tuple[Rule, ...] = (pointwise.elementwise, concat_index.cat, concat_index.pad, concat_index.rotate)


def channel_dim(tape: Tape, read_by: Mapping[int, list[int]], number: int, split: range) -> int | None:
    """The dimension of a value that the first reader with channels takes as such, ``None`` without one.

    ``split`` are the dimensions in question, into which one was split: readers that merge several of them
    again (a shuffle of channels) do not tell. Element-wise operations, padding, concatenations, merged
    dimensions and new orders of dimensions are followed.
    """
    ndim = len(tape.values[number].shape)
    queue, seen = [(number, tuple(range(ndim)))], {number}
    for value, dims in queue:
        for position in read_by.get(value, ()):
            call = tape.calls[position]
            if (dim := _channels(tape, call, value)) is not None:
                return dims[dim] if dims[dim] >= 0 else None
            turned = _turned(tape, call, dims, split)
            if turned is not None:
                new = [out for out in call.results if out not in seen]
                seen.update(new)
                queue += [(out, turned) for out in new]
    return None


def _channels(tape: Tape, call: Call, value: int) -> int | None:
    """The dimension of channels of an operation that has one, if ``value`` is what it works on."""
    rule, ndim = find(call.name), len(tape.values[value].shape)
    if call.refs[0] != value or ndim < 2:
        return None
    if rule in _SECOND:
        return 1
    if rule is normalization.layer_norm and len(call.integers("normalized_shape")) == 1:
        return ndim - 1
    if rule is reduce.reduction:
        # Positions of an image that are averaged leave its channels; a single dimension may be anything.
        gone = {dim % ndim for dim in call.integers("dim")}
        return 1 if len(gone) > 1 and gone == set(range(2, ndim)) else None
    if rule is spatial.spatial:
        return max(0, ndim - spatial.trailing(call) - 1)
    return ndim - 3 if rule is concat_index.pixel_shuffle and ndim > 2 else None


def _turned(tape: Tape, call: Call, dims: tuple[int, ...], split: range) -> tuple[int, ...] | None:
    """The original dimension of each one of the result, ``None`` where it cannot be followed."""
    ndim = len(dims)
    if call.name == "aten::permute":
        return tuple(dims[dim % ndim] for dim in call.integers("dims"))
    if call.name == "aten::transpose":
        order = list(dims)
        first, second = call.integer("dim0"), call.integer("dim1")
        order[first], order[second] = order[second], order[first]
        return tuple(order)
    if call.name in _RESHAPES:
        return _reshaped(tape, call, dims, split)
    rule = find(call.name)
    alike = rule in _SAME or (rule is None and torch.Tag.pointwise in call.op.tags)
    return dims if alike and all(len(tape.values[out].shape) == ndim for out in call.results) else None


def _reshaped(tape: Tape, call: Call, dims: tuple[int, ...], split: range) -> tuple[int, ...] | None:
    """Of merged dimensions the innermost one; nothing where a dimension is split."""
    before = tape.values[call.refs[0]].shape
    after = tape.values[call.results[0]].shape
    found = [-1] * len(after)
    for old, new in chunks(before, after):
        inner = [dim for dim in old if before[dim] > 1]
        wide = [dim for dim in new if after[dim] > 1]
        merged = sum(dims[dim] in split for dim in inner)
        if (len(wide) > 1 and len(old) != len(new)) or (len(wide) == 1 and merged > 1):
            return None
        for place, dim in enumerate(wide):
            found[dim] = dims[inner[-1] if len(wide) == 1 else old[place]]
    return tuple(found)
