"""Picks among equal numbers: the same numbers, rounded otherwise, can give another maximum or order.

Where a detector sees a plain surface, many scores are equal, and which of them is found first is up to the
last bit. Such picks are no difference between two networks: where a proof fails, the numbers in front of all
picks are compared like outputs, and what follows for the same picks in both.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from secateur.graph.channel_masks import ChannelMasks
from secateur.graph.dependency import DependencyGraph
from secateur.graph.ops import Does, operations
from secateur.graph.trace.decisions import Decided, decided
from secateur.graph.trace.tape import Call, Tape, mutates
from secateur.graph.trace.told import comparing
from secateur.proof.replay import replay

_COUNTS = operations(Does.COUNT)


def with_same_picks(
    graph: DependencyGraph,
    masks: ChannelMasks,
    smaller: Mapping[str, Tensor],
    inputs: list[Tensor],
) -> Tape | None:
    """The tape with what the pruned network picks, and what it picks from as outputs; None without picks.

    Only picks among values that lose no channels count: which of the channels was found is no matter of
    rounding. ``smaller`` are the weights of the pruned network.
    """
    pairs = {place: masks.matches[place] for place in _picking(graph.tape, masks)}
    if not pairs:
        return None
    picked: dict[int, Decided] = {}
    wanted = set(pairs.values())

    def note(place: int, call: Call, results: list[Any]) -> None:
        if place in wanted:
            picked[place] = decided(results)

    with torch.no_grad():
        replay(masks.pruned, smaller, inputs, None, note)
    known = {place: picked[twin] for place, twin in pairs.items()}
    return comparing(replace(graph.tape, decided={**graph.tape.decided, **known}))


def _picking(tape: Tape, masks: ChannelMasks) -> list[int]:
    """The calls that turn numbers into integers or flags, and whose values lose no channels."""
    found = []
    for place, call in enumerate(tape.calls):
        if place not in masks.matches or call.name in _COUNTS or mutates(call.op):
            continue
        kinds = [[tape.values[n].dtype.is_floating_point for n in some] for some in (call.refs, call.results)]
        picks = any(kinds[0]) and not all(kinds[1])
        if picks and not any(masks.loses_channels(number) for number in (*call.refs, *call.results)):
            found.append(place)
    return found
