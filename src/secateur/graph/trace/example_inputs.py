"""Example inputs as plain data, and inputs like them: random, without content, on another device.

Only floating-point tensors are drawn anew. Integers, flags and masks mean something to the model (lengths,
offsets, which positions to leave out), so they stay as given, like everything that is no tensor.
"""

import base64
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from secateur.graph.trace.input_tree import Slot, as_call, mapped


@dataclass(frozen=True)
class InputSpec:
    """Shape, type and range of one example input: enough to draw random ones like it.

    ``given`` are the numbers of a tensor that stays as it is, compressed; ``host`` is true for a tensor that
    stays on the CPU next to others that do not (the lengths of packed sequences).
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    low: float
    high: float
    given: str = ""
    host: bool = False


@dataclass(frozen=True)
class Inputs:
    """What a model is called with: a specification of each tensor, and the tree with a ``Slot`` for each.

    ``form`` is a tuple of positional or a dict of keyword arguments, or a single argument.
    """

    specs: tuple[InputSpec, ...]
    form: Any = field(compare=False)

    def __getitem__(self, position: int) -> InputSpec:
        return self.specs[position]

    def __iter__(self) -> Iterator[InputSpec]:
        return iter(self.specs)

    def __len__(self) -> int:
        return len(self.specs)


def input_specs(example_inputs: Any) -> Inputs:
    """Shapes, types and ranges of the tensors among example inputs, and where they are.

    A single tensor has the path ``""``, positional arguments ``"0"``, ``"1"``, …, keyword arguments their
    names; parts of these follow after a dot.

    >>> found = input_specs((torch.zeros(2, 3), [torch.tensor([0.5]), None]))
    >>> found[1], found.form
    (InputSpec(path='1.0', shape=(1,), dtype='float32', low=0.5, high=0.5, given='', host=False), \
(Slot(number=0), [Slot(number=1), None]))
    """
    found: list[tuple[str, Tensor]] = []

    def note(path: str, tensor: Tensor) -> Slot:
        found.append((path, tensor.detach()))
        return Slot(len(found) - 1)

    form = mapped(note, _arguments(example_inputs))
    mixed = len({tensor.device.type for _, tensor in found}) > 1
    return Inputs(tuple(_spec(path, tensor, mixed) for path, tensor in found), form)


def random_inputs(inputs: Inputs, generator: torch.Generator, device: torch.device | None = None) -> Any:
    """Random inputs of the same shapes, types and ranges, in the form ``trace`` takes."""
    drawn = [_drawn(item, generator) for item in inputs]
    if device is not None:
        drawn = [
            tensor if item.host else tensor.to(device) for item, tensor in zip(inputs, drawn, strict=True)
        ]
    return filled(inputs, drawn)


def inputs_near(example_inputs: Any, generator: torch.Generator) -> Any:
    """The example inputs with floating numbers changed by up to 1 %, on their devices.

    >>> inputs_near((torch.zeros(2), torch.tensor([3])), torch.Generator())
    (tensor([0., 0.]), tensor([3]))
    """

    def near(_: str, tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        noise = torch.rand(tensor.shape, generator=generator, dtype=torch.float64).to(tensor.device)
        return (tensor.detach().double() * (0.99 + 0.02 * noise)).to(tensor.dtype)

    return mapped(near, example_inputs)


def meta_inputs(inputs: Inputs) -> Any:
    """Inputs of the same shapes and types on the meta device."""
    return filled(
        inputs, [torch.empty(item.shape, dtype=getattr(torch, item.dtype), device="meta") for item in inputs]
    )


def filled(inputs: Inputs, tensors: list[Tensor]) -> Any:
    """The inputs with these tensors in their places."""
    return mapped(lambda _, slot: tensors[slot.number], inputs.form)


def inputs_to_device(inputs: Any, device: torch.device) -> Any:
    """Inputs on another device."""
    return mapped(lambda _, tensor: tensor.to(device), inputs)


def is_given(tensor: Tensor) -> bool:
    """Whether a tensor stays as it is: integers, flags, and masks of numbers.

    Masks have entries of minus infinity (or the lowest number there is), or two values of which one is zero.

    >>> is_given(torch.tensor([3, 1])), is_given(torch.tensor([0.0, 1.0, 0.0])), is_given(torch.rand(9))
    (True, True, False)
    """
    if tensor.is_complex():
        return False
    if not tensor.is_floating_point():
        return True
    low, high = (tensor.min(), tensor.max()) if tensor.numel() else (tensor.sum(), tensor.sum())
    if float(low) <= torch.finfo(tensor.dtype).min:
        return True
    zero = float(low) == 0 or float(high) == 0
    return zero and bool(low != high) and bool(((tensor == low) | (tensor == high)).all())


def _arguments(example_inputs: Any) -> Any:
    """The inputs with a plain tuple or dict at the top, which are only the arguments of a call."""
    arguments, keywords = as_call(example_inputs)
    if keywords or isinstance(example_inputs, dict):
        return keywords
    # By identity: arrays answer a comparison element by element.
    alone = len(arguments) == 1 and arguments[0] is example_inputs
    return example_inputs if alone else arguments


def _spec(path: str, tensor: Tensor, mixed: bool) -> InputSpec:
    numbers = torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
    numbers = numbers.double()
    finite = numbers[numbers.isfinite()]
    low, high = (float(finite.min()), float(finite.max())) if finite.numel() else (0.0, 0.0)
    return InputSpec(
        path,
        tuple(tensor.shape),
        str(tensor.dtype).removeprefix("torch."),
        low,
        high,
        packed(tensor) if is_given(tensor) else "",
        mixed and tensor.device.type == "cpu",
    )


def packed(tensor: Tensor) -> str:
    """The numbers of a tensor as text, compressed.

    >>> len(packed(torch.ones(512, 512).triu().bool())) < 5000
    True
    """
    plain = tensor.detach().cpu().contiguous().reshape(-1)
    content = plain.view(torch.uint8).numpy().tobytes() if plain.numel() else b""
    return base64.b64encode(zlib.compress(content, 1)).decode()


def unpacked(item: InputSpec) -> Tensor:
    """The tensor that ``packed`` made into text.

    >>> unpacked(input_specs(torch.tensor([[7, 8]]))[0])
    tensor([[7, 8]])
    """
    dtype = getattr(torch, item.dtype)
    size = math.prod(item.shape) * dtype.itemsize
    # One byte more than wanted tells too many; what a stranger packed may unpack without end.
    unpacker = zlib.decompressobj()
    content = np.frombuffer(unpacker.decompress(base64.b64decode(item.given), size + 1), np.uint8).copy()
    if content.size != size:
        raise ValueError(f"the numbers of input '{item.path}' do not fill its shape")
    # An empty array has no strides by which bytes could be taken together.
    return (torch.from_numpy(content).view(dtype) if content.size else torch.empty(0, dtype=dtype)).reshape(
        item.shape
    )


def _drawn(item: InputSpec, generator: torch.Generator) -> Tensor:
    dtype = getattr(torch, item.dtype)
    if item.given:
        return unpacked(item)
    if dtype.is_floating_point or dtype.is_complex:
        shape = (*item.shape, 2) if dtype.is_complex else item.shape
        noise = torch.rand(shape, generator=generator, dtype=torch.float64)
        # A constant input (a mask of ones) still gets random values: the proof must not depend on it.
        spread = item.high - item.low
        drawn = item.low + noise * (spread if spread > 0 else 1.0)
        return (torch.view_as_complex(drawn) if dtype.is_complex else drawn).to(dtype)
    # Plans of earlier versions know the range of integers alone.
    if dtype == torch.bool:
        return torch.full(item.shape, bool(item.high))
    return torch.randint(int(item.low), int(item.high) + 1, item.shape, generator=generator, dtype=dtype)
