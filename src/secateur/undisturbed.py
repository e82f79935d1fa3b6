"""Whatever runs inside, a model is afterwards as it was.

A forward pass may count its calls, cache tables, fill observers, register hooks, or switch modes. None of
that may remain when it was not the user who ran it.
"""

import random
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

_CONTAINERS = (dict, list, deque, set)
_HOLDERS = (*_CONTAINERS, tuple)
# Attributes of every module: hooks, parameters, buffers, modules.
_INTERNAL = frozenset(nn.Module().__dict__)


@contextmanager
def undisturbed(model: nn.Module, what: Literal["all", "numbers", "modes"] = "all") -> Iterator[None]:
    """Put back the modes of a model, the numbers it holds, and its attributes, whatever ran inside.

    Args:
        model: may be changed at will inside, but for the numbers of its parameters.
        what: ``modes``: training or evaluation, cheap enough for every batch; ``numbers``: also
            ``requires_grad``, hooks, buffers, and tensors held in attributes; ``all``: also all other
            attributes, which may be the user's own counts.

    >>> model = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout())
    >>> with undisturbed(model):
    ...     model.eval()[0].running_mean.data += 1
    >>> model.training, model[0].running_mean
    (True, tensor([0., 0.]))
    """
    modules = list(model.modules())
    modes = [(module, getattr(module, "training", None)) for module in modules]
    held, numbers, flags = [], [], []
    if what != "modes":
        held = [(module, _contents(module, what == "all")) for module in modules if not _scripted(module)]
        numbers = [(tensor, (tensor._version, tensor.detach().clone())) for tensor in _tensors(modules)]
        owned = (parameter for module in modules for _, parameter in module._parameters.items())
        flags = [(parameter, parameter.requires_grad) for parameter in owned if parameter is not None]
    try:
        yield
    finally:
        for module, contents in held:
            _restore(module, *contents)
        for module, mode in modes:
            # Frozen TorchScript has no mode.
            if mode is not None and module.training != mode:
                module.training = mode
        for parameter, flag in flags:
            if parameter.requires_grad != flag:
                parameter.requires_grad_(flag)
        with torch.no_grad():
            for tensor, (version, before) in numbers:
                _write_back(tensor, version, before)


@contextmanager
def same_randomness() -> Iterator[None]:
    """The global random numbers go on afterwards as if nothing had been drawn inside.

    >>> before = torch.get_rng_state()
    >>> with same_randomness():
    ...     drawn = torch.rand(3)
    >>> torch.equal(before, torch.get_rng_state())
    True
    """
    # Only devices that are in use: asking for the state of another would start it.
    used = torch.cuda.is_available() and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = torch.cuda.get_rng_state_all() if used else []
    state, plain, arrays = torch.get_rng_state(), random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        torch.set_rng_state(state)
        random.setstate(plain)
        np.random.set_state(arrays)  # noqa: NPY002
        if devices:
            torch.cuda.set_rng_state_all(devices)


def _scripted(module: nn.Module) -> bool:
    return isinstance(module, torch.jit.ScriptModule)


def _contents(module: nn.Module, whole: bool) -> tuple[dict[str, Any], list[Any], list[tuple[Any, Any]]]:
    """Attributes (all, or those of every module), their empty containers, and copies of the others."""
    attributes = module.__dict__
    kept = attributes.copy() if whole else {name: attributes[name] for name in _INTERNAL & attributes.keys()}
    containers = [value for value in kept.values() if isinstance(value, _CONTAINERS)]
    if whole:
        containers += _nested([attributes[name] for name in attributes.keys() - _INTERNAL])
    # Most are empty dicts of hooks, for which no copy is made.
    empty = [value for value in containers if not value]
    return kept if whole else {}, empty, [(value, value.copy()) for value in containers if value]


def _nested(values: Iterable[Any]) -> list[Any]:
    """The containers inside containers: a cache may be a dict of lists."""
    full = [value for value in values if isinstance(value, _HOLDERS) and value]
    if not full:
        return []
    found: dict[int, Any] = {}
    queue = [item for value in full for item in _items(value) if isinstance(item, _HOLDERS)]
    while queue:
        value = queue.pop()
        if isinstance(value, _CONTAINERS) and id(value) not in found:
            found[id(value)] = value
        elif not isinstance(value, tuple):
            continue
        queue += [item for item in _items(value) if isinstance(item, _HOLDERS)]
    return list(found.values())


def _items(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, _HOLDERS) else ()


def _restore(
    module: nn.Module, attributes: dict[str, Any], empty: list[Any], full: list[tuple[Any, Any]]
) -> None:
    if attributes:
        for name in module.__dict__.keys() - attributes.keys():
            del module.__dict__[name]
        module.__dict__.update(attributes)
    # In place, because others may refer to the same container.
    for value in empty:
        if value:
            value.clear()
    for value, copy in full:
        if isinstance(value, list):
            value[:] = copy
        else:
            value.clear()
            if isinstance(value, deque):
                value.extend(copy)
            else:
                value.update(copy)


def _tensors(modules: list[nn.Module]) -> list[Tensor]:
    """Buffers, and tensors in attributes and in their containers; each once."""
    found: dict[int, Tensor] = {}
    for module in modules:
        if _scripted(module):
            held: list[Any] = [[*module.buffers(recurse=False)]]
        else:
            own = module.__dict__
            held = [module._buffers, *(own[name] for name in own.keys() - _INTERNAL)]
        full = [value for value in held if isinstance(value, _HOLDERS) and value]
        alone = [value for value in held if isinstance(value, Tensor)]
        inside = [item for value in (*full, *_nested(full)) for item in _items(value)]
        found.update((id(item), item) for item in (*alone, *inside) if isinstance(item, Tensor))
    # Inference tensors cannot be written to outside of inference mode; others show no numbers to compare.
    return [
        item
        for item in found.values()
        if not (isinstance(item, nn.Parameter) or item.is_inference() or item.is_meta or item.is_nested)
        and item.layout == torch.strided
    ]


def _write_back(tensor: Tensor, version: int, before: Tensor) -> None:
    if tensor.shape != before.shape or tensor.dtype != before.dtype:
        # Observers resize their buffers.
        tensor.data = before
    # Writing raises the version of buffers that autograd may have saved: only where needed.
    elif tensor._version != version or (
        tensor.layout is torch.strided and not _equal(tensor.detach(), before)
    ):
        tensor.copy_(before)


def _equal(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same numbers; writing through ``.data`` leaves the version as it is."""
    if torch.equal(one, other):
        return True
    nan = one.isnan()
    return bool(nan.any()) and torch.equal(nan, other.isnan()) and torch.equal(one[~nan], other[~nan])
