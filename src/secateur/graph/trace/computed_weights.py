"""Weights that a module computes from other tensors, by torch's own means.

These are parametrisations (``torch.nn.utils.parametrizations``), the older hooks of weight and spectral norm,
and the masks of ``torch.nn.utils.prune``. What a layer multiplies by is the computed weight, so that is what
criteria judge.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import _Orthogonal, _SpectralNorm
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

_HOOKS = (WeightNorm, SpectralNorm, BasePruningMethod)
_ENDINGS = {WeightNorm: ("g", "v"), SpectralNorm: ("orig", "u", "v"), BasePruningMethod: ("orig", "mask")}


@dataclass(frozen=True)
class Computed:
    """The weight ``attribute`` of a module, and the parameters and buffers it is computed from, by name."""

    module: str
    attribute: str
    sources: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name that a plain parameter would have."""
        return f"{self.module}.{self.attribute}" if self.module else self.attribute

    @property
    def inside(self) -> str:
        """The name of the module that computes a parametrised weight."""
        return f"{self.module}.parametrizations.{self.attribute}".lstrip(".")


def computed_weights(model: nn.Module) -> dict[str, Computed]:
    """The computed weights of a model, by name.

    >>> layer = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))
    >>> computed_weights(layer)["weight"].sources
    ('parametrizations.weight.original0', 'parametrizations.weight.original1')
    """
    found: dict[str, Computed] = {}
    for name, module in model.named_modules():
        found |= _of_module(name, module)
    return found


def computed_from(model: nn.Module, tensor: str) -> Computed | None:
    """The weight that is computed from this parameter or buffer, if any."""
    head, found, _ = tensor.partition("parametrizations.")
    owner = head.rstrip(".") if found else tensor.rpartition(".")[0]
    computed = _of_module(owner, model.get_submodule(owner)).values()
    return next((one for one in computed if tensor in one.sources), None)


def computed_as(model: nn.Module, name: str) -> Computed | None:
    """The computed weight of this name, if its module computes it."""
    owner = name.rpartition(".")[0]
    return _of_module(owner, model.get_submodule(owner)).get(name)


def _of_module(name: str, module: nn.Module) -> dict[str, Computed]:
    found: dict[str, Computed] = {}
    start = f"{name}." if name else ""
    for attribute, made in _parametrisations(module):
        inside = [*dict(made.named_parameters()), *dict(made.named_buffers())]
        own = tuple(f"{start}parametrizations.{attribute}.{source}" for source in inside)
        found[f"{start}{attribute}"] = Computed(name, attribute, own)
    for hook, attribute in computing_hooks(module):
        kind = next(kind for kind in _HOOKS if isinstance(hook, kind))
        sources: list[str] = []
        for part in (f"{attribute}_{ending}" for ending in _ENDINGS[kind]):
            # One may be computed itself: a mask over the directions of a weight norm.
            chained = found.pop(start + part, None)
            # Vectors have no spectral norm, and then no buffers for it.
            there = part in module._parameters or part in module._buffers
            sources += chained.sources if chained else [start + part] if there else []
        found[f"{start}{attribute}"] = Computed(name, attribute, tuple(sources))
    return found


def spectral_vectors(model: nn.Module) -> set[str]:
    """The names of the vectors ``u`` and ``v`` of spectral norms."""
    found = set()
    for name, module in model.named_modules():
        start = f"{name}." if name else ""
        if isinstance(module, _SpectralNorm):
            found |= {f"{start}{own}" for own, _ in module.named_buffers(recurse=False)}
        for hook, attribute in computing_hooks(module):
            if isinstance(hook, SpectralNorm):
                found |= {f"{start}{attribute}_u", f"{start}{attribute}_v"}
    return found


def orthogonal_weights(model: nn.Module) -> list[Computed]:
    """The weights that torch keeps orthogonal: each row (or column) is computed from all of them.

    >>> [one.name for one in orthogonal_weights(nn.utils.parametrizations.orthogonal(nn.Linear(4, 3)))]
    ['weight']
    """
    found = []
    for one in computed_weights(model).values():
        made = dict(_parametrisations(model.get_submodule(one.module))).get(one.attribute)
        if made is not None and any(isinstance(part, _Orthogonal) for part in made):
            found.append(one)
    return found


def _parametrisations(module: nn.Module) -> list[tuple[str, parametrize.ParametrizationList]]:
    if not parametrize.is_parametrized(module):
        return []
    lists = cast(Mapping[str, parametrize.ParametrizationList], module.parametrizations)
    return list(lists.items())


def computing_hooks(module: nn.Module) -> list[tuple[Any, str]]:
    """The hooks that compute weights before every forward pass, in order, and the attributes they set."""
    hooks = [hook for hook in module._forward_pre_hooks.values() if isinstance(hook, _HOOKS)]
    return [(hook, hook._tensor_name if isinstance(hook, BasePruningMethod) else hook.name) for hook in hooks]


def refresh_computed(module: nn.Module) -> None:
    """Compute the weights that hooks set anew: as plain tensors, which a copy of the module can hold."""
    for hook, attribute in computing_hooks(module):
        with torch.no_grad():
            if isinstance(hook, SpectralNorm):
                value = hook.compute_weight(module, do_power_iteration=False)
            else:
                compute = hook.apply_mask if isinstance(hook, BasePruningMethod) else hook.compute_weight
                value = compute(module)
        setattr(module, attribute, value.detach())


def computed_weight(model: nn.Module, computed: Computed) -> Tensor:
    """The weight as in eval mode, detached; the model is left as it was."""
    module = model.get_submodule(computed.module)
    made = dict(_parametrisations(module)).get(computed.attribute)
    if made is not None:
        with _evaluating(made), torch.no_grad():
            return cast(Tensor, made()).detach()
    before = dict(module.__dict__)
    refresh_computed(module)
    value = cast(Tensor, getattr(module, computed.attribute))
    _put_back(module, before)
    return value


def _put_back(module: nn.Module, before: Mapping[str, Any]) -> None:
    """Undo what hooks set: it belongs to another run, and holds its graph."""
    for _, attribute in computing_hooks(module):
        if attribute in before:
            module.__dict__[attribute] = before[attribute]


@contextmanager
def watched(model: nn.Module) -> Iterator[dict[str, list[Tensor]]]:
    """Collects every computed weight inside, by name, as the layers use it: one entry per computation."""
    known = computed_weights(model)
    found: dict[str, list[Tensor]] = {name: [] for name in known}
    handles, before = [], []

    def note(name: str) -> Any:
        return lambda module, inputs, output: found[name].append(output)

    def note_attribute(name: str, attribute: str) -> Any:
        return lambda module, inputs: found[name].append(getattr(module, attribute))

    for name, computed in known.items():
        module = model.get_submodule(computed.module)
        before.append((module, module.__dict__.copy()))
        made = dict(_parametrisations(module)).get(computed.attribute)
        if made is not None:
            handles.append(made.register_forward_hook(note(name)))
        else:
            # Hooks run in the order in which they were registered: after those that compute.
            handles.append(module.register_forward_pre_hook(note_attribute(name, computed.attribute)))
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
        for module, attributes in before:
            _put_back(module, attributes)


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Eval mode: in train mode a spectral norm improves its vectors at every call."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
