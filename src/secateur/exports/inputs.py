"""Example inputs of any batch size, and which of their dimensions is the batch."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim

from secateur.errors import UserError
from secateur.graph.trace.example_inputs import (
    Inputs,
    InputSpec,
    input_specs,
    packed,
    random_inputs,
    unpacked,
)
from secateur.graph.trace.input_tree import Slot, as_call, mapped, parts, rebuilt


def batch_input_specs(example_inputs: Any) -> Inputs:
    """The specifications of the example inputs.

    Raises:
        UserError: they contain no tensor with a batch dimension.
    """
    found = input_specs(example_inputs)
    if not len(found) or not found[0].shape:
        raise UserError("the example inputs contain no batch of images", hint="give a tensor [N, C, H, W]")
    return found


def random_batch(inputs: Inputs, size: int, seed: int) -> Any:
    """Random inputs of this batch size, drawn from the seed; those that stay as given are repeated."""
    sized = tuple(_sized(item, size) if has_batch_dim(item, inputs) else item for item in inputs)
    return random_inputs(replace(inputs, specs=sized), torch.Generator().manual_seed(seed))


def _sized(item: InputSpec, size: int) -> InputSpec:
    resized = replace(item, shape=(size, *item.shape[1:]))
    if not item.given or size == item.shape[0]:
        return resized
    return replace(resized, given=packed(unpacked(item)[torch.arange(size) % item.shape[0]]))


def dynamic_shapes(inputs: Inputs) -> Any:
    """The batch dimension of each input, in the form that ``torch.export`` takes."""
    batch = Dim("batch", min=1)

    def marked(form: Any) -> Any:
        if isinstance(form, Slot):
            return {0: batch} if has_batch_dim(inputs[form.number], inputs) else {}
        found = parts(form)
        return rebuilt(form, {key: marked(item) for key, item in found.items()}) if found else None

    # torch.export wants a tuple for positional arguments and a dict for keyword arguments.
    arguments, keywords = as_call(inputs.form)
    return {key: marked(item) for key, item in keywords.items()} or tuple(map(marked, arguments))


def has_batch_dim(item: InputSpec, inputs: Inputs) -> bool:
    """Whether the first dimension of an input is the batch: it has the length of the first input's."""
    return bool(item.shape) and item.shape[0] == inputs[0].shape[0]


def named_inputs(inputs: Any) -> dict[str, Tensor]:
    """The tensors of the inputs, by name or position."""
    found: dict[str, Tensor] = {}
    mapped(found.__setitem__, inputs)
    return {path or "0": tensor for path, tensor in found.items()}
