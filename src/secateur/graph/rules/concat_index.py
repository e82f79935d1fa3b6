"""Operations that put tensors together or pick parts of them by position.

What is picked by position along channels must stay: after pruning, position 5 is another channel.
"""

import numpy as np

from secateur.graph.labels import Factor, IntArray, Marks, align, along_dim, move_dims, with_new_dim
from secateur.graph.rules.broadcasting import (
    OVERLAPS,
    PICKS,
    channels_only,
    freeze_along,
    join,
    runs,
    stretched,
)
from secateur.graph.rules.context import RuleContext, rule
from secateur.graph.trace.tape import Call


@rule("cat", "concat", "concatenate")
def cat(context: RuleContext, call: Call) -> Marks:
    """Concatenation: labels in sequence along the dimension, joined across operands along the others."""
    shape = context.shape(call.outputs[0])
    dim = call.integer("dim") % len(shape)
    operands = []
    for place, marks in enumerate(context.operands(call, "tensors")):
        state = context.state(place)
        if state is not None:
            # The first state of a cell: a fill that stands for the channels of later ones.
            marks = marks.with_factors((*marks.factors, along_dim(state, dim, len(shape))))
        # torch lets an empty vector take part in any concatenation.
        if marks.shape != (0,):
            operands.append(marks)
    stacked = _along_dim(context, operands, dim)
    rest = []
    for marks in operands:
        others = tuple(factor for factor in marks.factors if factor.atoms.shape[dim] == 1)
        rest.append(Marks(_without(marks.shape, dim), others, marks.free, marks.weight))
    across = join(context.atoms, rest, _without(shape, dim))
    free = tuple(own != dim and across.free[own] for own in range(len(shape)))
    weight = all(marks.weight for marks in operands)
    return Marks(shape, (*across.factors, *stacked), free, weight)


def _along_dim(context: RuleContext, operands: list[Marks], dim: int) -> list[Factor]:
    if not any(marks.along(dim) for marks in operands):
        return []
    pieces = []
    for marks in operands:
        size = marks.shape[dim]
        blank = [1] * len(marks.shape)
        blank[dim] = size
        # An operand without channels along the dimension contributes constant positions.
        atoms: IntArray = np.full(blank, -1, dtype=np.int64)
        found = marks.along(dim)
        if len(found) > 1:
            for factor in found[1:]:
                context.atoms.freeze(factor.atoms, OVERLAPS)
        if found and found[0].column == dim:
            atoms = found[0].atoms
        elif found:
            context.atoms.freeze(found[0].atoms, "is concatenated along rows (heads, groups)")
        pieces.append(atoms)
    whole = np.broadcast_shapes(*(_without(piece.shape, dim) for piece in pieces))
    full = [
        np.broadcast_to(piece, tuple(piece.shape[dim] if d == dim else n for d, n in enumerate(whole)))
        for piece in pieces
    ]
    return [Factor(np.concatenate(full, axis=dim), dim)]


def _without(shape: tuple[int, ...], dim: int) -> tuple[int, ...]:
    return (*shape[:dim], 1, *shape[dim + 1 :])


@rule("stack")
def stack(context: RuleContext, call: Call) -> Marks:
    """A new dimension: labels are joined across operands."""
    operands = context.operands(call, "tensors")
    joined = join(context.atoms, operands, operands[0].shape)
    shape = context.shape(call.outputs[0])
    dim = call.integer("dim") % len(shape)
    factors = tuple(with_new_dim(factor, dim) for factor in joined.factors)
    free = (*joined.free[:dim], False, *joined.free[dim:])
    return Marks(shape, factors, free, joined.weight)


@rule("constant_pad_nd")
def pad(context: RuleContext, call: Call) -> Marks:
    """Padding adds positions that no channel owns."""
    marks = context.of(call.tensor("self"))
    ndim, amounts = len(marks.shape), call.integers("pad")
    factors = list(marks.factors)
    # Amounts come in pairs, those of the last dimension first.
    for dim, before, after in zip(reversed(range(ndim)), amounts[::2], amounts[1::2], strict=False):
        for number, factor in enumerate(factors):
            if factor.atoms.shape[dim] == 1 or not (before or after):
                continue
            if before < 0 or after < 0 or factor.column != dim:
                context.atoms.freeze(factor.atoms, "is padded or cropped")
            widths = [(0, 0)] * ndim
            widths[dim] = (max(before, 0), max(after, 0))
            atoms = np.pad(factor.atoms, widths, constant_values=-1)
            start, size = max(-before, 0), atoms.shape[dim] - max(-before, 0) - max(-after, 0)
            factors[number] = Factor(atoms.take(range(start, start + size), dim), factor.column)
    return Marks(context.shape(call.outputs[0]), tuple(factors), (), marks.weight)


@rule("repeat")
def repeat(context: RuleContext, call: Call) -> Marks:
    """Repeat whole blocks along dimensions."""
    marks = context.of(call.tensor("self"))
    times = call.integers("repeats")
    factors = []
    for factor in (align(factor, len(times)) for factor in marks.factors):
        tiles = [count if factor.atoms.shape[dim] > 1 else 1 for dim, count in enumerate(times)]
        factors.append(Factor(np.tile(factor.atoms, tiles), factor.column))
    shape = context.shape(call.outputs[0])
    return Marks(shape, tuple(factors), stretched(marks, shape), marks.weight)


@rule("roll", "flip")
def rotate(context: RuleContext, call: Call) -> Marks:
    """Roll and flip move positions along some dimensions; channels there are frozen."""
    marks = context.of(call.tensor("self"))
    dims = {dim % len(marks.shape) for dim in call.integers("dims")} or set(range(len(marks.shape)))
    return freeze_along(context.atoms, marks, dims, PICKS)


@rule("channel_shuffle", "native_channel_shuffle")
def channel_shuffle(context: RuleContext, call: Call) -> Marks:
    """Channels as groups × width, read by width: every group keeps equally many."""
    marks = context.of(call.tensor("self"))
    batch, channels, *rest = marks.shape
    groups = call.integer("groups")
    # As its definition: split, transpose, merge.
    parted = context.reshaped(marks, (batch, groups, channels // groups, *rest))
    order = (0, 2, 1, *range(3, len(parted.shape)))
    factors = tuple(move_dims(factor, order, len(order)) for factor in parted.factors)
    swapped = Marks((batch, channels // groups, groups, *rest), factors, (), marks.weight)
    return context.reshaped(swapped, marks.shape)


@rule("pixel_shuffle", "pixel_unshuffle")
def pixel_shuffle(context: RuleContext, call: Call) -> Marks:
    """``C·r·r`` channels become ``C`` at r times the resolution, or the reverse: r·r go together."""
    marks = context.of(call.tensor("self"))
    shape = context.shape(call.outputs[0])
    dim = len(shape) - 3
    factors = [
        factor if factor.atoms.shape[dim] == 1 else _shuffled(context, factor, dim, shape[dim])
        for factor in channels_only(context.atoms, marks, tuple(range(dim + 1)), PICKS).factors
    ]
    return Marks(shape, tuple(factors), (), marks.weight)


def _shuffled(context: RuleContext, factor: Factor, dim: int, channels: int) -> Factor:
    size = factor.atoms.shape[dim]
    moved = np.moveaxis(factor.atoms, dim, -1)
    if size >= channels:
        narrow = runs(context.atoms, moved, size // channels)
    else:
        narrow = np.repeat(moved, channels // size, axis=-1)
    return Factor(np.moveaxis(narrow, -1, dim), dim)


@rule("embedding", "_embedding_bag", "_embedding_bag_forward_only")
def embedding(context: RuleContext, call: Call) -> tuple[Marks | None, ...]:
    """Rows of a table, one by one or summed in bags: all rows stay, and channels are their columns."""
    table = freeze_along(context.atoms, context.of(call.tensor("weight")), {0}, PICKS)
    shape = context.shape(call.outputs[0])
    for factor in table.factors:
        context.atoms.produces(factor.atoms)
    # A single index takes a row without a dimension for it.
    factors = tuple(along_dim(factor.atoms, len(shape) - 1, len(shape)) for factor in table.factors)
    return (Marks(shape, factors), *(None for _ in call.outputs[1:]))


@rule("gather")
def gather(context: RuleContext, call: Call) -> Marks:
    """Each position takes a value from elsewhere along ``dim``; other dimensions are those of the index."""
    source = context.of(call.tensor("self"))
    dim = call.integer("dim") % len(source.shape)
    shape, index = context.shape(call.outputs[0]), context.of(call.tensor("index"))
    # An index that is shorter than the source along another dimension reaches its first positions only.
    picked = {dim, *(own for own, size in enumerate(source.shape) if size != shape[own])}
    source, index = (freeze_along(context.atoms, marks, picked, PICKS) for marks in (source, index))
    return join(context.atoms, [Marks(shape, source.factors, (), source.weight), index], shape)


@rule("index_select")
def index_select(context: RuleContext, call: Call) -> Marks:
    """Pick by a list of positions: channels along ``dim`` stay, other dimensions pass."""
    source = context.of(call.tensor("self"))
    source = freeze_along(context.atoms, source, {call.integer("dim") % len(source.shape)}, PICKS)
    return Marks(context.shape(call.outputs[0]), source.factors, source.free, source.weight)


@rule("_pack_padded_sequence")
def pack(context: RuleContext, call: Call) -> tuple[Marks | None, ...]:
    """Steps × sequences without the padding, as one dimension; what is behind them passes."""
    data = freeze_along(context.atoms, context.of(call.tensor("input")), {0, 1}, PICKS)
    factors = tuple(Factor(factor.atoms[0], factor.column - 1) for factor in data.factors)
    free = (False, *data.free[2:])
    return Marks(context.shape(call.outputs[0]), factors, free, data.weight), None
