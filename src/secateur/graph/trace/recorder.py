"""Record the ATen operations of one forward pass, with the module and source line that ran each.

The model runs once under a dispatch mode, in eval mode and without gradients.
"""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from secateur.errors import UserError
from secateur.graph.ops import Does, operations
from secateur.graph.trace.decisions import Decisions
from secateur.graph.trace.dispatch import Watcher
from secateur.graph.trace.input_tree import call_model, mapped, named_output, paths_in, tensors_in
from secateur.graph.trace.isolated_forward import isolated_forward
from secateur.graph.trace.named_tensors import parameters_and_buffers
from secateur.graph.trace.tape import Call, Ref, Tape, Value, may_share, mutates, name_of
from secateur.graph.trace.told import TELLING, as_told

_CALLER = call_model.__code__.co_filename
# By both names, where a link leads to the environment.
_TORCH = tuple({str(Path(torch.__file__).parent), str(Path(torch.__file__).resolve().parent)})
_REFERRING = (Tensor, list, tuple)
_BLANK, _WRITES = operations(Does.BLANK), operations(Does.WRITE)
_PICKS = operations(Does.PICK)
_SHAPES = operations(Does.FILL | Does.BLANK | Does.SCRATCH)


class Recorder(Watcher):  # type: ignore[no-untyped-call]
    """A dispatch mode that records every operation, with its source line if ``sources``."""

    def __init__(self, model: nn.Module, *, sources: bool = True) -> None:
        super().__init__()
        self.tape = Tape()
        self.stack: list[str] = [""]
        self._sources = sources
        self._names = {module: name for name, module in model.named_modules()}
        self._leaves: dict[int, int] = {}
        self._storages: dict[int, int] = {}
        self._alive: list[Tensor] = []
        # Memory that no operation has written to yet.
        self._blank: set[int] = set()
        # Parameters that the model writes to, with their numbers before.
        self.written: dict[int, tuple[Tensor, Tensor]] = {}
        self.decisions = Decisions()
        for kind, named in zip(("parameter", "buffer"), parameters_and_buffers(model), strict=True):
            for name, tensor in named.items():
                self._leaves[id(tensor)] = self.add(tensor, kind, name)

    def add(self, tensor: Tensor, kind: str, name: str = "") -> int:
        """Number a tensor and keep it alive, so that no later one has its ``id``."""
        number = len(self.tape.values)
        root = self._storages.setdefault(memory_of(tensor), number)
        self.tape.values.append(Value(tuple(tensor.shape), tensor.dtype, kind, name, root))
        self._alive.append(tensor)
        return number

    def number(self, tensor: Tensor) -> int:
        """The number of a tensor, new if it has never been seen."""
        # A mark on the tensor is safe where ``id`` is not: activations die, and ids are used again.
        mark = tensor.__dict__.get("_secateur_mark")
        if mark is not None and mark[0] is self:
            return int(mark[1])
        if (known := self._leaves.get(id(tensor))) is not None:
            return known
        number = self.add(tensor, "constant")
        self.tape.constants[number] = tensor.detach()
        self._leaves[id(tensor)] = number
        return number

    def _result(self, tensor: Tensor, roots: Mapping[int, int]) -> int:
        number = len(self.tape.values)
        root = roots.get(memory_of(tensor), number) if roots else number
        self.tape.values.append(Value(tuple(tensor.shape), tensor.dtype, "result", "", root))
        tensor.__dict__["_secateur_mark"] = (self, number)
        return number

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self._blank:
            self._settle_blanks(func, args, kwargs)
        refs: list[int] = []
        roots: dict[int, int] | None = {} if may_share(func) else None
        listed = self._referenced(args, refs, roots)
        named = {key: self._referenced(value, refs, roots) for key, value in kwargs.items()}
        if refs and mutates(func):
            self._keep(self.tape.values[refs[0]].root)
        result = self.compute(func, args, kwargs)
        if self.decisions.active:
            arguments = tensors_in([args, kwargs])
            result = self.decisions.settle(self.tape, (name_of(func), self.stack[-1]), arguments, result)
        if name_of(func) in TELLING and (told := as_told(result)) is not None:
            self.tape.told[len(self.tape.calls)] = told
        flat = result if isinstance(result, (list, tuple)) else (result,)
        outputs = tuple([self._result(out, roots or {}) if isinstance(out, Tensor) else None for out in flat])
        if name_of(func) in _BLANK:
            self._blank.update(number for number in outputs if number is not None)
        if name_of(func) in _PICKS:
            masks = [item for item in tensors_in(args) if item.dtype is torch.bool and not item.is_meta]
            self.tape.picked.update((self.number(item), item.clone()) for item in masks)
        source = source_line() if self._sources else ""
        self.tape.calls.append(
            Call(func, name_of(func), listed, named, tuple(refs), outputs, self.stack[-1], source)
        )
        return result

    def _settle_blanks(self, func: Any, args: Any, kwargs: Any) -> None:
        """Before memory is read that no operation wrote to, note what it holds: torch's own code filled it.

        So are the lengths of a packed sequence.
        """
        name = name_of(func)
        if name in _SHAPES or (may_share(func) and not mutates(func)):
            return
        for place, tensor in enumerate(tensors_in([args, kwargs])):
            root = self._root_of(tensor)
            if root in self._blank and mutates(func):
                # Numbers written in part may be all there is.
                whole = place == 0 and (name in _WRITES or tensor.is_floating_point())
                if whole or "out" in kwargs:
                    self._blank.discard(root)
                    continue
            self.settle(tensor)

    def settle(self, tensor: Tensor) -> None:
        """Count a tensor of memory that no operation wrote to as a constant."""
        if self._root_of(tensor) in self._blank and tensor.numel():
            del tensor.__dict__["_secateur_mark"]
            number = self.add(tensor, "constant")
            self.tape.constants[number] = tensor.detach().clone()
            self._leaves[id(tensor)] = number

    def _root_of(self, tensor: Tensor) -> int:
        mark = tensor.__dict__.get("_secateur_mark")
        return self.tape.values[mark[1]].root if mark is not None and mark[0] is self else -1

    def _keep(self, root: int) -> None:
        """Copy a parameter before it is written to for the first time."""
        value = self.tape.values[root]
        if value.kind == "parameter" and root not in self.written:
            tensor = next(item for item in self._alive if self._leaves.get(id(item)) == root)
            self.written[root] = tensor, tensor.detach().clone()

    def compute(self, func: Any, args: Any, kwargs: Any) -> Any:
        """The result of one operation."""
        return func(*args, **kwargs)

    def _referenced(self, thing: Any, refs: list[int], roots: dict[int, int] | None) -> Any:
        """An argument with tensors replaced by ``Ref``; notes their numbers and memory."""
        if isinstance(thing, Tensor):
            number = self.number(thing)
            refs.append(number)
            if roots is not None:
                roots.setdefault(memory_of(thing), self.tape.values[number].root)
            return Ref(number)
        if isinstance(thing, (list, tuple)):
            return type(thing)(
                [
                    self._referenced(item, refs, roots) if isinstance(item, _REFERRING) else item
                    for item in thing
                ]
            )
        return thing

    @contextmanager
    def following_modules(self) -> Iterator[None]:
        """Keep ``stack`` at the name of the module that is running."""

        def enter(module: nn.Module, inputs: Any) -> None:
            self.stack.append(self._names.get(module, self.stack[-1]))

        def leave(module: nn.Module, inputs: Any, output: Any) -> None:
            if len(self.stack) > 1:
                self.stack.pop()

        before, after = register_module_forward_pre_hook(enter), register_module_forward_hook(leave)
        try:
            yield
        finally:
            before.remove()
            after.remove()


def memory_of(tensor: Tensor) -> int:
    """What tensors that share memory have in common; sparse ones share none."""
    return tensor.untyped_storage()._cdata if tensor.layout is torch.strided else -id(tensor)


def source_line() -> str:
    """``folder/file.py:12`` in the model's own code, innermost frame; empty where only torch's layers ran."""
    frame = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        if name == _CALLER:
            # Frames further out belong to the caller of the trace, not to the model.
            break
        # Recorders may extend each other's dispatch; their frames come before the model's.
        if frame.f_code.co_name != "__torch_dispatch__" and (file := _own_file(name)) is not None:
            return f"{file}:{frame.f_lineno}"
        if frame.f_back is None:
            break
        frame = frame.f_back
    return ""


@cache
def _own_file(name: str) -> str | None:
    """The last two parts of a file's name, ``None`` for torch's files and generated code."""
    if name.startswith((*_TORCH, "<")):
        return None
    path = Path(name)
    return f"{path.parent.name}/{path.name}"


def record(
    model: nn.Module,
    inputs: Any,
    recorder: Recorder | None = None,
    *,
    logits: str | int | None = None,
    training: bool = False,
) -> tuple[Tape, list[Tensor]]:
    """Run the model once; its tape, and the tensors of its output, or of the output named ``logits``.

    Raises:
        UserError: the inputs do not fit, or the model returns no tensor (of that name).

    >>> tape, _ = record(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), torch.zeros(1, 4))
    >>> [(call.short_name, call.module) for call in tape.calls]
    [('t', '0'), ('addmm', '0'), ('relu', '1')]
    """
    recorder = recorder or Recorder(model)
    # Copies, because the model may write into its inputs and their containers.
    fresh = mapped(lambda _, tensor: _plain_copy(tensor), inputs)
    leaves = tensors_in(fresh)
    numbers = [recorder.add(leaf, "input", str(position)) for position, leaf in enumerate(leaves)]
    recorder._leaves.update((id(leaf), number) for leaf, number in zip(leaves, numbers, strict=True))
    mode = isolated_forward(model, training=training)
    try:
        with mode, torch.inference_mode(False), torch.no_grad(), recorder.following_modules(), recorder:
            result = call_model(model, fresh)
    finally:
        for tensor, before in recorder.written.values():
            tensor.data.copy_(before)
    found = tensors_in(named_output(result, logits))
    if not found:
        raise UserError("the model returns no tensor", hint="return logits, a tuple or a dict of them")
    for item in tensors_in(result):
        recorder.settle(item)
    recorder.tape.inputs = tuple(numbers)
    recorder.tape.outputs = tuple(recorder.number(item) for item in found)
    _add_sources(recorder, found)
    recorder.tape.returned = tuple(recorder.number(item) for item in tensors_in(result))
    recorder.tape.names = dict(zip(recorder.tape.returned, paths_in(result), strict=True))
    return recorder.tape, found


def _add_sources(recorder: Recorder, found: list[Tensor]) -> None:
    """Count the numbers that decide later shapes among the outputs."""
    tape = recorder.tape
    tape.named = len(tape.outputs)
    for tensor in recorder.decisions.sources:
        number = recorder.number(tensor)
        if number not in tape.outputs:
            tape.outputs += (number,)
            found.append(tensor.detach())


def _plain_copy(tensor: Tensor) -> Tensor:
    """A copy without the class of its own: operations would pass that on and lose track of their results."""
    return tensor.detach().as_subclass(Tensor).clone()
