"""Capturing a model as a program, and comparing what was written with the model."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from secateur.errors import UserError
from secateur.exports.formats import Run, quiet
from secateur.exports.inputs import batch_of
from secateur.graph.dependency import InputSpec
from secateur.graph.trace.isolated_forward import call_model, tensors_in
from secateur.text import first_line


def captured(model: nn.Module, inputs: tuple[InputSpec, ...], shapes: Any) -> ExportedProgram:
    """The model as a program, for the batch that ``inputs`` have, or for any if ``shapes`` say so.

    Raises:
        UserError: ``torch.export`` cannot follow the model.
    """
    # A batch of one would become a constant of the program.
    size = inputs[0].shape[0] if shapes is None else max(2, inputs[0].shape[0])
    example = batch_of(inputs, size, seed=0)
    arguments, keywords = ((), example) if isinstance(example, dict) else (example, {})
    if isinstance(arguments, torch.Tensor):
        arguments = (arguments,)
    try:
        with quiet():
            return torch.export.export(model, arguments, keywords, dynamic_shapes=shapes)
    except Exception as error:
        # Whatever the exporter or the model's code raises is the answer.
        raise UserError(
            f"torch.export cannot follow the model: {type(error).__name__}: {first_line(error)}",
            hint="code such as len(x) fixes the batch size; dynamic_batch=False exports for one size alone"
            if shapes is not None
            else "",
        ) from error


def answers(
    model: nn.Module, inputs: tuple[InputSpec, ...], sizes: Sequence[int], seed: int
) -> list[tuple[Any, list[Tensor]]]:
    """Fresh batches of these sizes with what the model says to them."""
    batches = [batch_of(inputs, size, seed) for size in sizes]
    with torch.no_grad():
        return [(batch, tensors_in(call_model(model, batch))) for batch in batches]


def difference(known: Sequence[tuple[Any, list[Tensor]]], run: Run) -> float:
    """The largest difference of all outputs to the known ones, relative to the largest output of their batch.

    Infinite where outputs are missing, of another shape, or not finite.
    """
    worst = 0.0
    for batch, wanted in known:
        found = [item.detach() for item in run(batch)]
        if [item.shape for item in wanted] != [item.shape for item in found]:
            return math.inf
        largest = max(float(item.abs().max()) for item in wanted)
        error = max(float((a.double() - b.double()).abs().max()) for a, b in zip(wanted, found, strict=True))
        if not math.isfinite(error):
            return math.inf
        worst = max(worst, error / max(largest, 1e-12))
    return worst
