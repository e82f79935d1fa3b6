"""Picks among equal numbers: the same numbers, rounded otherwise, can give another maximum or order.

Where a detector sees a plain surface, many scores are equal, and which of them is found first is up to the
last bit. Such picks are no difference between two networks; what follows from them is compared for the same
picks in both.
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
from secateur.proof.relative_error import TOLERANCE, relative_error
from secateur.proof.replay import replay
from secateur.surgery.cut import cut_tensors
from secateur.surgery.plan import Plan

_COUNTS = operations(Does.COUNT)


def with_same_picks(
    graph: DependencyGraph,
    plan: Plan,
    masks: ChannelMasks,
    *,
    dense: Mapping[str, Tensor],
    inputs: list[Tensor],
) -> DependencyGraph | None:
    """The graph with what the pruned network picked, if it picked among the same numbers; otherwise None.

    Only picks among values that lose no channels count: which of the channels was found is no matter of
    rounding.
    """
    pairs = {place: masks.matches[place] for place in _picking(graph.tape, masks)}
    if not pairs:
        return None
    numbers = _compared(graph.tape, masks.pruned, pairs)
    smaller = cut_tensors(dense, plan, graph.model)
    picked, seen = _pruned_run(masks.pruned, smaller, inputs, (set(pairs.values()), set(numbers.values())))
    known = {place: picked[twin] for place, twin in pairs.items()}
    tape = replace(graph.tape, decided={**graph.tape.decided, **known})
    alike = True

    def compare(place: int, call: Call, results: list[Any]) -> None:
        nonlocal alike
        for number, item in zip(call.outputs, results, strict=True):
            if alike and number in numbers:
                alike = relative_error(seen[numbers[number]], item) <= TOLERANCE

    with torch.no_grad():
        replay(tape, dense, inputs, masks, compare)
    return replace(graph, tape=tape) if alike else None


def _picking(tape: Tape, masks: ChannelMasks) -> list[int]:
    """The calls that turn numbers into integers or flags, and whose values lose no channels."""
    found = []
    for place, call in enumerate(tape.calls):
        if place not in masks.matches or call.name in _COUNTS or mutates(call.op):
            continue
        results = [number for number in call.outputs if number is not None]
        kinds = [[tape.values[n].dtype.is_floating_point for n in some] for some in (call.refs, results)]
        picks = any(kinds[0]) and not all(kinds[1])
        if picks and not any(masks.loses_channels(number) for number in (*call.refs, *results)):
            found.append(place)
    return found


def _compared(tape: Tape, pruned: Tape, pairs: Mapping[int, int]) -> dict[int, int]:
    """The computed numbers that were picked from, by number in both tapes."""
    return {
        mine: theirs
        for place, twin in pairs.items()
        for mine, theirs in zip(tape.calls[place].refs, pruned.calls[twin].refs, strict=True)
        if tape.values[mine].kind == "result" and tape.values[mine].dtype.is_floating_point
    }


def _pruned_run(
    tape: Tape, state: Mapping[str, Tensor], inputs: list[Tensor], wanted: tuple[set[int], set[int]]
) -> tuple[dict[int, Decided], dict[int, Tensor]]:
    """What the wanted calls of the pruned network picked, and the wanted numbers."""
    picked: dict[int, Decided] = {}
    seen: dict[int, Tensor] = {}

    def note(place: int, call: Call, results: list[Any]) -> None:
        if place in wanted[0]:
            picked[place] = decided(results)
        for number, item in zip(call.outputs, results, strict=True):
            if number in wanted[1]:
                seen[number] = item.detach().clone()

    with torch.no_grad():
        replay(tape, state, inputs, None, note)
    return picked, seen
