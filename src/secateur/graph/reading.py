"""What a run read of the parameters and buffers; of the rest nothing is known, so it stays."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from torch import nn

from secateur.graph.atoms import Atoms, Reason
from secateur.graph.ops import Does, operations
from secateur.graph.propagation import Tracer
from secateur.graph.trace.tape import Call, Tape

BoolArray = npt.NDArray[np.bool_]
# Copying writes its source elsewhere, where somebody may read it.
_MOVES = operations(Does.MOVE) - {"aten::copy_"}
_NUMBER = "aten::_local_scalar_dense"
_OWN = {"parameter", "buffer"}


def atoms_read(tracer: Tracer) -> BoolArray:
    """Whether an operation that computes, or the caller of the model, reads each atom: boolean [atoms].

    Views and slices are no readings: of ``table[:n]`` the rows from ``n`` on are not read.
    """
    numbers = {n for call in tracer.tape.calls if call.name not in _MOVES for n in call.refs}
    numbers |= {*tracer.tape.outputs, *tracer.tape.returned}
    # Most values share the labels of others: each array is looked at once.
    labels = {id(f.atoms): f.atoms for n in numbers if n in tracer.marks for f in tracer.marks[n].factors}
    # One more entry, for the positions that no channel owns (-1).
    found = np.zeros(tracer.atoms.size + 1, dtype=bool)
    for atoms in labels.values():
        found[atoms] = True
    return found[:-1]


def freeze_unread(atoms: Atoms, read: BoolArray) -> None:
    """Freeze channels that nothing read: rows of a table, say, that is longer than the example."""
    count, component = atoms.components()
    known = np.zeros(count, dtype=bool)
    known[component[read]] = True
    atoms.here = Reason("")
    atoms.freeze(np.flatnonzero(~known[component]), "is not read in this run (a longer table, another case)")


def freeze_buffers_alone(tape: Tape, atoms: Atoms) -> None:
    """Freeze channels that no parameter belongs to: constants of the network are no weights."""
    count, component = atoms.components()
    parameters = {value.name for value in tape.values if value.kind == "parameter"}
    owned = np.array([axis.tensor in parameters for axis in atoms.axes], dtype=bool)
    known = np.zeros(count, dtype=bool)
    if atoms.size:
        known[component[owned[atoms.axis_of()]]] = True
    atoms.here = Reason("")
    atoms.freeze(np.flatnonzero(~known[component]), "belongs to buffers alone")


def freeze_numbers(tape: Tape, atoms: Atoms) -> set[str]:
    """Freeze parameters and buffers whose contents the code read as plain numbers; returns their names.

    What follows from such a number (a branch, a list of positions) is not on the tape.
    """
    made = {number: call for call in tape.calls for number in call.outputs if number is not None}
    names: set[str] = set()
    for call in _readings(tape):
        found = _sources(tape, made, call.refs)
        atoms.here = Reason.at(call)
        for axis in atoms.axes:
            if axis.tensor in found:
                atoms.freeze(np.arange(axis.start, axis.stop), "is read as plain numbers")
        names |= found
    return names


def _readings(tape: Tape) -> Iterable[Call]:
    """Calls whose result leaves torch: ``item()``, and the copy without gradients that numpy reads."""
    read = tape.read()
    for call in tape.calls:
        copied = call.name == "aten::detach" and not read & set(call.outputs)
        if call.name == _NUMBER or copied:
            yield call


def _sources(tape: Tape, made: dict[int, Call], numbers: Iterable[int]) -> set[str]:
    """The parameters and buffers that values are made of; none where they depend on the inputs as well."""
    waiting, seen = list(numbers), set[int]()
    names: set[str] = set()
    while waiting:
        number = waiting.pop()
        if number in seen:
            continue
        seen.add(number)
        value = tape.values[number]
        if value.kind == "input":
            return set()
        if value.kind in _OWN:
            names.add(value.name)
        elif number in made:
            waiting += made[number].refs
    return names


def idle_parts(model: nn.Module, used: set[str]) -> tuple[str, ...]:
    """The modules and single parameters of which nothing ran, by name: the outermost of each.

    >>> idle_parts(nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Sequential(nn.Linear(2, 2))}), {"a.weight"})
    ('a.bias', 'b')
    """
    owners: dict[str, bool] = {}
    for name, _ in model.named_parameters():
        for owner in _owners(name):
            owners[owner] = owners.get(owner, False) or name in used
    found = []
    for name, _ in model.named_parameters():
        if name not in used:
            found.append(next((owner for owner in _owners(name) if not owners[owner]), name))
    return tuple(dict.fromkeys(found))


def _owners(name: str) -> list[str]:
    """The modules that a parameter lies in, outermost first; the model itself is not among them."""
    parts = name.split(".")[:-1]
    return [".".join(parts[: count + 1]) for count in range(len(parts))]
