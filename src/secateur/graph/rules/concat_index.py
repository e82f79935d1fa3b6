"""Operations that put pieces together or pick them by position: cat, stack, pad, repeat, shuffle, index."""

from typing import Any

import numpy as np

from secateur.graph.labels import Factor, IntArray, Marks, place
from secateur.graph.rules import rule
from secateur.graph.rules.broadcasting import collapse, freeze_along, join
from secateur.graph.rules.shape_ops import PICKS


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
        for number, factor in enumerate(factors):
            if factor.atoms.shape[dim] == 1 or not (before or after):
                continue
            if before < 0 or after < 0 or factor.column != dim:
                tracer.atoms.freeze(factor.atoms, "is padded or cropped")
            widths = [(0, 0)] * ndim
            widths[dim] = (max(before, 0), max(after, 0))
            atoms = np.pad(factor.atoms, widths, constant_values=-1)
            start, size = max(-before, 0), atoms.shape[dim] - max(-before, 0) - max(-after, 0)
            factors[number] = Factor(atoms.take(range(start, start + size), dim), factor.column)
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


@rule("channel_shuffle", "native_channel_shuffle")
def channel_shuffle(tracer: Any, call: Any) -> Any:
    """Channels as groups × width, read by width: every group keeps equally many."""
    bound = call.bind()
    marks = tracer.of(bound["self"])
    batch, channels, *rest = marks.shape
    groups = bound["groups"]
    parted = tracer.reshaped(marks, (batch, groups, channels // groups, *rest))
    order = (0, 2, 1, *range(3, len(parted.shape)))
    factors = tuple(place(factor, order, len(order)) for factor in parted.factors)
    swapped = Marks((batch, channels // groups, groups, *rest), factors, (), marks.weight)
    return tracer.reshaped(swapped, marks.shape)


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


@rule("embedding", "_embedding_bag", "_embedding_bag_forward_only")
def embedding(tracer: Any, call: Any) -> Any:
    """Rows of a table, single or summed up in bags: the rows stay, their width passes."""
    table = freeze_along(tracer.atoms, tracer.of(call.bind()["weight"]), {0}, PICKS)
    shape = tracer.shape(call.outputs[0])
    shift = len(shape) - len(table.shape)
    for factor in table.factors:
        tracer.atoms.produces(factor.atoms)
    factors = tuple(
        Factor(factor.atoms.reshape((1,) * shift + factor.atoms.shape), factor.column + shift)
        for factor in table.factors
    )
    return (Marks(shape, factors), *(None for _ in call.outputs[1:]))


@rule("gather")
def gather(tracer: Any, call: Any) -> Any:
    """Each position takes its value from another along ``dim``; the other dimensions are the index's, too."""
    bound = call.bind()
    source = tracer.of(bound["self"])
    dim = bound["dim"] % len(source.shape)
    source = freeze_along(tracer.atoms, source, {dim}, PICKS)
    shape = tracer.shape(call.outputs[0])
    return join(
        tracer.atoms, [Marks(shape, source.factors, (), source.weight), tracer.of(bound["index"])], shape
    )


@rule("index_select")
def index_select(tracer: Any, call: Any) -> Any:
    """Picking by a list of positions: what is indexed must stay, other dimensions pass."""
    bound = call.bind()
    source = tracer.of(bound["self"])
    source = freeze_along(tracer.atoms, source, {bound["dim"] % len(source.shape)}, PICKS)
    return Marks(tracer.shape(call.outputs[0]), source.factors, (), source.weight)


@rule("index")
def index(tracer: Any, call: Any) -> Any:
    """Picking by index tensors along some dimensions at once."""
    bound = call.bind()
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
