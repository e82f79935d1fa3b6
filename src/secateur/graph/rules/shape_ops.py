"""Operations that move data: the same operation moves the labels."""

from collections.abc import Iterable
from math import prod

import numpy as np

from secateur.graph.labels import Factor, IntArray, Marks, align, chunks, squash
from secateur.graph.rules.broadcasting import MIXES, PICKS, freeze_along, join, runs, stretched
from secateur.graph.rules.context import RuleContext, rule
from secateur.graph.trace.tape import Call


def _moved(factor: Factor, atoms: IntArray, column: int) -> Factor | None:
    atoms = squash(atoms, range(atoms.ndim))
    return Factor(atoms, column) if any(size > 1 for size in atoms.shape) else None


def _kept(factors: Iterable[Factor | None]) -> tuple[Factor, ...]:
    return tuple(factor for factor in factors if factor is not None)


@rule("view", "_unsafe_view", "reshape", "_reshape_alias", "flatten", "unflatten")
def view(context: RuleContext, call: Call) -> Marks:
    """Row-major reshape; features that become an image are channels as a whole."""
    marks, shape = context.of(call.tensor("self")), context.shape(call.outputs[0])
    for before, after in chunks(marks.shape, shape) if marks.factors else ():
        if len(before) != 1 or len(after) < 2 or not marks.along(before[0]):
            continue
        channels = context.channel_dim(call.outputs[0], after)
        if channels is not None and channels in after:
            positions = prod(shape[channels + 1 : after.stop])
            marks = _in_runs(context, marks, before[0], positions)
    return context.reshaped(marks, shape)


def _in_runs(context: RuleContext, marks: Marks, dim: int, length: int) -> Marks:
    """Join runs of this many neighbours along a dimension: the positions of one channel."""
    return marks.with_factors(
        tuple(
            _as_runs(context, factor, length) if factor.column == dim and length > 1 else factor
            for factor in marks.factors
        )
    )


def _as_runs(context: RuleContext, factor: Factor, length: int) -> Factor:
    """The same channels, of which runs of this many neighbours stay or go together."""
    joined = runs(context.atoms, np.moveaxis(factor.atoms, factor.column, -1), length)
    return Factor(np.moveaxis(np.repeat(joined, length, axis=-1), -1, factor.column), factor.column)


@rule("permute", "transpose", "t")
def permute(context: RuleContext, call: Call) -> Marks:
    """Reorder dimensions."""
    marks = context.of(call.tensor("self"))
    ndim = len(marks.shape)
    order = list(range(ndim))
    if call.name == "aten::permute":
        order = [dim % ndim for dim in call.integers("dims")]
    elif ndim > 1:
        first, second = (0, 1) if call.name == "aten::t" else (call.integer("dim0"), call.integer("dim1"))
        order[first], order[second] = order[second], order[first]
    factors = tuple(
        Factor(factor.atoms.transpose(order), order.index(factor.column)) for factor in marks.factors
    )
    free = tuple(marks.free[dim] for dim in order)
    return Marks(tuple(marks.shape[dim] for dim in order), factors, free, marks.weight)


@rule("triu", "tril")
def triangle(context: RuleContext, call: Call) -> Marks:
    """A triangle of a matrix: rows and columns of the same number stay or go together."""
    marks = context.of(call.tensor("self"))
    ndim = len(marks.shape)
    dims = {ndim - 2, ndim - 1}
    sides = [factor for factor in marks.factors if dims & set(factor.support)]
    # Which of two numbers is larger stays true in any choice of them; how far apart they are does not.
    ordered = call.integer("diagonal") in ((0, 1) if call.name.startswith("aten::triu") else (-1, 0))
    square = marks.shape[-2] == marks.shape[-1]
    if ordered and square and sorted(factor.support for factor in sides) == [(ndim - 2,), (ndim - 1,)]:
        context.atoms.union(sides[0].atoms.reshape(-1), sides[1].atoms.reshape(-1))
        return marks
    return freeze_along(context.atoms, marks, dims, PICKS)


@rule("as_strided")
def restride(context: RuleContext, call: Call) -> Marks | None:
    """A new memory layout of the same shape changes nothing; any other freezes its channels."""
    marks = context.of(call.tensor("self"))
    # Pooling of channels-last images restrides its result in place, without any effect on values.
    if call.name == "aten::as_strided_" and context.shape(call.outputs[0]) == marks.shape:
        return marks
    context.freeze_all(call, "is read through a hand-made memory layout")
    return None


@rule("view_as_real", "view_as_complex")
def complex_parts(context: RuleContext, call: Call) -> Marks:
    """Complex numbers as pairs in a last dimension of their own, or back."""
    marks = context.of(call.tensor("self"))
    back = call.name == "aten::view_as_complex"
    marks = freeze_along(context.atoms, marks, {len(marks.shape) - 1} if back else set(), MIXES)
    factors = tuple(
        Factor(factor.atoms[..., 0] if back else factor.atoms[..., None], factor.column)
        for factor in marks.factors
    )
    return Marks(context.shape(call.outputs[0]), factors, (), marks.weight)


@rule("unsqueeze", "squeeze")
def squeeze(context: RuleContext, call: Call) -> Marks:
    """Insert or drop dimensions of size 1: a reshape that keeps free dimensions free."""
    marks = context.of(call.tensor("self"))
    shape = context.shape(call.outputs[0])
    result = context.reshaped(marks, shape)
    sizes = [free for free, size in zip(marks.free, marks.shape, strict=True) if size > 1]
    if len(sizes) == sum(size > 1 for size in shape):
        left = iter(sizes)
        free = tuple(next(left) if size > 1 else False for size in shape)
        return Marks(shape, result.factors, free, marks.weight)
    return result


@rule("expand", "expand_as", "broadcast_to")
def expand(context: RuleContext, call: Call) -> Marks:
    """Broadcast: new positions are copies, so that these dimensions are free."""
    marks = context.of(call.tensor("self"))
    shape = context.shape(call.outputs[0])
    factors = tuple(align(factor, len(shape)) for factor in marks.factors)
    return Marks(shape, factors, stretched(marks, shape), marks.weight)


@rule("slice")
def slice_(context: RuleContext, call: Call) -> Marks:
    """A range of positions along one dimension."""
    marks = context.of(call.tensor("self"))
    shape = context.shape(call.outputs[0])
    dim = call.integer("dim") % len(shape)
    size = marks.shape[dim]
    step = call.integer("step")
    given = 0 if call.argument("start") is None else call.integer("start")
    start = min(max(given + (size if given < 0 else 0), 0), size)
    stop = start + shape[dim] * step
    if shape == marks.shape:
        return marks
    factors: list[Factor] = []
    for factor in marks.factors:
        if factor.atoms.shape[dim] == 1:
            factors.append(factor)
            continue
        if shape[dim] == 0:
            context.atoms.freeze(factor.atoms, PICKS)
            continue
        if dim == factor.column:
            if _counts_from_the_end(factor, dim, given):
                # It takes the same constants after pruning, and no channel.
                continue
            factor = _slice_channels(context, factor, dim, (start, min(stop, size), step))
        part = np.moveaxis(np.moveaxis(factor.atoms, dim, 0)[start:stop:step], 0, dim)
        moved = _moved(factor, part, factor.column)
        if moved is None:
            # One position per channel is left: which one was read would be forgotten.
            context.atoms.freeze(factor.atoms, PICKS)
        else:
            factors.append(moved)
    free = tuple(f and shape[d] > 1 for d, f in enumerate(marks.free))
    return Marks(shape, tuple(factors), free, marks.weight)


def _counts_from_the_end(factor: Factor, dim: int, start: int) -> bool:
    """Whether a slice takes only constants that lie behind the channels, counted from the end."""
    moved = np.moveaxis(factor.atoms, dim, -1)
    channels = moved.reshape(-1, moved.shape[-1]).max(axis=0) >= 0
    return start < 0 and not channels[start:].any() and bool(channels[:start].all())


def _slice_channels(context: RuleContext, factor: Factor, dim: int, part: tuple[int, int, int]) -> Factor:
    """A slice along channels: equal pieces keep equally many, other pieces a count of their own."""
    start, stop, step = part
    moved = np.moveaxis(factor.atoms, dim, -1)
    size = moved.shape[-1]
    # Code that slices like this again after pruning must find the same channels.
    if step > 1:
        if size % step or bool((moved < 0).any()):
            context.atoms.freeze(factor.atoms, PICKS)
            return factor
        # Every step-th channel: those between two of them stay or go with it.
        return _as_runs(context, factor, step)
    length = stop - start
    pieces = [moved[..., a:b] for a, b in ((0, start), (start, stop), (stop, size)) if a < b]
    if bool((moved < 0).any()):
        if bool((np.delete(moved, range(start, stop), -1) >= 0).any()):
            context.atoms.freeze(factor.atoms, PICKS)
    elif size % length == 0 and start % length == 0:
        context.atoms.equal_rows(moved.reshape(-1, length))
    else:
        for piece in pieces:
            context.atoms.part(piece)
            if moved.size > size:
                context.atoms.equal_rows(piece.reshape(-1, piece.shape[-1]))
    return factor


@rule("select", "unbind")
def select(context: RuleContext, call: Call) -> tuple[Marks, ...]:
    """One position, or each position, of a dimension."""
    marks = context.of(call.tensor("self"))
    dim = call.integer("dim") % len(marks.shape)
    indices = (
        [call.integer("index") % marks.shape[dim]]
        if call.name == "aten::select"
        else range(len(call.outputs))
    )
    results = []
    for index in indices:
        factors = []
        for factor in marks.factors:
            column = factor.column - (dim < factor.column)
            varies = factor.atoms.shape[dim] > 1
            if varies and factor.column == dim:
                context.atoms.freeze(factor.atoms, PICKS)
                continue
            factors.append(_moved(factor, np.take(factor.atoms, index if varies else 0, dim), column))
        shape = marks.shape[:dim] + marks.shape[dim + 1 :]
        free = marks.free[:dim] + marks.free[dim + 1 :]
        results.append(Marks(shape, _kept(factors), free, marks.weight))
    return tuple(results)


@rule("split", "split_with_sizes", "unsafe_split", "unsafe_split_with_sizes", "chunk", "unsafe_chunk")
def split(context: RuleContext, call: Call) -> tuple[Marks, ...]:
    """Consecutive pieces: equal ones keep equally many channels."""
    marks = context.of(call.tensor("self"))
    dim = call.integer("dim") % len(marks.shape)
    sizes = [context.shape(number)[dim] for number in call.outputs]
    if len(sizes) == 1:
        # A chunk size beyond the width: nothing is split.
        return (marks,)
    return pieces(context, marks, dim, sizes)


@rule("glu")
def gated(context: RuleContext, call: Call) -> Marks:
    """One half times the sigmoid of the other: channels of the halves go in pairs."""
    marks = context.of(call.tensor("self"))
    dim = call.integer("dim") % len(marks.shape)
    halves = pieces(context, marks, dim, [marks.shape[dim] // 2] * 2)
    return join(context.atoms, list(halves), halves[0].shape)


def pieces(context: RuleContext, marks: Marks, dim: int, sizes: list[int]) -> tuple[Marks, ...]:
    """Consecutive pieces along a dimension: equal ones keep equally many channels."""
    for factor in marks.along(dim):
        if factor.column == dim and len(set(sizes)) == 1:
            moved = np.moveaxis(factor.atoms, dim, -1)
            context.atoms.equal_rows(moved.reshape(-1, sizes[0]))
    results, start = [], 0
    for size in sizes:
        factors = [
            factor
            if factor.atoms.shape[dim] == 1
            else _moved(factor, factor.atoms.take(range(start, start + size), dim), factor.column)
            for factor in marks.factors
        ]
        shape = (*marks.shape[:dim], size, *marks.shape[dim + 1 :])
        results.append(Marks(shape, _kept(factors), marks.free, marks.weight))
        start += size
    return tuple(results)
