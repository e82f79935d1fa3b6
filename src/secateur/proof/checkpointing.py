"""Outputs of a replay and their input gradient, by gradient checkpointing where memory is short.

Chen et al. 2016, "Training deep nets with sublinear memory cost": a run without gradients keeps only the
values that cross segment boundaries; then each segment, from the last to the first, runs again with
gradients. This costs one more forward pass.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from secateur.cpu.malloc import kept_heap, release_memory
from secateur.graph.channel_masks import ChannelMasks
from secateur.graph.trace.tape import Tape
from secateur.proof.lifetimes import lifetimes
from secateur.proof.replay import Values, replay, run_calls

Span = tuple[int, int]


def with_gradient(
    tape: Tape,
    state: Mapping[str, Tensor],
    inputs: list[Tensor],
    masks: ChannelMasks | None = None,
    *,
    boundaries: Sequence[int] = (),
) -> tuple[list[Tensor], Tensor | None]:
    """Outputs, and the gradient of a fixed combination of the first float one by the first float input.

    The gradient is ``None`` where there is no such output or input, the output does not depend on it, or an
    operation has no derivative. A new segment begins before each of the calls ``boundaries``, see
    ``choose_boundaries``.
    """
    try:
        return _outputs_and_gradient(tape, state, inputs, masks, boundaries=boundaries)
    except RuntimeError as error:
        if "derivative for" not in str(error):
            raise
    with torch.no_grad():
        return replay(tape, state, inputs, masks), None


def _outputs_and_gradient(
    tape: Tape,
    state: Mapping[str, Tensor],
    inputs: list[Tensor],
    masks: ChannelMasks | None,
    *,
    boundaries: Sequence[int],
) -> tuple[list[Tensor], Tensor | None]:
    source = next((n for n, x in zip(tape.inputs, inputs, strict=True) if x.is_floating_point()), -1)
    moved = _depending(tape, source)
    spans = list(pairwise([0, *boundaries, len(tape.calls)]))
    if len(spans) > 1:
        release_memory()
    starts = _segment_inputs(tape, state, inputs, masks, spans=spans)
    outputs: list[Tensor] = []
    gradients: dict[int, Tensor] = {}
    for span in reversed(spans):
        leaves = {
            number: item.detach().requires_grad_(number in moved and item.is_floating_point())
            for number, item in starts.pop().items()
        }
        with torch.enable_grad():
            values = Values(tape, state, masks, start=leaves if span[0] else _copies(leaves))
            with values.building_again():
                run_calls(tape, values, masks, span=span)
                if not outputs:
                    outputs = [values[number].detach() for number in tape.outputs]
                    first = _first_float(outputs)
                    if first is not None:
                        gradients[tape.outputs[first]] = _weights(tape.outputs[first], outputs[first], masks)
                _backward(values, leaves, gradients)
        if len(spans) > 1:
            release_memory()
    return outputs, gradients.get(source)


def _segment_inputs(
    tape: Tape,
    state: Mapping[str, Tensor],
    inputs: list[Tensor],
    masks: ChannelMasks | None,
    *,
    spans: list[Span],
) -> list[dict[int, Tensor]]:
    """The inputs of each segment: the values that are live at its start."""
    starts = [dict(zip(tape.inputs, inputs, strict=True))]
    lives = lifetimes(tape) if len(spans) > 1 else {}
    with torch.no_grad():
        for begin, end in spans[:-1]:
            values = Values(tape, state, masks, start=starts[-1] if begin else _copies(starts[-1]))
            with kept_heap():
                run_calls(tape, values, masks, span=(begin, end))
            starts.append(
                {number: values[number] for number, (born, last) in lives.items() if born < end <= last}
            )
    return starts


def _copies(values: Mapping[int, Tensor]) -> dict[int, Tensor]:
    """Copies, because the network may write into its inputs."""
    return {number: item.clone() for number, item in values.items()}


def _backward(values: Values, leaves: Mapping[int, Tensor], gradients: dict[int, Tensor]) -> None:
    """Replace gradients at a segment's results by those at its ``leaves``; others pass unchanged."""
    here = {number: gradients.pop(number) for number in gradients.keys() - leaves.keys()}
    made = [number for number in here if values[number].requires_grad]
    into = [number for number, leaf in leaves.items() if leaf.requires_grad]
    if not made or not into:
        return
    # With a gradient for each result torch would import sympy to compare shapes.
    total = torch.stack([values[number].flatten() @ here[number].flatten() for number in made]).sum()
    found = torch.autograd.grad(total, [leaves[number] for number in into], allow_unused=True)
    for number, gradient in zip(into, found, strict=True):
        if gradient is not None:
            gradients[number] = gradients[number] + gradient if number in gradients else gradient


def _first_float(outputs: Sequence[Tensor]) -> int | None:
    """The first output that has a gradient; of those without any number only if there is no other."""
    floats = [place for place, item in enumerate(outputs) if item.is_floating_point()]
    return next((place for place in floats if outputs[place].numel()), floats[0] if floats else None)


def _weights(number: int, output: Tensor, masks: ChannelMasks | None) -> Tensor:
    """The fixed combination: one weight per element of the output; none for those that are removed."""
    if masks is not None and masks.loses_channels(number):
        return masks.scatter(number, _weights(number, masks.compact(number, output), None))
    numbers = torch.arange(1, output.numel() + 1, dtype=torch.float64)
    return torch.cos(numbers).to(output).reshape(output.shape)


def _depending(tape: Tape, source: int) -> set[int]:
    """The values that may depend on an input, including those that share memory with such a value."""
    roots = {tape.values[source].root} if source >= 0 else set()
    found = {source}
    for call in tape.calls:
        if any(tape.values[number].root in roots for number in call.refs):
            roots.update(tape.values[number].root for number in call.results)
    found.update(number for number, value in enumerate(tape.values) if value.root in roots)
    return found
