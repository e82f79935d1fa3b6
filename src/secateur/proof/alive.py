"""Whether outputs depend on the values before them, so that comparing them says something."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from secateur.graph.channel_masks import ChannelMasks
from secateur.graph.dependency import DependencyGraph
from secateur.graph.trace.example_inputs import random_inputs
from secateur.graph.trace.input_tree import tensors_in
from secateur.graph.trace.tape import Call, Tape
from secateur.proof.float64 import to_float64
from secateur.proof.replay import replay


def depends(
    graph: DependencyGraph, dense: Mapping[str, Tensor], masks: ChannelMasks, reference: list[Tensor]
) -> bool:
    """Whether the masked network has other outputs for other inputs.

    Integers stay as given; the first numbers found with them (embeddings) are changed in their place.
    """
    generator = torch.Generator().manual_seed(1)
    others = tensors_in(random_inputs(graph.inputs, generator))
    found = _found_with_integers(graph.tape)

    def change(place: int, call: Call, results: list[Any]) -> None:
        for item in results if place in found else ():
            if isinstance(item, Tensor) and item.is_floating_point():
                noise = torch.rand(item.shape, generator=generator, dtype=torch.float64).to(item.device)
                item.mul_(0.5 + noise)

    with torch.no_grad():
        outputs = replay(graph.tape, dense, [to_float64(item) for item in others], masks, change)
    return any(not torch.equal(a, b) for a, b in zip(outputs, reference, strict=True))


def _found_with_integers(tape: Tape) -> set[int]:
    """The calls that find numbers with integers or flags among the inputs, or computed from those alone."""
    whole = {number for number in tape.inputs if not tape.values[number].dtype.is_floating_point}
    places = set[int]()
    for place, call in enumerate(tape.calls):
        if whole.isdisjoint(call.refs):
            continue
        if any(tape.values[number].dtype.is_floating_point for number in call.results):
            places.add(place)
        else:
            whole.update(call.results)
    return places


def why_nothing(draws: Sequence[Sequence[Tensor]]) -> str:
    """Why outputs of several draws of weights and inputs compare nothing; empty where they do."""
    if not any(item.numel() for item in draws[0]):
        return "the model's output is empty on inputs like the example, so that nothing was compared"
    first, *others = draws
    if all(torch.equal(a, b) for other in others for a, b in zip(first, other, strict=True)):
        return "the model's output is constant, whatever the weights and inputs, so that nothing was compared"
    return ""
