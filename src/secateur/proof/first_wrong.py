"""Find the first operation of a pruned network whose result is not that of the masked dense network."""

from collections.abc import Mapping
from math import prod
from typing import Any

import torch
from torch import Tensor

from secateur.graph.channel_masks import ChannelMasks
from secateur.graph.dependency import DependencyGraph
from secateur.graph.trace.tape import Call
from secateur.proof.replay import replay

_Sums = tuple[tuple[int, ...], float, float]


def first_wrong(
    graph: DependencyGraph,
    dense: Mapping[str, Tensor],
    smaller: Mapping[str, Tensor],
    inputs: list[Tensor],
    masks: ChannelMasks,
) -> int | None:
    """The first call with another result than the masked dense network's, by two sums over what is kept."""
    sums: dict[int, list[_Sums | None]] = {}

    def note(place: int, call: Call, results: list[Any]) -> None:
        sums[place] = [_summed(item) for item in results]

    wrong: list[int] = []

    def check(place: int, call: Call, results: list[Any]) -> None:
        # Memory that was only allocated holds anything.
        if wrong or place not in masks.matches or "empty" in call.name:
            return
        kept = [
            None if number is None else _kept(masks, number, item)
            for number, item in zip(call.outputs, results, strict=True)
        ]
        pairs = zip(kept, sums[masks.matches[place]], strict=False)
        if any(not _agree(_summed(mine), theirs) for mine, theirs in pairs):
            wrong.append(place)

    with torch.no_grad():
        replay(masks.pruned, smaller, inputs, None, note)
        replay(graph.tape, dense, inputs, masks, check)
    return wrong[0] if wrong else None


def _kept(masks: ChannelMasks, number: int, item: Any) -> Tensor | None:
    """What is left of a result after surgery; nothing where its shape depends on the data."""
    if not isinstance(item, Tensor) or tuple(item.shape) != masks.marks[number].shape:
        return None
    return masks.compact(number, item)


def _summed(item: Any) -> _Sums | None:
    """The shape, the norm and a weighted sum of a tensor of numbers, which its order changes."""
    if not isinstance(item, Tensor) or not item.is_floating_point():
        return None
    flat = item.detach().to_dense().double().flatten()
    weights = torch.cos(torch.arange(1, flat.numel() + 1, dtype=torch.float64, device=flat.device))
    return tuple(item.shape), float(flat.norm()), float(flat @ weights)


def _agree(mine: _Sums | None, theirs: _Sums | None) -> bool:
    """Whether two tensors have the same sums; those of other shapes (dimensions that may take any) do."""
    if mine is None or theirs is None or mine[0] != theirs[0]:
        return True
    room = 1e-9 * max(mine[1], theirs[1])
    return not (abs(mine[1] - theirs[1]) > room or abs(mine[2] - theirs[2]) > room * prod(mine[0]) ** 0.5)
