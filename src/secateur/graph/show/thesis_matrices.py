"""The objects of the DepGraph thesis, computed from the graph: layers (f⁻, f⁺), the matrices D and G.

Groups come from labels, not from these matrices; they are here to compare with the thesis and to draw.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from secateur.graph.ops import Does, operations

if TYPE_CHECKING:
    from secateur.graph.dependency import DependencyGraph

BoolArray = npt.NDArray[np.bool_]

_MOVES = operations(Does.MOVE)


@dataclass(frozen=True)
class Layer:
    """A layer in the sense of the thesis: a leaf module, or an operation outside of any leaf module.

    ``inputs`` (f⁻) and ``outputs`` (f⁺) are the channels (components of atoms) on each side; ``sources`` are
    the numbers of the layers whose outputs it reads.
    """

    name: str
    kind: str
    inputs: frozenset[int]
    outputs: frozenset[int]
    sources: tuple[int, ...]

    @property
    def coupled(self) -> bool:
        """Whether f⁻ and f⁺ share channels, so that one scheme prunes them (intra-layer dependency)."""
        return bool(self.inputs & self.outputs)


def layers(graph: "DependencyGraph") -> list[Layer]:
    """The layers in the order in which they ran."""
    _, component = graph.atoms.components()
    leaves = {
        name: type(module).__name__
        for name, module in graph.model.named_modules()
        if not [*module.children()]
    }
    found: list[Layer] = []
    made_by: dict[int, frozenset[int]] = {}
    previous = ""
    weights = {n for n, value in enumerate(graph.tape.values) if value.kind in {"parameter", "buffer"}}
    for call in graph.tape.calls:
        data = [number for number in call.refs if number not in weights and not graph.marks[number].weight]
        sources = frozenset[int]().union(*(made_by.get(number, frozenset()) for number in data))
        leaf = leaves.get(call.module) if call.module else None
        # The thesis has no layers for views and copies: what they read is passed on.
        if call.name in _MOVES or not data:
            made_by.update(dict.fromkeys(call.results, sources))
            continue
        # Further operations of the leaf module that ran last belong to its layer.
        own = leaf is not None and bool(found) and previous == call.module
        outputs = _channels(graph, call.results, component)
        if own and sources <= {len(found) - 1} | set(found[-1].sources):
            found[-1] = replace(found[-1], outputs=outputs or found[-1].outputs)
        else:
            plain = call.short_name.rstrip("_")
            name = call.module if leaf is not None else f"{call.module}.{plain}".lstrip(".")
            inputs = _channels(graph, data, component)
            found.append(Layer(name, leaf or plain, inputs, outputs, tuple(sorted(sources))))
        previous = call.module if leaf is not None else ""
        made_by.update(dict.fromkeys(call.results, frozenset({len(found) - 1})))
    return found


def _channels(
    graph: "DependencyGraph", numbers: list[int], component: npt.NDArray[np.int64]
) -> frozenset[int]:
    found: set[int] = set()
    for number in numbers:
        for factor in graph.marks[number].factors:
            atoms = np.unique(factor.atoms)
            found.update(component[atoms[atoms >= 0]].tolist())
    return frozenset(found)


def dependency_matrix(graph: "DependencyGraph") -> BoolArray:
    """D over the sides f₁⁻, f₁⁺, f₂⁻, f₂⁺, … (index 2i for f⁻ of layer i, 2i + 1 for its f⁺).

    Entries are set by inter-layer dependencies (the output of one layer is the input of the next) and by
    intra-layer ones (both sides of a layer are pruned by one scheme), Eq. 3.1–3.2 and Algorithm 2 of the
    thesis.
    """
    sides = layers(graph)
    matrix = np.zeros((2 * len(sides), 2 * len(sides)), dtype=bool)
    for number, layer in enumerate(sides):
        for source in layer.sources:
            matrix[2 * source + 1, 2 * number] = matrix[2 * number, 2 * source + 1] = True
        if layer.coupled:
            matrix[2 * number, 2 * number + 1] = matrix[2 * number + 1, 2 * number] = True
    return matrix


def grouping_matrix(graph: "DependencyGraph") -> BoolArray:
    """G: two sides are in one group if dependencies lead from one to the other (thesis, Algorithm 1)."""
    label = side_groups(graph)
    together: BoolArray = label[:, None] == label[None, :]
    return together


def side_groups(graph: "DependencyGraph") -> npt.NDArray[np.int64]:
    """The number of the group that each side is in, in the order of the rows of D."""
    # Slow to import, and not every command that knows graphs draws one.
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    _, label = connected_components(csr_matrix(dependency_matrix(graph)), directed=False)
    found: npt.NDArray[np.int64] = label
    return found
