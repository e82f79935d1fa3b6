"""Data movement applies the same operation to the labels."""

from typing import Any

import numpy as np

from secateur.graph.labels import Factor, IntArray, Marks, squash
from secateur.graph.rules import rule
from secateur.graph.rules.join import collapse, freeze_along, join

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
            _note_slice(tracer, factor, dim, (start, min(stop, size), step))
        part = np.moveaxis(np.moveaxis(factor.atoms, dim, 0)[start:stop:step], 0, dim)
        moved = _moved(factor, part, factor.column)
        if moved is None:
            tracer.atoms.freeze(factor.atoms, PICKS)
        factors.append(moved)
    free = tuple(f and shape[d] > 1 for d, f in enumerate(marks.free))
    return Marks(shape, _kept(factors), free, marks.weight)


def _note_slice(tracer: Any, factor: Factor, dim: int, part: tuple[int, int, int]) -> None:
    """Channels are cut at a position: halves keep equally many, any other cut keeps its own count."""
    start, stop, step = part
    size = factor.atoms.shape[dim]
    length = stop - start
    if step == 1 and size % length == 0 and start % length == 0:
        moved = np.moveaxis(factor.atoms, dim, -1)
        tracer.atoms.equal_rows(moved.reshape(-1, length))
    else:
        tracer.atoms.freeze(factor.atoms, PICKS)


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


@rule("cat", "concat", "concatenate")
def cat(tracer: Any, call: Any) -> Any:
    """Concatenation: labels in sequence along the dimension, joined across operands along the others."""
    bound = call.bind()
    operands = [tracer.of(ref) for ref in bound["tensors"]]
    operands = [marks for marks in operands if marks.shape != (0,)]
    shape = tracer.shape(call.outputs[0])
    dim = bound["dim"] % len(shape)
    stacked = _along_dim(tracer, operands, dim)
    rest = []
    for marks in operands:
        others = tuple(factor for factor in marks.factors if factor.atoms.shape[dim] == 1)
        flat = tuple(1 if place == dim else size for place, size in enumerate(marks.shape))
        rest.append(Marks(flat, others, marks.free, marks.weight))
    across = join(tracer.atoms, rest, tuple(1 if place == dim else size for place, size in enumerate(shape)))
    free = tuple(False if place == dim else across.free[place] for place in range(len(shape)))
    weight = all(marks.weight for marks in operands)
    return Marks(shape, (*across.factors, *stacked), free, weight)


def _along_dim(tracer: Any, operands: list[Marks], dim: int) -> list[Factor]:
    if not any(marks.along(dim) for marks in operands):
        return []
    pieces = []
    for marks in operands:
        size = marks.shape[dim]
        blank = [1] * len(marks.shape)
        blank[dim] = size
        atoms: IntArray = np.full(blank, -1, dtype=np.int64)
        found = marks.along(dim)
        if len(found) > 1:
            for factor in found[1:]:
                tracer.atoms.freeze(factor.atoms, "overlaps with differently arranged channels")
        if found and found[0].column == dim:
            atoms = found[0].atoms
        elif found:
            tracer.atoms.freeze(found[0].atoms, "is concatenated along rows (heads, groups)")
        pieces.append(atoms)
    whole = np.broadcast_shapes(*(_without(piece.shape, dim) for piece in pieces))
    full = [
        np.broadcast_to(piece, tuple(piece.shape[dim] if d == dim else n for d, n in enumerate(whole)))
        for piece in pieces
    ]
    return [Factor(np.concatenate(full, axis=dim), dim)]


def _without(shape: tuple[int, ...], dim: int) -> tuple[int, ...]:
    return tuple(1 if place == dim else size for place, size in enumerate(shape))


@rule("stack")
def stack(tracer: Any, call: Any) -> Any:
    """A new dimension: labels are joined across operands."""
    bound = call.bind()
    operands = [tracer.of(ref) for ref in bound["tensors"]]
    joined = join(tracer.atoms, operands, operands[0].shape)
    shape = tracer.shape(call.outputs[0])
    dim = bound["dim"] % len(shape)
    factors = tuple(
        Factor(np.expand_dims(factor.atoms, dim), factor.column + (dim <= factor.column))
        for factor in joined.factors
    )
    return Marks(shape, factors, (), joined.weight)


@rule("constant_pad_nd")
def pad(tracer: Any, call: Any) -> Any:
    """Padding adds positions that no channel owns."""
    bound = call.bind()
    marks = tracer.of(bound["self"])
    ndim = len(marks.shape)
    amounts = {ndim - 1 - i // 2: tuple(bound["pad"][i : i + 2]) for i in range(0, len(bound["pad"]), 2)}
    factors = list(marks.factors)
    for dim, (before, after) in amounts.items():
        for place, factor in enumerate(factors):
            if factor.atoms.shape[dim] == 1 or not (before or after):
                continue
            if before < 0 or after < 0 or factor.column != dim:
                tracer.atoms.freeze(factor.atoms, "is padded or cropped")
            widths = [(0, 0)] * ndim
            widths[dim] = (max(before, 0), max(after, 0))
            atoms = np.pad(factor.atoms, widths, constant_values=-1)
            start, size = max(-before, 0), atoms.shape[dim] - max(-before, 0) - max(-after, 0)
            factors[place] = Factor(atoms.take(range(start, start + size), dim), factor.column)
    return Marks(tracer.shape(call.outputs[0]), tuple(factors), (), marks.weight)


@rule("repeat", "tile")
def repeat(tracer: Any, call: Any) -> Any:
    """Repeat whole blocks along dimensions."""
    bound = call.bind()
    marks = tracer.of(bound["self"])
    times = list(bound.get("repeats") or bound.get("dims"))
    missing = len(times) - len(marks.shape)
    factors = []
    for factor in marks.factors:
        atoms = factor.atoms.reshape((1,) * missing + factor.atoms.shape)
        tiles = [count if atoms.shape[dim] > 1 else 1 for dim, count in enumerate(times)]
        factors.append(Factor(np.tile(atoms, tiles), factor.column + missing))
    shape = tracer.shape(call.outputs[0])
    free = tuple(
        size > 1 and (dim < missing or marks.shape[dim - missing] == 1 or marks.free[dim - missing])
        for dim, size in enumerate(shape)
    )
    return Marks(shape, tuple(factors), free, marks.weight)


@rule("roll", "flip")
def rotate(tracer: Any, call: Any) -> Any:
    """Roll and flip move positions within a dimension; along channels only a flip keeps its meaning."""
    bound = call.bind()
    marks = tracer.of(bound["self"])
    dims = {dim % len(marks.shape) for dim in bound["dims"]} or set(range(len(marks.shape)))
    return freeze_along(tracer.atoms, marks, dims, PICKS)


@rule("pixel_shuffle", "pixel_unshuffle")
def pixel_shuffle(tracer: Any, call: Any) -> Any:
    """``C·r·r`` channels become ``C`` at r times the resolution, or the reverse: r·r go together."""
    bound = call.bind()
    marks = tracer.of(bound["self"])
    shape = tracer.shape(call.outputs[0])
    dim = len(shape) - 3
    factors = []
    for factor in marks.factors:
        kept = collapse(tracer.atoms, factor, tuple(range(dim + 1)))
        if kept is None:
            tracer.atoms.freeze(factor.atoms, PICKS)
        elif kept.atoms.shape[dim] == 1:
            factors.append(kept)
        else:
            factors.append(_shuffled(tracer, kept, dim, shape[dim]))
    return Marks(shape, tuple(factors), (), marks.weight)


def _shuffled(tracer: Any, factor: Factor, dim: int, channels: int) -> Factor:
    size = factor.atoms.shape[dim]
    moved = np.moveaxis(factor.atoms, dim, -1)
    if size >= channels:
        wide = moved.reshape((*moved.shape[:-1], channels, size // channels))
        narrow = tracer.atoms.merge(wide, [wide.ndim - 1])[..., 0]
    else:
        narrow = np.repeat(moved, channels // size, axis=-1)
    return Factor(np.moveaxis(narrow, -1, dim), dim)


@rule("index", "index_select", "embedding", "gather", "take_along_dim")
def index(tracer: Any, call: Any) -> Any:
    """Picking by an index tensor: what is indexed must stay, other dimensions pass."""
    bound = call.bind()
    if call.name == "aten::index":
        return _advanced(tracer, call, bound)
    source = tracer.of(bound["weight"] if call.name == "aten::embedding" else bound["self"])
    dim = 0 if call.name == "aten::embedding" else bound["dim"] % len(source.shape)
    source = freeze_along(tracer.atoms, source, {dim}, PICKS)
    shape = tracer.shape(call.outputs[0])
    if call.name == "aten::embedding":
        shift = len(shape) - len(source.shape)
        for factor in source.factors:
            tracer.atoms.produces(factor.atoms)
        factors = tuple(
            Factor(factor.atoms.reshape((1,) * shift + factor.atoms.shape), factor.column + shift)
            for factor in source.factors
        )
        return Marks(shape, factors)
    if call.name != "aten::index_select":
        tracer.freeze_all(call, PICKS)
        return None
    return Marks(shape, source.factors, (), source.weight)


def _advanced(tracer: Any, call: Any, bound: dict[str, Any]) -> Any:
    source = tracer.of(bound["self"])
    picked = [dim for dim, ref in enumerate(bound["indices"]) if ref is not None]
    source = freeze_along(tracer.atoms, source, set(picked), PICKS)
    for ref in bound["indices"]:
        if ref is not None:
            freeze_along(tracer.atoms, tracer.of(ref), set(range(len(tracer.of(ref).shape))), PICKS)
    shape = tracer.shape(call.outputs[0])
    adjacent = picked == list(range(picked[0], picked[-1] + 1))
    width = len(shape) - (len(source.shape) - len(picked))
    at = picked[0] if adjacent else 0
    rest = [dim for dim in range(len(source.shape)) if dim not in picked]
    place = {dim: number + (width if number >= at else 0) for number, dim in enumerate(rest)}
    factors = []
    for factor in source.factors:
        sizes = [1] * len(shape)
        for dim in factor.support:
            sizes[place[dim]] = factor.atoms.shape[dim]
        factors.append(Factor(factor.atoms.reshape(sizes), place[factor.column]))
    return Marks(shape, tuple(factors), (), source.weight)
