"""Labels: which channels each element of a tensor belongs to, and what data movement does to them.

A *factor* is an integer array that broadcasts against a tensor. Each element carries one label per factor,
an *atom*; removing any of these atoms removes the element. -1 labels a constant that no channel owns.

Most factors vary along one dimension. A joint factor (heads × width) varies along several: ``column`` is the
dimension that shrinks, and all rows along the others keep equally many positions.
"""

from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Factor:
    """Atoms along some dimensions of a tensor; ``atoms`` has size 1 along all others.

    >>> weight_rows = Factor(np.array([[0], [1], [2]]), column=0)
    >>> weight_rows.support
    (0,)
    """

    atoms: IntArray
    column: int

    @property
    def support(self) -> tuple[int, ...]:
        """Dimensions along which the atoms vary."""
        return tuple([dim for dim, size in enumerate(self.atoms.shape) if size > 1])

    @property
    def rows(self) -> tuple[int, ...]:
        """Dimensions of the support other than the column."""
        return tuple(dim for dim in self.support if dim != self.column)


@dataclass(frozen=True, eq=False)
class Marks:
    """The labels of a tensor: its factors, and the dimensions that may take any size.

    ``free`` dimensions hold the same content at every position (fills, broadcasts). ``weight`` is true for
    parameters, and for views and element-wise functions of parameters alone. ``elastic`` tensors have a size
    that depends on the data (what a mask picks): only dimensions with labels have a known size after surgery.
    ``whole`` ones are vectors of a spectral norm, which is that of all channels, removed ones included.
    """

    shape: Shape
    factors: tuple[Factor, ...] = ()
    free: tuple[bool, ...] = ()
    weight: bool = False
    elastic: bool = False
    whole: bool = False

    def __post_init__(self) -> None:
        if len(self.free) != len(self.shape):
            object.__setattr__(self, "free", (False,) * len(self.shape))

    def along(self, dim: int) -> list[Factor]:
        """Factors that vary along ``dim``."""
        return [factor for factor in self.factors if factor.atoms.shape[dim] > 1]

    def with_factors(self, factors: tuple[Factor, ...]) -> "Marks":
        """The same tensor with other factors."""
        return Marks(self.shape, factors, self.free, self.weight)


def along_dim(atoms: IntArray, dim: int, ndim: int) -> Factor:
    """A vector of atoms as the labels of dimension ``dim`` of ``ndim``."""
    shape = [1] * ndim
    shape[dim] = atoms.size
    return Factor(atoms.reshape(shape), dim)


def align(factor: Factor, ndim: int) -> Factor:
    """Prepend dimensions of size 1, as broadcasting does."""
    missing = ndim - factor.atoms.ndim
    if missing == 0:
        return factor
    return Factor(factor.atoms.reshape((1,) * missing + factor.atoms.shape), factor.column + missing)


def with_new_dim(factor: Factor, dim: int) -> Factor:
    """The factor with a new dimension of size 1 in front of ``dim``."""
    return Factor(np.expand_dims(factor.atoms, dim), factor.column + (dim <= factor.column))


def move_dims(factor: Factor, positions: tuple[int, ...], ndim: int) -> Factor:
    """Move dimension ``i`` to ``positions[i]`` of an array with ``ndim`` dimensions."""
    if factor.support == (factor.column,):
        # The usual case, which needs no transpose.
        return along_dim(factor.atoms, positions[factor.column], ndim)
    order = sorted(range(len(positions)), key=positions.__getitem__)
    shape = [1] * ndim
    for source in order:
        shape[positions[source]] = factor.atoms.shape[source]
    return Factor(factor.atoms.transpose(order).reshape(shape), positions[factor.column])


def chunks(old: Shape, new: Shape) -> list[tuple[range, range]]:
    """The smallest runs of dimensions that a row-major reshape maps onto each other.

    >>> chunks((2, 12, 5), (2, 3, 4, 5))
    [(range(0, 1), range(0, 1)), (range(1, 2), range(1, 3)), (range(2, 3), range(3, 4))]
    """
    if 0 in old:
        # Products are all zero: they do not tell which dimensions correspond.
        return [(range(len(old)), range(len(new)))]
    found = []
    i = j = 0
    while i < len(old) or j < len(new):
        start, begin = i, j
        a = b = 1
        if i < len(old):
            a, i = old[i], i + 1
        if j < len(new):
            b, j = new[j], j + 1
        while a != b:
            if a < b:
                a, i = a * old[i], i + 1
            else:
                b, j = b * new[j], j + 1
        found.append((range(start, i), range(begin, j)))
    return found


def squash(atoms: IntArray, dims: range) -> IntArray:
    """Reduce to size 1 the dimensions along which the atoms do not vary."""
    for dim in dims:
        if atoms.shape[dim] > 1:
            first = atoms.take([0], dim)
            if bool((atoms == first).all()):
                atoms = first
    return atoms


def reshape(factor: Factor, old: Shape, new: Shape) -> Factor | None:
    """The factor after a row-major reshape; ``None`` if it no longer varies.

    Channels that are split into several dimensions become a joint factor with the last one as its column.

    >>> channels = along_dim(np.arange(6), dim=1, ndim=2)
    >>> heads = reshape(channels, (4, 6), (4, 2, 3))
    >>> heads.rows, heads.column
    ((1,), 2)
    """
    full: list[int] = []
    shape: list[int] = []
    column = -1
    touched = []
    for before, after in chunks(old, new):
        varies = any(factor.atoms.shape[dim] > 1 for dim in before)
        # Where the factor does not vary it keeps size 1: positions of an image would make it large.
        sizes = [old[dim] for dim in before] if varies else [1] * len(before)
        full += sizes
        shape += [new[dim] for dim in after] if varies else [1] * len(after)
        if varies:
            touched.append((before, after))
    atoms = np.broadcast_to(factor.atoms, full).reshape(shape)
    for _, after in touched:
        atoms = squash(atoms, after)
    for before, after in touched:
        # Of channels that were split the innermost dimension shrinks: the width of heads, not their number.
        if factor.column in before:
            inside = [dim for dim in after if atoms.shape[dim] > 1]
            if inside:
                column = inside[-1]
    if column < 0:
        # A slice took one column; the rows that are left shrink instead.
        left = [dim for dim, size in enumerate(atoms.shape) if size > 1]
        if not left:
            return None
        column = left[-1]
    return Factor(np.ascontiguousarray(atoms), column)


def columns_last(factor: Factor) -> IntArray:
    """The atoms as a matrix: one row per combination of row dimensions, the column dimension last."""
    moved = np.moveaxis(factor.atoms, factor.column, -1)
    return moved.reshape(prod(moved.shape[:-1]), moved.shape[-1])
