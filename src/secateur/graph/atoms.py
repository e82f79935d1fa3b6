"""Atoms: one for each index of each dimension of each parameter, and the unions that join them.

The connected components of the unions are the channels of the network.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from secateur.graph.labels import IntArray, Shape
from secateur.graph.trace.tape import Call


@dataclass(frozen=True)
class Axis:
    """A dimension of a parameter or buffer; its atoms are ``start … start + size - 1``."""

    tensor: str
    dim: int
    start: int
    size: int

    @property
    def stop(self) -> int:
        """One past the last atom."""
        return self.start + self.size

    def __str__(self) -> str:
        return f"{self.tensor}[{self.dim}]"


@dataclass(frozen=True)
class Reason:
    """Why atoms must stay: in words, with the operation, the module and the line of the model's source."""

    why: str
    op: str = ""
    module: str = ""
    source: str = ""

    @classmethod
    def at(cls, call: Call, why: str = "") -> "Reason":
        """A reason found at a call."""
        return cls(why, call.short_name, call.module, call.source)

    def __str__(self) -> str:
        where = ", ".join(
            part for part in (self.op, self.module and f"in {self.module}", self.source) if part
        )
        return f"{self.why} ({where})" if self.why and where else self.why or where


class Atoms:
    """The findings of the rules: unions, frozen atoms, rows of equal counts, and which layer makes a channel.

    >>> atoms = Atoms()
    >>> outputs = atoms.axis("conv1.weight", 0, 3)
    >>> inputs = atoms.axis("conv2.weight", 1, 3)
    >>> _ = atoms.union(outputs, inputs)
    >>> atoms.components()
    (3, array([0, 1, 2, 0, 1, 2]))
    """

    def __init__(self) -> None:
        self.axes: list[Axis] = []
        self.size = 0
        self.here = Reason("")
        self.rows: dict[tuple[Shape, bytes], tuple[IntArray, Reason]] = {}
        self.parts: list[IntArray] = []
        self.frozen: list[tuple[IntArray, Reason]] = []
        self.starts: dict[tuple[str, int], int] = {}
        self._joined: list[tuple[IntArray, IntArray]] = []
        self._produced: list[IntArray] = []
        self._consumed: list[IntArray] = []
        self._found: tuple[tuple[int, int], tuple[int, IntArray]] | None = None
        self._one_role: list[tuple[str, ...]] = []

    def axis(self, tensor: str, dim: int, size: int) -> IntArray:
        """The atoms of a dimension of a parameter; a shared parameter has one set of them."""
        start = self.starts.get((tensor, dim))
        if start is None:
            start = self.starts[tensor, dim] = self.size
            self.axes.append(Axis(tensor, dim, start, size))
            self.size += size
        return np.arange(start, start + size, dtype=np.int64)

    def union(self, left: IntArray, right: IntArray) -> IntArray:
        """Join atoms position by position (with broadcasting); those that meet a constant are frozen."""
        if left is right:
            return left
        if left.shape != right.shape:
            left, right = np.broadcast_arrays(left, right)
        # Most unions have no constants; one pass over the smaller labels tells.
        if np.minimum(left, right).min(initial=0) >= 0:
            self._joined.append((left, right))
            return left
        # A channel added to padding, say: it could go only together with a constant.
        both = (left >= 0) & (right >= 0)
        self._joined.append((left[both], right[both]))
        found = np.where(left >= 0, left, right)
        self.freeze(found[~both], "meets a constant position")
        return found

    def merge(self, atoms: IntArray, dims: Iterable[int]) -> IntArray:
        """Join all atoms along ``dims``, which then have size 1: channels there can only go together."""
        for dim in dims:
            if atoms.shape[dim] > 1:
                first = atoms.take([0], dim)
                atoms = self.union(np.broadcast_to(first, atoms.shape), atoms).take([0], dim)
        return atoms

    def freeze(self, atoms: IntArray, why: str) -> None:
        """Keep these atoms, and everything joined to them."""
        found = atoms[atoms >= 0]
        if found.size:
            self.frozen.append((found, replace(self.here, why=why)))

    def equal_rows(self, atoms: IntArray) -> None:
        """Keep equally many along the last dimension in every slice along the others."""
        # The same rows are found again in every block that reads them: kept once, with the first reason.
        rows = np.ascontiguousarray(atoms)
        self.rows.setdefault((rows.shape, rows.tobytes()), (rows, self.here))

    def part(self, atoms: IntArray) -> None:
        """Let these positions keep a count of their own: a slice at a fixed position separates them."""
        self.parts.append(atoms[atoms >= 0])

    def produces(self, atoms: IntArray) -> None:
        """These atoms index the outputs of a layer."""
        self._produced.append(atoms)

    def consumes(self, atoms: IntArray) -> None:
        """These atoms index the inputs that a layer sums over."""
        self._consumed.append(atoms)

    def one_role(self, tensors: tuple[str, ...]) -> None:
        """These tensors make up one weight: along each axis the one with the most dimensions has the role."""
        self._one_role.append(tensors)

    def roles(self) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Boolean arrays over atoms: produced by a layer, consumed by a layer."""
        produced, consumed = self._marked(self._produced), self._marked(self._consumed)
        for tensors in self._one_role:
            own = [axis for axis in self.axes if axis.tensor in tensors]
            axes = Counter(axis.tensor for axis in own)
            alike: dict[tuple[int, int], list[Axis]] = {}
            for axis in sorted(own, key=lambda a: (-axes[a.tensor], tensors.index(a.tensor))):
                alike.setdefault((axis.dim, axis.size), []).append(axis)
            for first, *others in alike.values():
                for role in (produced, consumed):
                    for other in others:
                        role[first.start : first.stop] |= role[other.start : other.stop]
                        role[other.start : other.stop] = False
        return produced, consumed

    def _marked(self, found: list[IntArray]) -> npt.NDArray[np.bool_]:
        # One more entry, for the positions that no channel owns (-1).
        marked = np.zeros(self.size + 1, dtype=bool)
        if found:
            marked[np.concatenate([atoms.ravel() for atoms in found])] = True
        return marked[:-1]

    def components(self) -> tuple[int, IntArray]:
        """How many components there are, and the component of each atom; do not write into it."""
        state = (self.size, len(self._joined))
        if self._found is None or self._found[0] != state:
            self._found = state, self._connected()
        return self._found[1]

    def _connected(self) -> tuple[int, IntArray]:
        if not self._joined:
            return self.size, np.arange(self.size, dtype=np.int64)
        left = np.concatenate([one.ravel() for one, _ in self._joined])
        right = np.concatenate([other.ravel() for _, other in self._joined])
        # Slow to import, and not every command that knows graphs traces one.
        from scipy.sparse import coo_matrix
        from scipy.sparse.csgraph import connected_components

        graph = coo_matrix((np.ones(left.size, dtype=np.int8), (left, right)), shape=(self.size, self.size))
        count, component = connected_components(graph, directed=False)
        return int(count), component.astype(np.int64)

    def axis_of(self) -> IntArray:
        """The number of the axis that each atom belongs to."""
        return np.repeat(np.arange(len(self.axes)), [axis.size for axis in self.axes])
