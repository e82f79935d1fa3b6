"""Which dimension of a value holds its channels, as the operations that read it later have it.

A reshape of ``C·H·W`` features to ``[C, H, W]`` does not say which of them are channels; the convolution or
normalisation behind it does.
"""

from collections.abc import Mapping

import torch

from secateur.graph.rules import concat_index, contract, normalization, pointwise, spatial
from secateur.graph.rules.context import Rule, find
from secateur.graph.trace.tape import Call, Tape

_SECOND: tuple[Rule, ...] = (
    *(contract.convolution, normalization.batch_norm, normalization.group_norm),
    *(spatial.sampled, concat_index.channel_shuffle),
)
_SAME: tuple[Rule, ...] = (pointwise.elementwise, concat_index.cat, concat_index.pad, concat_index.rotate)


def readers(tape: Tape) -> dict[int, list[int]]:
    """Positions of the calls that read each value."""
    found: dict[int, list[int]] = {}
    for position, call in enumerate(tape.calls):
        for number in dict.fromkeys(call.refs):
            found.setdefault(number, []).append(position)
    return found


def channel_dim(tape: Tape, read_by: Mapping[int, list[int]], number: int) -> int | None:
    """The dimension of a value that the first reader with channels takes as such, ``None`` without one.

    Element-wise operations, padding, concatenations and new orders of dimensions are followed.
    """
    ndim = len(tape.values[number].shape)
    queue, seen = [(number, tuple(range(ndim)))], {number}
    for value, dims in queue:
        for position in read_by.get(value, ()):
            call = tape.calls[position]
            if (dim := _channels(tape, call, value)) is not None:
                return dims[dim]
            turned = _turned(tape, call, dims)
            for out in call.outputs if turned is not None else ():
                if out is not None and turned is not None and out not in seen:
                    seen.add(out)
                    queue.append((out, turned))
    return None


def _channels(tape: Tape, call: Call, value: int) -> int | None:
    """The dimension of channels of an operation that has one, if ``value`` is what it works on."""
    rule, ndim = find(call.name), len(tape.values[value].shape)
    if call.refs[0] != value or ndim < 2:
        return None
    if rule in _SECOND:
        return 1
    if rule is spatial.spatial:
        return max(0, ndim - spatial.trailing(call) - 1)
    return ndim - 3 if rule is concat_index.pixel_shuffle and ndim > 2 else None


def _turned(tape: Tape, call: Call, dims: tuple[int, ...]) -> tuple[int, ...] | None:
    """The original dimension of each one of the result, ``None`` where it cannot be followed."""
    ndim = len(dims)
    if call.name == "aten::permute":
        return tuple(dims[dim % ndim] for dim in call.integers("dims"))
    if call.name == "aten::transpose":
        order = list(dims)
        first, second = call.integer("dim0"), call.integer("dim1")
        order[first], order[second] = order[second], order[first]
        return tuple(order)
    rule = find(call.name)
    alike = rule in _SAME or (rule is None and torch.Tag.pointwise in call.op.tags)
    shapes = [tape.values[out].shape for out in call.outputs if out is not None]
    return dims if alike and all(len(shape) == ndim for shape in shapes) else None
