"""Example inputs of any batch size, and which of their dimensions is the batch."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim

from secateur.errors import UserError
from secateur.graph.trace.example_inputs import InputSpec, input_specs, random_inputs


def batch_input_specs(example_inputs: Any) -> tuple[InputSpec, ...]:
    """The specifications of the example inputs.

    Raises:
        UserError: they contain no tensor with a batch dimension.
    """
    found = input_specs(example_inputs)
    if not found or not found[0].shape:
        raise UserError("the example inputs contain no batch of images", hint="give a tensor [N, C, H, W]")
    return found


def random_batch(inputs: tuple[InputSpec, ...], size: int, seed: int) -> Any:
    """Random inputs of this batch size, drawn from the seed."""
    sized = tuple(
        replace(item, shape=(size, *item.shape[1:])) if has_batch_dim(item, inputs) else item
        for item in inputs
    )
    return random_inputs(sized, torch.Generator().manual_seed(seed))


def dynamic_shapes(inputs: tuple[InputSpec, ...]) -> Any:
    """The batch dimension of each input, in the form that ``torch.export`` takes."""
    batch = Dim("batch", min=1)
    marked = {item.path: {0: batch} if has_batch_dim(item, inputs) else {} for item in inputs}
    # torch.export wants a tuple for positional arguments and a dict for keyword arguments.
    if inputs[0].path == "" or inputs[0].path.isdigit():
        return tuple(marked.values())
    return marked


def has_batch_dim(item: InputSpec, inputs: tuple[InputSpec, ...]) -> bool:
    """Whether the first dimension of an input is the batch: it has the length of the first input's."""
    return bool(item.shape) and item.shape[0] == inputs[0].shape[0]


def named_inputs(inputs: Any) -> dict[str, Tensor]:
    """The tensors of the inputs, by name or position."""
    if isinstance(inputs, Tensor):
        return {"0": inputs}
    if isinstance(inputs, dict):
        return inputs
    return {str(index): item for index, item in enumerate(inputs)}
