"""The dependency graph of one model: groups, the thesis' objects, explanations and pictures."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from secateur.graph.atoms import Atoms
from secateur.graph.groups import Frozen, Group, Tie
from secateur.graph.labels import IntArray, Marks
from secateur.graph.show import explain as _explain
from secateur.graph.show import thesis_matrices as _views
from secateur.graph.show.draw import draw as _draw
from secateur.graph.trace.tape import Tape
from secateur.graph.width_attributes import Learned


@dataclass(frozen=True)
class InputSpec:
    """What is known of one example input: enough to draw fresh ones."""

    path: str
    shape: tuple[int, ...]
    dtype: str
    low: float
    high: float


def input_specs(example_inputs: Any) -> tuple[InputSpec, ...]:
    """Shapes, types and ranges of the tensors among example inputs.

    A tensor has the path ``""``, the i-th positional argument ``"0"``, …, a keyword argument its name.
    """
    if isinstance(example_inputs, Tensor):
        named = [("", example_inputs)]
    elif isinstance(example_inputs, dict):
        named = list(example_inputs.items())
    else:
        named = [(str(place), item) for place, item in enumerate(example_inputs)]
    found = []
    for path, tensor in named:
        if not isinstance(tensor, Tensor):
            continue
        numbers = tensor.detach().double() if tensor.numel() else torch.zeros(1, dtype=torch.float64)
        low, high = float(numbers.min()), float(numbers.max())
        found.append(
            InputSpec(path, tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."), low, high)
        )
    return tuple(found)


def random_inputs(spec: tuple[InputSpec, ...], generator: torch.Generator) -> Any:
    """Random inputs of the same shapes, types and ranges, in the form ``trace`` takes."""
    named: dict[str, Tensor] = {}
    for item in spec:
        dtype = getattr(torch, item.dtype)
        if dtype.is_floating_point:
            noise = torch.rand(item.shape, generator=generator, dtype=torch.float64)
            spread = item.high - item.low
            named[item.path] = (item.low + noise * (spread if spread > 0 else 1.0)).to(dtype)
        elif dtype == torch.bool:
            named[item.path] = torch.full(item.shape, bool(item.high))
        else:
            low, high = int(item.low), int(item.high)
            named[item.path] = torch.randint(low, high + 1, item.shape, generator=generator, dtype=dtype)
    return as_arguments(named)


def meta_inputs(spec: tuple[InputSpec, ...]) -> Any:
    """Inputs of the same shapes and types without content, on the meta device."""
    named = {
        item.path: torch.empty(item.shape, dtype=getattr(torch, item.dtype), device="meta") for item in spec
    }
    return as_arguments(named)


def inputs_to_device(inputs: Any, device: torch.device) -> Any:
    """Inputs on another device."""
    if isinstance(inputs, dict):
        return {key: value.to(device) for key, value in inputs.items()}
    return tuple(item.to(device) for item in inputs) if isinstance(inputs, tuple) else inputs.to(device)


def as_arguments(named: dict[str, Tensor]) -> Any:
    """Named tensors back in the form the model is called with."""
    if set(named) == {""}:
        return named[""]
    if all(path.isdigit() for path in named):
        return tuple(named[path] for path in sorted(named, key=int))
    return dict(named)


@dataclass(frozen=True, eq=False)
class DependencyGraph:
    """Which channels of a model can only be removed together, and why.

    ``groups`` can be pruned; ``frozen`` cannot, each with the operation and source line that says so;
    ``ties`` are counts that must stay equal (heads, groups of a normalisation, halves of a gate).
    ``whole`` is the head of each atom, if heads were to go as wholes; ``logits`` the output that counts.
    """

    model: nn.Module = field(repr=False)
    inputs: tuple[InputSpec, ...]
    groups: tuple[Group, ...]
    ties: tuple[Tie, ...] = field(repr=False)
    frozen: tuple[Frozen, ...] = field(repr=False)
    tape: Tape = field(repr=False)
    marks: dict[int, Marks] = field(repr=False)
    statistics: frozenset[int] = field(repr=False)
    atoms: Atoms = field(repr=False)
    learned: Learned = field(repr=False, default_factory=Learned)
    whole: IntArray | None = field(repr=False, default=None)
    logits: str | int | None = None

    @property
    def heads(self) -> str:
        """What can go of attention: ``width`` or ``whole``."""
        return "width" if self.whole is None else "whole"

    def __getitem__(self, name: str) -> Group:
        return next(group for group in self.groups if group.name == name)

    @property
    def layers(self) -> list["_views.Layer"]:
        """Steps in the order in which they ran, each with its sides f⁻ and f⁺ (thesis 3.2)."""
        return _views.layers(self)

    def dependency_matrix(self) -> "_views.BoolArray":
        """The thesis' D (Eq. 3.1–3.2, Algorithm 2): which layer sides depend on each other."""
        return _views.dependency_matrix(self)

    def grouping_matrix(self) -> "_views.BoolArray":
        """The thesis' G (Algorithm 1): which layer sides lie in one group, the closure of D."""
        return _views.grouping_matrix(self)

    def explain(self) -> str:
        """What can be pruned, what cannot and why, in words."""
        return _explain.explain(self)

    def draw(self, path: str | None = None) -> str:
        """The layers, dependencies and groups as an SVG picture; written to ``path`` if given."""
        return _draw(self, path)

    def to_json(self) -> dict[str, Any]:
        """Groups, frozen channels and shares as plain data."""
        return _explain.to_json(self)
