"""Example inputs as plain data, and inputs like them: random, without content, on another device."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten


@dataclass(frozen=True)
class InputSpec:
    """Shape, type and range of one example input: enough to draw random ones like it."""

    path: str
    shape: tuple[int, ...]
    dtype: str
    low: float
    high: float


def input_specs(example_inputs: Any) -> tuple[InputSpec, ...]:
    """Shapes, types and ranges of the tensors among example inputs.

    A single tensor has the path ``""``, positional arguments ``"0"``, ``"1"``, …, keyword arguments their
    names.

    >>> input_specs((torch.zeros(2, 3), torch.tensor([4])))[1]
    InputSpec(path='1', shape=(1,), dtype='int64', low=4.0, high=4.0)
    """
    if isinstance(example_inputs, Tensor):
        named = [("", example_inputs)]
    elif isinstance(example_inputs, dict):
        named = list(example_inputs.items())
    else:
        named = [(str(position), item) for position, item in enumerate(example_inputs)]
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
            # A constant input (a mask of ones) still gets random values: the proof must not depend on it.
            spread = item.high - item.low
            named[item.path] = (item.low + noise * (spread if spread > 0 else 1.0)).to(dtype)
        elif dtype == torch.bool:
            named[item.path] = torch.full(item.shape, bool(item.high))
        else:
            low, high = int(item.low), int(item.high)
            named[item.path] = torch.randint(low, high + 1, item.shape, generator=generator, dtype=dtype)
    return _as_arguments(named)


def meta_inputs(spec: tuple[InputSpec, ...]) -> Any:
    """Inputs of the same shapes and types on the meta device."""
    named = {
        item.path: torch.empty(item.shape, dtype=getattr(torch, item.dtype), device="meta") for item in spec
    }
    return _as_arguments(named)


def inputs_to_device(inputs: Any, device: torch.device) -> Any:
    """Inputs on another device."""
    if isinstance(inputs, dict):
        return {key: value.to(device) for key, value in inputs.items()}
    return tuple(item.to(device) for item in inputs) if isinstance(inputs, tuple) else inputs.to(device)


def _as_arguments(named: dict[str, Tensor]) -> Any:
    """Named tensors in the form that the model is called with."""
    if set(named) == {""}:
        return named[""]
    if all(path.isdigit() for path in named):
        return tuple(named[path] for path in sorted(named, key=int))
    return dict(named)


def input_tensors(example_inputs: Any) -> list[Tensor]:
    """The tensors among example inputs."""
    return [leaf for leaf in tree_flatten(example_inputs)[0] if isinstance(leaf, Tensor)]
