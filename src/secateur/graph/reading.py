"""What a run read of the parameters and buffers; of the rest nothing is known, so it stays."""

from collections.abc import Iterable
from math import isinf

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
_NUMBERS = operations(Does.READ)
_OWN = {"parameter", "buffer"}
_NAN = {f"aten::{name}" for name in ("isnan", "isinf", "isfinite", "isposinf", "isneginf")}
_INDICES = ("argmax", "argmin", "sort", "topk", "nonzero", "bucketize", "searchsorted")
_ENDS = operations(Does.MATMUL) | {"aten::convolution", *(f"aten::{name}" for name in _INDICES)}


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


def freeze_numbers(tracer: Tracer) -> frozenset[str]:
    """Freeze what the code read as plain numbers; returns the parameters and buffers read like that.

    What follows from such a number (a branch, a list of positions, an early exit) is not on the tape.
    """
    tape, atoms = tracer.tape, tracer.atoms
    made = {number: call for call in tape.calls for number in call.outputs if number is not None}
    checks = _checks(tape)
    names: set[str] = set()
    for call in _readings(tape):
        atoms.here = Reason.at(call)
        found = _sources(tape, made, call.refs)
        for axis in atoms.axes:
            if axis.tensor in found:
                atoms.freeze(np.arange(axis.start, axis.stop), "is read as plain numbers")
        if not found and call.name in _NUMBERS:
            _freeze_deciding(tracer, made, call, checks)
        names |= found
    return frozenset(names)


def _freeze_deciding(tracer: Tracer, made: dict[int, Call], reading: Call, checks: set[int]) -> None:
    """Freeze the channels that a number is taken over, back to the layers that computed them.

    A check for NaN decides nothing that a user of the network wants.
    """
    waiting, seen = list(reading.refs), checks.copy()
    while waiting:
        number = waiting.pop()
        if number in seen:
            continue
        seen.add(number)
        for factor in tracer.marks[number].factors:
            tracer.atoms.freeze(factor.atoms, "is read as a plain number, which decides what the code does")
        call = made.get(number)
        # What positions count is frozen by its rule.
        if call is None or call.name in _ENDS:
            continue
        if not any(tracer.marks[ref].weight and tracer.marks[ref].factors for ref in call.refs):
            waiting += call.refs


def _checks(tape: Tape) -> set[int]:
    """Values that say whether there is a NaN or infinity, and what is made of such values alone."""
    found: set[int] = set()
    for call in tape.calls:
        if _looks_for_nan(call) or (call.refs and found.issuperset(call.refs)):
            found |= {number for number in call.outputs if number is not None}
    return found


def _looks_for_nan(call: Call) -> bool:
    if call.name not in {"aten::eq", "aten::ne"}:
        return call.name in _NAN
    other = call.args[1]
    # NaN differs from itself.
    return call.args[0] == other or (isinstance(other, float) and isinf(other))


def _readings(tape: Tape) -> Iterable[Call]:
    """Calls whose result leaves torch: ``item()``, and the copy without gradients that numpy reads."""
    read = tape.read()
    for call in tape.calls:
        copied = call.name == "aten::detach" and not read & set(call.outputs)
        if call.name in _NUMBERS or copied:
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
