"""Data movement applies the same operation to the labels."""

from typing import Any

import numpy as np

from secateur.graph.labels import Factor, IntArray, Marks, squash
from secateur.graph.rules import rule
from secateur.graph.rules.broadcasting import join

PICKS = "picks channels by position"


def _moved(factor: Factor, atoms: IntArray, column: int) -> Factor | None:
    atoms = squash(atoms, range(atoms.ndim))
    return Factor(atoms, column) if any(size > 1 for size in atoms.shape) else None


def _kept(factors: list[Factor | None]) -> tuple[Factor, ...]:
    return tuple(factor for factor in factors if factor is not None)


@rule("view", "_unsafe_view", "reshape", "_reshape_alias", "flatten", "unflatten")
def view(tracer: Any, call: Any) -> Any:
    """Row-major reshape."""
    return tracer.reshaped(tracer.of(call.bind()["self"]), tracer.shape(call.outputs[0]))


@rule("permute", "transpose", "t", "numpy_T", "movedim", "swapaxes")
def permute(tracer: Any, call: Any) -> Any:
    """Reorder dimensions."""
    bound = call.bind()
    marks = tracer.of(bound["self"])
    ndim = len(marks.shape)
    order = list(range(ndim))
    if call.name == "aten::permute":
        order = [dim % ndim for dim in bound["dims"]]
    elif ndim > 1:
        first, second = (0, 1) if call.name == "aten::t" else (bound["dim0"] % ndim, bound["dim1"] % ndim)
        order[first], order[second] = order[second], order[first]
    factors = tuple(
        Factor(factor.atoms.transpose(order), order.index(factor.column)) for factor in marks.factors
    )
    free = tuple(marks.free[dim] for dim in order)
    return Marks(tuple(marks.shape[dim] for dim in order), factors, free, marks.weight)


@rule("as_strided")
def restride(tracer: Any, call: Any) -> Any:
    """A new memory layout of the same shape changes nothing; anything else is not followed."""
    marks = tracer.of(call.bind()["self"])
    # Pooling of channels-last images restrides its result in place, and means nothing by it.
    if call.name == "aten::as_strided_" and tracer.shape(call.outputs[0]) == marks.shape:
        return marks
    tracer.freeze_all(call, "is read through a hand-made memory layout")
    return None


@rule("unsqueeze", "squeeze")
def squeeze(tracer: Any, call: Any) -> Any:
    """Insert or drop dimensions of size 1: a reshape that keeps free dimensions free."""
    marks = tracer.of(call.bind()["self"])
    shape = tracer.shape(call.outputs[0])
    result = tracer.reshaped(marks, shape)
    sizes = [free for free, size in zip(marks.free, marks.shape, strict=True) if size > 1]
    if len(sizes) == sum(size > 1 for size in shape):
        left = iter(sizes)
        free = tuple(next(left) if size > 1 else False for size in shape)
        return Marks(shape, result.factors, free, marks.weight)
    return result


@rule("expand", "expand_as", "broadcast_to")
def expand(tracer: Any, call: Any) -> Any:
    """Broadcast: the new positions carry no meaning of their own."""
    marks = tracer.of(call.bind()["self"])
    shape = tracer.shape(call.outputs[0])
    missing = len(shape) - len(marks.shape)
    factors = tuple(
        Factor(factor.atoms.reshape((1,) * missing + factor.atoms.shape), factor.column + missing)
        for factor in marks.factors
    )
    free = tuple(
        size > 1 and (dim < missing or marks.shape[dim - missing] == 1 or marks.free[dim - missing])
        for dim, size in enumerate(shape)
    )
    return Marks(shape, factors, free, marks.weight)


@rule("slice", "narrow")
def slice_(tracer: Any, call: Any) -> Any:
    """A range of positions along one dimension."""
    bound = call.bind()
    marks = tracer.of(bound["self"])
    shape = tracer.shape(call.outputs[0])
    dim = bound["dim"] % len(shape)
    size = marks.shape[dim]
    start = min(max((bound["start"] or 0) + (size if (bound["start"] or 0) < 0 else 0), 0), size)
    step = bound.get("step") or 1
    stop = start + shape[dim] * step
    if shape == marks.shape:
        return marks
    factors = []
    for factor in marks.factors:
        if factor.atoms.shape[dim] == 1:
            factors.append(factor)
            continue
        if dim == factor.column:
            if _counts_from_the_end(factor, dim, bound["start"] or 0):
                continue
            factor = _cut(tracer, factor, dim, (start, min(stop, size), step))
        part = np.moveaxis(np.moveaxis(factor.atoms, dim, 0)[start:stop:step], 0, dim)
        moved = _moved(factor, part, factor.column)
        if moved is None:
            tracer.atoms.freeze(factor.atoms, PICKS)
        factors.append(moved)
    free = tuple(f and shape[d] > 1 for d, f in enumerate(marks.free))
    return Marks(shape, _kept(factors), free, marks.weight)


def _counts_from_the_end(factor: Factor, dim: int, start: int) -> bool:
    """Whether a slice takes constants behind the channels alone, wherever these end."""
    moved = np.moveaxis(factor.atoms, dim, -1)
    channels = moved.reshape(-1, moved.shape[-1]).max(axis=0) >= 0
    return start < 0 and not channels[start:].any() and bool(channels[:start].all())


def _cut(tracer: Any, factor: Factor, dim: int, part: tuple[int, int, int]) -> Factor:
    """Channels are cut at positions: equal pieces keep equally many, other pieces keep their own count."""
    start, stop, step = part
    moved = np.moveaxis(factor.atoms, dim, -1)
    size = moved.shape[-1]
    if step > 1:
        if size % step or bool((moved < 0).any()):
            tracer.atoms.freeze(factor.atoms, PICKS)
            return factor
        # Every step-th channel: those between two of them stay or go with it.
        runs = moved.reshape(*moved.shape[:-1], size // step, step)
        joined = np.repeat(tracer.atoms.merge(runs, [runs.ndim - 1])[..., 0], step, axis=-1)
        return Factor(np.moveaxis(joined, -1, dim), factor.column)
    length = stop - start
    pieces = [moved[..., a:b] for a, b in ((0, start), (start, stop), (stop, size)) if a < b]
    if bool((moved < 0).any()):
        if bool((np.delete(moved, range(start, stop), -1) >= 0).any()):
            tracer.atoms.freeze(factor.atoms, PICKS)
    elif size % length == 0 and start % length == 0:
        tracer.atoms.equal_rows(moved.reshape(-1, length))
    else:
        for piece in pieces:
            tracer.atoms.part(piece)
            if moved.size > size:
                tracer.atoms.equal_rows(piece.reshape(-1, piece.shape[-1]))
    return factor


@rule("select", "unbind")
def select(tracer: Any, call: Any) -> Any:
    """One position, or each position, of a dimension."""
    bound = call.bind()
    marks = tracer.of(bound["self"])
    dim = bound["dim"] % len(marks.shape)
    indices = [bound["index"] % marks.shape[dim]] if call.name == "aten::select" else range(len(call.outputs))
    results = []
    for index in indices:
        factors = []
        for factor in marks.factors:
            column = factor.column - (dim < factor.column)
            varies = factor.atoms.shape[dim] > 1
            if varies and factor.column == dim:
                tracer.atoms.freeze(factor.atoms, PICKS)
                continue
            factors.append(_moved(factor, factor.atoms.take(index if varies else 0, dim), column))
        shape = marks.shape[:dim] + marks.shape[dim + 1 :]
        free = marks.free[:dim] + marks.free[dim + 1 :]
        results.append(Marks(shape, _kept(factors), free, marks.weight))
    return tuple(results)


@rule("split", "split_with_sizes", "unsafe_split", "unsafe_split_with_sizes", "chunk", "unsafe_chunk")
def split(tracer: Any, call: Any) -> Any:
    """Consecutive pieces: equal ones keep equally many channels."""
    bound = call.bind()
    marks = tracer.of(bound["self"])
    dim = bound["dim"] % len(marks.shape)
    sizes = [tracer.shape(number)[dim] for number in call.outputs]
    if len(sizes) == 1:
        return (marks,)
    return pieces(tracer, marks, dim, sizes)


@rule("glu")
def gated(tracer: Any, call: Any) -> Any:
    """One half times a gate made of the other: channel by channel they go together."""
    bound = call.bind()
    marks = tracer.of(bound["self"])
    dim = bound["dim"] % len(marks.shape)
    halves = pieces(tracer, marks, dim, [marks.shape[dim] // 2] * 2)
    return join(tracer.atoms, list(halves), halves[0].shape)


def pieces(tracer: Any, marks: Marks, dim: int, sizes: list[int]) -> tuple[Marks, ...]:
    """Consecutive pieces along a dimension: equal ones keep equally many channels."""
    for factor in marks.along(dim):
        if factor.column == dim and len(set(sizes)) == 1:
            moved = np.moveaxis(factor.atoms, dim, -1)
            tracer.atoms.equal_rows(moved.reshape(-1, sizes[0]))
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
