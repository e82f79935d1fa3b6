"""What several rules share: labels that meet element by element, are summed over, or are frozen."""

from itertools import zip_longest

import numpy as np

from secateur.graph.atoms import Atoms
from secateur.graph.labels import Factor, IntArray, Marks, Shape, align

MEETS = "is combined with values that have no channels there (an input or a constant)"
PICKS = "picks channels by position"
CHOSEN = "is picked by a mask over channels, and how many are picked is counted"
COUNTS = "is counted: an index names the channel by its position"
MIXES = "is mixed over positions"
VARIES = "varies over positions"
OVERLAPS = "overlaps with differently arranged channels"


def broadcast_shape(shapes: list[Shape]) -> Shape:
    """The shape that operands of these shapes broadcast to."""
    return tuple(np.broadcast_shapes(*shapes)) if shapes else ()


def stretched(marks: Marks, shape: Shape) -> tuple[bool, ...]:
    """Which dimensions are free once a tensor is broadcast or tiled to ``shape``."""
    missing = len(shape) - len(marks.shape)
    return tuple(
        size > 1 and (dim < missing or marks.shape[dim - missing] == 1 or marks.free[dim - missing])
        for dim, size in enumerate(shape)
    )


def join(atoms: Atoms, operands: list[Marks], shape: Shape) -> Marks:
    """Labels of an element-wise operation: factors along the same dimensions are joined position by position.

    Channels that meet a tensor without channels there (an input, a table of constants) are frozen.
    """
    if len(operands) == 1 and operands[0].shape == shape:
        # Activation functions, the most frequent case.
        return operands[0]
    ndim = len(shape)
    lifted: list[dict[tuple[int, ...], list[Factor]]] = []
    kept: dict[tuple[int, ...], list[Factor]] = {}
    for operand in operands:
        mine: dict[tuple[int, ...], list[Factor]] = {}
        for factor in operand.factors:
            factor = align(factor, ndim)
            mine.setdefault(factor.support, []).append(factor)
        for support, group in mine.items():
            kept[support] = _pair(atoms, kept[support], group) if support in kept else group
        lifted.append(mine)
    for support in list(kept):
        for operand, mine in zip(operands, lifted, strict=True):
            if support in kept and support not in mine:
                _meet(atoms, kept, support, operand, mine, ndim)
    flat = tuple(factor for group in kept.values() for factor in group)
    # A short cut: one full operand without free dimensions settles all of them.
    if any(operand.shape == shape and True not in operand.free for operand in operands):
        free: tuple[bool, ...] = (False,) * ndim
    else:
        free = tuple(_free(operands, ndim, dim, shape[dim]) for dim in range(ndim))
    return Marks(shape, flat, free, all(operand.weight for operand in operands) and bool(operands))


def _pair(atoms: Atoms, old: list[Factor], new: list[Factor]) -> list[Factor]:
    paired = []
    for first, second in zip_longest(old, new):
        if first is None or second is None:
            paired.append(first or second)
        else:
            joined = atoms.union(first.atoms, second.atoms)
            paired.append(first if joined is first.atoms else Factor(joined, first.column))
    return paired


def _free(operands: list[Marks], ndim: int, dim: int, size: int) -> bool:
    for operand in operands:
        own = dim - (ndim - len(operand.shape))
        if own >= 0 and operand.shape[own] == size and size > 1 and not operand.free[own]:
            return False
    return size > 1 and bool(operands)


def _meet(
    atoms: Atoms,
    kept: dict[tuple[int, ...], list[Factor]],
    support: tuple[int, ...],
    operand: Marks,
    theirs: dict[tuple[int, ...], list[Factor]],
    ndim: int,
) -> None:
    """Decide about a factor where an operand has none along the same dimensions."""
    missing = ndim - len(operand.shape)
    extent = {
        dim
        for dim in support
        if dim >= missing and operand.shape[dim - missing] > 1 and not operand.free[dim - missing]
    }
    if not extent:
        # The operand is the same at all of these positions, whichever are removed.
        return
    group = kept[support]
    column = group[0].column
    touching = [factor for own, factors in theirs.items() if extent & set(own) for factor in factors]
    for factor in touching:
        inner, outer = set(factor.support), set(support)
        if factor.column == column and inner < outer:
            # Heads × width meets a vector over the width.
            _one_choice(atoms, kept, support, factor)
            return
        if factor.column == column and outer < inner:
            # The same, seen from the vector: its joint factor joins them.
            return
        if factor.column == column or column in inner:
            _drop(atoms, kept, support, OVERLAPS)
            return
        if factor.column in outer:
            why = "names whole rows (heads, groups) of which only the width is prunable"
            atoms.freeze(factor.atoms, why)
            _drop(atoms, kept, factor.support, why)
    # What is left differs from channel to channel, and has no labels to shrink by.
    if column in extent - {dim for factor in touching for dim in factor.support}:
        _drop(atoms, kept, support, MEETS)


def _one_choice(
    atoms: Atoms, kept: dict[tuple[int, ...], list[Factor]], support: tuple[int, ...], factor: Factor
) -> None:
    """Join the rows of a joint factor, since a parameter per column (a scale) serves all heads or groups."""
    first, *others = kept.pop(support)
    joined = atoms.union(first.atoms, factor.atoms)
    rest = [dim for dim in support if dim not in factor.support]
    merged = Factor(atoms.merge(joined, rest), factor.column)
    kept[factor.support] = _pair(atoms, kept.get(factor.support, []), [merged])
    if others:
        kept[support] = others


def _drop(
    atoms: Atoms, kept: dict[tuple[int, ...], list[Factor]], support: tuple[int, ...], why: str
) -> None:
    for factor in kept.pop(support, []):
        atoms.freeze(factor.atoms, why)


def collapse(atoms: Atoms, factor: Factor, keep: tuple[int, ...]) -> Factor | None:
    """Join the channels along every dimension not in ``keep``; ``None`` if nothing varies along ``keep``."""
    inside = [dim for dim in factor.support if dim in keep]
    if not inside:
        return None
    outside = [dim for dim in factor.support if dim not in keep]
    if not outside:
        return factor
    column = factor.column if factor.column in inside else inside[-1]
    return Factor(atoms.merge(factor.atoms, outside), column)


def channels_only(atoms: Atoms, marks: Marks, dims: tuple[int, ...], why: str) -> Marks:
    """The labels along ``dims``; those that vary elsewhere alone are frozen."""
    found = []
    for factor in marks.factors:
        kept = collapse(atoms, factor, dims)
        if kept is None:
            atoms.freeze(factor.atoms, why)
        else:
            found.append(kept)
    return marks.with_factors(tuple(found))


def reduce_dims(atoms: Atoms, marks: Marks, dims: set[int]) -> tuple[tuple[Factor, ...], bool]:
    """The labels left when ``dims`` are summed over (size 1), and whether channels were summed over."""
    left: list[Factor] = []
    over_channels = False
    for factor in marks.factors:
        touched = [dim for dim in factor.support if dim in dims]
        if not touched:
            left.append(factor)
        elif factor.column in dims:
            over_channels = True
        else:
            left.append(Factor(atoms.merge(factor.atoms, touched), factor.column))
    return tuple(left), over_channels


def runs(atoms: Atoms, labels: IntArray, length: int) -> IntArray:
    """Join runs of this many neighbours along the last dimension; one label for each run."""
    parted = labels.reshape(*labels.shape[:-1], labels.shape[-1] // length, length)
    return atoms.merge(parted, [parted.ndim - 1])[..., 0]


def freeze_along(atoms: Atoms, marks: Marks, dims: set[int], why: str) -> Marks:
    """Freeze every factor that varies along ``dims``; the labels without them."""
    left = []
    for factor in marks.factors:
        if dims & set(factor.support):
            atoms.freeze(factor.atoms, why)
        else:
            left.append(factor)
    return marks.with_factors(tuple(left))
