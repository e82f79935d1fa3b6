"""Whatever computes logits as a module: functions, exported and frozen networks, networks in closures."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from secateur.errors import UserError
from secateur.text import counted

DEPTH = 4
"""How many functions and containers lie between a function and the networks it uses, at most."""


class Held(nn.Module):
    """A function, or a network that has no modes, as a module.

    Its parts are the networks inside that have modes: they are switched to evaluation, frozen and left as
    they were, as any network is. Parameters and buffers of the others are seen too. It cannot be copied: a
    copy of a function would still call the networks of the original.

    >>> net = nn.Dropout()
    >>> Held(lambda x: net(x), [net]).eval()(torch.ones(1, 2))
    tensor([[1., 1.]])
    """

    def __init__(self, call: Callable[..., Any], inside: list[nn.Module]) -> None:
        super().__init__()
        # In a tuple it is not registered: what has no modes must not be asked to change them.
        self.of_function = call not in inside
        self.held: tuple[Any, ...] = (call, *inside)
        self.parts = nn.ModuleList(part for module in inside for part in _with_modes(module))
        known = {id(parameter) for parameter in self.parameters()}
        others = [p for module in inside for p in module.parameters() if id(p) not in known]
        self.others = nn.ParameterList(others)
        kept = {id(buffer) for buffer in self.buffers()}
        for number, buffer in enumerate(
            b for module in inside for b in module.buffers() if id(b) not in kept
        ):
            self.register_buffer(f"buffer{number}", buffer)

    @property
    def said(self) -> str:
        """What was found inside a function, in one sentence; empty for a network."""
        if not self.of_function:
            return ""
        count = len(self.held) - 1
        if not count:
            return "the model is a function, in which no network was found: it is called as it is"
        return f"the model is a function that uses {counted(count, 'network')}, set to evaluation mode"

    def forward(self, x: Tensor) -> Any:
        """What the function returns for ``x``."""
        return self.held[0](x)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Held":
        raise TypeError("a function cannot be copied with the networks that it uses")


def as_module(model: object) -> nn.Module:
    """``model`` as a module whose modes can be set: itself, or ``Held``.

    Raises:
        UserError: nothing that can be called with images, or parameters that cannot be differentiated.

    >>> as_module(lambda x: x.flatten(1)).eval()(torch.ones(1, 1, 2)).shape
    torch.Size([1, 2])
    """
    if isinstance(model, torch.export.ExportedProgram):
        model = model.module()
    if isinstance(model, type) or not callable(model):
        kind = f"the class {model.__name__}" if isinstance(model, type) else f"of type {type(model).__name__}"
        raise UserError(
            f"the model is {kind}, not a network",
            hint="give a torch.nn.Module, or a function from images to logits; secateur.models.resolve(name) "
            "builds one by its name",
        )
    if not isinstance(model, nn.Module):
        module: nn.Module = Held(model, list(networks_of(model)))
    else:
        module = model if has_modes(model) else Held(model, [model])
    if any(parameter.is_inference() for parameter in module.parameters()):
        raise UserError(
            "the network was built under inference_mode, and has no gradients",
            hint="build it outside, or give a copy: copy.deepcopy(model) outside of inference_mode",
        )
    return module


def has_modes(module: nn.Module) -> bool:
    """Whether a module can be set to evaluation mode; its modes are left as they are.

    >>> has_modes(nn.Linear(2, 2))
    True
    """
    try:
        modes = [(each, each.training) for each in module.modules()]
    except AttributeError:
        return False
    try:
        module.eval()
    except (NotImplementedError, AttributeError, RuntimeError):
        return False
    finally:
        for each, mode in modes:
            each.training = mode
    return True


def networks_of(function: object) -> Iterator[nn.Module]:
    """The networks that a function uses: those it is bound to, in its closure, globals or attributes.

    >>> net = nn.Linear(2, 2)
    >>> list(networks_of(lambda x: net(x)))
    [Linear(in_features=2, out_features=2, bias=True)]
    """
    seen: set[int] = set()
    yield from _search(function, DEPTH, seen)


def _search(value: object, depth: int, seen: set[int]) -> Iterator[nn.Module]:
    if id(value) in seen or depth < 0:
        return
    seen.add(id(value))
    if isinstance(value, nn.Module):
        yield value
        return
    for part in _parts(value):
        yield from _search(part, depth - 1, seen)


def _parts(value: object) -> list[object]:
    """What a function or container refers to."""
    if isinstance(value, partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, Mapping):
        return list(value.values())
    if isinstance(value, list | tuple):
        return list(value)
    if inspect.ismethod(value):
        return [value.__self__, value.__func__]
    if inspect.isfunction(value):
        try:
            used = inspect.getclosurevars(value)
        except ValueError:
            # A cell of its closure is still empty.
            return []
        return [*used.nonlocals.values(), *used.globals.values()]
    if isinstance(value, type) or inspect.ismodule(value) or inspect.isbuiltin(value) or not callable(value):
        return []
    return [*getattr(value, "__dict__", {}).values(), vars(type(value)).get("__call__")]


def _with_modes(module: nn.Module) -> list[nn.Module]:
    """The largest parts of a module that have modes."""
    if has_modes(module):
        return [module]
    return [part for child in module.children() for part in _with_modes(child)]
