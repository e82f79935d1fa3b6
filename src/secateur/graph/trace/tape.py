"""A forward pass as plain data: its ATen operations in order, and the shapes of their values.

Activations are not kept: a tape costs little memory, and the graph, multiply-adds and the proof are all
computed from it. ``recorder`` writes tapes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch._ops import OpOverload

from secateur.graph.ops import Does, operations

T = TypeVar("T")
_UNDECLARED_VIEWS, _READS = operations(Does.VIEW), operations(Does.READ)
_MOVES = operations(Does.MOVE)


@dataclass(frozen=True)
class Ref:
    """A value of the tape, by number."""

    id: int


@dataclass(frozen=True)
class Value:
    """A tensor that occurred: its shape, where it came from, and whose memory it shares.

    ``kind`` is ``parameter``, ``buffer``, ``input``, ``constant`` (a tensor the tape knows nothing about)
    or ``result``. ``root`` is the first value that owns the same memory.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    kind: str
    name: str
    root: int


@dataclass(frozen=True)
class Call:
    """One recorded ATen operation, with tensors among its arguments replaced by ``Ref``.

    ``name`` is without overload, such as ``aten::view``; ``refs`` are the numbers of the values among the
    arguments, in order; ``module`` and ``source`` say which module ran it, and which line of the model.
    """

    op: OpOverload
    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    refs: tuple[int, ...]
    outputs: tuple[int | None, ...]
    module: str
    source: str

    @property
    def short_name(self) -> str:
        """The name without ``aten::``, for messages."""
        return self.name.removeprefix("aten::")

    @property
    def results(self) -> list[int]:
        """The numbers of the tensors that it returns."""
        return [number for number in self.outputs if number is not None]

    def bind(self) -> dict[str, Any]:
        """Arguments by the names of the operation's schema, defaults filled in."""
        return {name: self.argument(name) for name in _arguments(self.op)}

    def argument(self, name: str) -> object:
        """One argument by its name in the schema: as given, its default, or None where there is none."""
        position, default = _arguments(self.op).get(name, (len(self.args), None))
        given: object = self.args[position] if position < len(self.args) else self.kwargs.get(name, default)
        return given

    def tensor(self, name: str) -> Ref:
        """A tensor argument."""
        return self._expect(Ref, name)

    def tensors(self, name: str) -> list[Ref | None]:
        """A list of tensors, with None where one is left out, as an index leaves out dimensions."""
        return [item if isinstance(item, Ref) else None for item in self._listed(name)]

    def integer(self, name: str) -> int:
        """An integer argument."""
        return self._expect(int, name)

    def integers(self, name: str) -> list[int]:
        """A list of integers; a single one counts as a list, and none given as an empty one."""
        found = self.argument(name)
        if found is None or isinstance(found, int):
            return [] if found is None else [found]
        return [item for item in self._listed(name) if isinstance(item, int)]

    def flag(self, name: str) -> bool:
        """Whether a switch is set; an operation that has no such switch counts as not set."""
        return bool(self.argument(name))

    def _listed(self, name: str) -> Sequence[object]:
        found = self.argument(name)
        if not isinstance(found, (list, tuple)):
            raise TypeError(f"{self.name}: argument '{name}' is {found!r}, not a list")
        return found

    def _expect(self, kind: type[T], name: str) -> T:
        found = self.argument(name)
        if not isinstance(found, kind):
            # Only a rule that misreads the schema of its operation gets here.
            raise TypeError(f"{self.name}: argument '{name}' is {found!r}, not {kind.__name__}")
        return found


@dataclass
class Tape:
    """The operations and values of one forward pass; ``inputs`` and ``outputs`` are numbers of values.

    ``outputs`` are what proofs compare, the model's output of the name that was asked for, and the numbers
    that decide later shapes; ``returned`` are all tensors that the model returns, with their paths there in
    ``names`` (empty where it returns a tensor alone); ``decided`` are the
    integers and flags that calls gave, where later shapes depend on them (see ``decisions``); ``picked`` are
    the masks by which calls picked, by the number of the value; ``told`` are the numbers that calls gave to
    plain code. The first ``named`` outputs are the model's own.
    """

    calls: list[Call] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)
    constants: dict[int, Tensor] = field(default_factory=dict)
    inputs: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()
    returned: tuple[int, ...] = ()
    names: dict[int, str] = field(default_factory=dict)
    decided: dict[int, tuple[Any, ...]] = field(default_factory=dict)
    picked: dict[int, Tensor] = field(default_factory=dict)
    told: dict[int, Any] = field(default_factory=dict)
    named: int = 0

    def decides(self) -> bool:
        """Whether the code read numbers, by which it may decide what it does."""
        return any(call.name in _READS for call in self.calls)

    def idle(self) -> frozenset[int]:
        """Positions of the calls that move values of which only the shape is read: ``x[:, -1].shape``."""
        needed, found = {*self.outputs, *self.returned}, set[int]()
        for place in range(len(self.calls) - 1, -1, -1):
            call = self.calls[place]
            # numpy and ``tolist`` read what was detached.
            moves = call.name in _MOVES and call.name != "aten::detach" and not mutates(call.op)
            if moves and needed.isdisjoint(call.outputs):
                found.add(place)
            else:
                needed.update(call.refs)
        return frozenset(found)

    def readers(self) -> dict[int, list[int]]:
        """Positions of the calls that read each value."""
        found: dict[int, list[int]] = {}
        for position, call in enumerate(self.calls):
            for number in dict.fromkeys(call.refs):
                found.setdefault(number, []).append(position)
        return found

    def readings(self) -> list[Call]:
        """Calls whose result leaves torch: ``item()``, and the copy without gradients that numpy reads."""
        read = self.read()
        return [call for call in self.calls if call.name in _READS or copied(call, read)]

    def read(self) -> set[int]:
        """The values that a later operation or the caller of the model reads."""
        return {number for call in self.calls for number in call.refs} | {*self.outputs, *self.returned}


def copied(call: Call, read: set[int]) -> bool:
    """Whether numbers leave torch: ``tolist`` and numpy leave a copy that nothing reads."""
    return call.name == "aten::detach" and read.isdisjoint(call.results)


@cache
def _arguments(op: OpOverload) -> dict[str, tuple[int, Any]]:
    """Positions and defaults of an operation's arguments, by name."""
    return {item.name: (number, item.default_value) for number, item in enumerate(op._schema.arguments)}


@cache
def name_of(op: OpOverload) -> str:
    """An operation's name without overload."""
    return str(op._schema.name)


@cache
def may_share(op: OpOverload) -> bool:
    """Whether results of an operation may live in the memory of its arguments: views, and writes in place."""
    if op.namespace != "aten" or op._schema.name in _UNDECLARED_VIEWS:
        return True
    return any(result.alias_info is not None for result in op._schema.returns)


@cache
def mutates(op: OpOverload) -> bool:
    """Whether an operation writes into an argument."""
    return bool(op._schema.is_mutable)
