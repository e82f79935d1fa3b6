"""Which groups may be to blame for a call that fails: those whose channels reach it."""

from collections.abc import Iterable

import numpy as np

from secateur.graph.dependency import DependencyGraph
from secateur.graph.labels import Factor
from secateur.graph.trace.tape import Call
from secateur.surgery.plan import Plan


def groups_reaching(plan: Plan, graph: DependencyGraph, call: Call | None) -> frozenset[str]:
    """The planned groups whose channels reach a call; all planned groups if none does."""
    planned = {cut.group for cut in plan.cuts}
    if call is None:
        return frozenset(planned)
    values = [*call.refs, *call.results]
    reaching = [
        factor for number in values if number in graph.marks for factor in graph.marks[number].factors
    ]
    return frozenset(groups_of(graph, reaching) & planned or planned)


def groups_of(graph: DependencyGraph, factors: Iterable[Factor]) -> set[str]:
    """Names of the groups that own channels of ``factors``."""
    owner = group_of_atom(graph)
    found: set[str] = set()
    for factor in factors:
        atoms = np.unique(factor.atoms)
        found.update(graph.groups[g].name for g in np.unique(owner[atoms[atoms >= 0]]) if g >= 0)
    return found


def group_of_atom(graph: DependencyGraph) -> "np.typing.NDArray[np.int64]":
    """The index of the group of each atom, -1 for frozen atoms."""
    owner = np.full(graph.atoms.size, -1, dtype=np.int64)
    for number, group in enumerate(graph.groups):
        for member in group.members:
            owner[graph.atoms.starts[member.tensor, member.dim] + member.indices] = number
    return owner
