"""What a run read of the parameters and buffers; of the rest nothing is known, so it stays."""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from torch import nn

from secateur.graph.atoms import Atoms, Reason
from secateur.graph.labels import IntArray
from secateur.graph.ops import Does, operations
from secateur.graph.propagation import Tracer
from secateur.graph.trace.tape import Call, Tape

BoolArray = npt.NDArray[np.bool_]
_SILENT = operations(Does.MOVE) | operations(Does.QUIET)
_NUMBERS = operations(Does.READ)
_OWN = {"parameter", "buffer"}
_INDICES = ("argmax", "argmin", "sort", "topk", "nonzero", "bucketize", "searchsorted")
_ENDS = operations(Does.MATMUL) | {"aten::convolution", *(f"aten::{name}" for name in _INDICES)}


def freeze_unread(tracers: Sequence[Tracer]) -> None:
    """Freeze channels that no run of ``tracers`` read: rows of a table, say, that is longer than the example.

    All runs share their atoms. A channel is read where it ends: summed over, reduced, or returned. A slice
    that leaves it out is no reading, wherever it stands: of ``(table * scale)[:n]`` the rows from ``n`` on
    are not read.
    """
    atoms = tracers[0].atoms
    count, component = atoms.components()
    read = np.zeros(count, dtype=bool)
    read[component[atoms.roles()[1]]] = True
    for tracer in tracers:
        _mark_ends(tracer, component, read)
    atoms.here = Reason("")
    atoms.freeze(np.flatnonzero(~read[component]), "is not read in this run (a longer table, another case)")


def _mark_ends(tracer: Tracer, component: IntArray, read: BoolArray) -> None:
    """Mark the components that end at a call of this run, or that the model returns."""
    known: dict[int, IntArray] = {}

    def found(number: int) -> dict[int, IntArray]:
        # Most values share the labels of others: each array is looked up once.
        labels = (
            {id(f.atoms): f.atoms for f in tracer.marks[number].factors} if number in tracer.marks else {}
        )
        for key, atoms in labels.items():
            if key not in known:
                known[key] = component[atoms[atoms >= 0]]
        return {key: known[key] for key in labels}

    passed, idle = np.zeros(len(read), dtype=bool), tracer.tape.idle()
    for place, call in enumerate(tracer.tape.calls):
        if call.name in _SILENT or place in idle:
            continue
        before = {key: own for number in call.refs for key, own in found(number).items()}
        after = {key: own for number in call.results for key, own in found(number).items()}
        if before.keys() <= after.keys():
            continue
        for own in after.values():
            passed[own] = True
        for own in before.values():
            read[own[~passed[own]]] = True
        for own in after.values():
            passed[own] = False
    for number in {*tracer.tape.outputs, *tracer.tape.returned}:
        for own in found(number).values():
            read[own] = True


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

    What follows from such a number (a branch, a list of positions) is not on the tape.
    """
    tape, atoms = tracer.tape, tracer.atoms
    made = {number: call for call in tape.calls for number in call.results}
    names: set[str] = set()
    for call in tape.readings():
        atoms.here = Reason.at(call)
        found = _sources(tape, made, call.refs)
        for axis in atoms.axes:
            if axis.tensor in found:
                atoms.freeze(np.arange(axis.start, axis.stop), "is read as plain numbers")
        if not found and call.name in _NUMBERS:
            _freeze_deciding(tracer, made, call)
        names |= found
    return frozenset(names)


def _freeze_deciding(tracer: Tracer, made: dict[int, Call], reading: Call) -> None:
    """Freeze the channels that a number is taken over and no layer reads, as the classes of an early exit.

    Where the number decides otherwise they may be the output. Channels that a layer reads, too, only change
    the number, as they change any statistic.
    """
    _, component = tracer.atoms.components()
    _, consumed = tracer.atoms.roles()
    elsewhere = np.isin(component, component[consumed])
    waiting, seen = list(reading.refs), set[int]()
    while waiting:
        number = waiting.pop()
        if number in seen:
            continue
        seen.add(number)
        for factor in tracer.marks[number].factors:
            found = factor.atoms[factor.atoms >= 0]
            tracer.atoms.freeze(
                found[~elsewhere[found]], "is read as a number alone, which decides what runs"
            )
        call = made.get(number)
        # What positions count is frozen by its rule.
        if call is None or call.name in _ENDS:
            continue
        if not any(tracer.marks[ref].weight and tracer.marks[ref].factors for ref in call.refs):
            waiting += call.refs


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
    names = [name for name, _ in model.named_parameters()]
    # Of modules without parameters buffers tell: a normalisation without scales. Other buffers may be tables.
    for owner, module in model.named_modules():
        if owner and not any(True for _ in module.parameters(recurse=False)):
            own = module.named_buffers(owner, recurse=False)
            names += [name for name, buffer in own if buffer.is_floating_point()]
    ran = {owner for name in names if name in used for owner in _owners(name)}
    found = (
        next((owner for owner in _owners(name) if owner not in ran), name)
        for name in names
        if name not in used
    )
    return tuple(dict.fromkeys(found))


def _owners(name: str) -> list[str]:
    """The modules that a parameter lies in, outermost first; the model itself is not among them."""
    parts = name.split(".")[:-1]
    return [".".join(parts[: count + 1]) for count in range(len(parts))]
