"""Numbers that a model's code computes from its widths: 1/sqrt(d) of an attention, a sum divided by a width.

The comparison takes them from the pruned run, so that a network passes whose code scales by its width; its
outputs are then not those of the dense network's number, and the report says so.
"""

import math
from typing import Any

import torch
from torch import Tensor

from secateur.graph.channel_masks import ChannelMasks
from secateur.graph.trace.tape import Call, Tape


def with_numbers(masks: ChannelMasks, call: Call, twin: Call) -> tuple[Any, dict[str, Any]]:
    """The arguments of ``call`` with the numbers of ``twin``, its counterpart in the pruned run."""
    whole = _takes_whole_numbers(masks.pruned, twin)
    named = {key: _chosen(value, twin.kwargs.get(key), whole) for key, value in call.kwargs.items()}
    return _chosen(call.args, twin.args, whole), named


def following_widths(tape: Tape, masks: ChannelMasks) -> list[Call]:
    """The calls with a number that the pruned network's code computes from a smaller width."""
    pruned = masks.pruned
    found = []
    for place, call in enumerate(tape.calls):
        if place not in masks.matches:
            continue
        twin = pruned.calls[masks.matches[place]]
        whole = _takes_whole_numbers(pruned, twin)
        pairs = [(call.args, twin.args), *((call.kwargs[key], twin.kwargs.get(key)) for key in call.kwargs)]
        scalars = [
            (tape.constants[mine], pruned.constants[theirs])
            for mine, theirs in zip(call.refs, twin.refs, strict=False)
            if mine in tape.constants and theirs in pruned.constants
        ]
        if any(_differ(*pair, whole) for pair in pairs) or any(_scalars_differ(*pair) for pair in scalars):
            found.append(call)
    return found


def _takes_whole_numbers(pruned: Tape, twin: Call) -> bool:
    """Whether integers among the arguments are factors and the like, not sizes, axes or places."""
    floating = all(pruned.values[number].dtype.is_floating_point for number in twin.results)
    return torch.Tag.pointwise in twin.op.tags and floating


def _numbers(mine: Any, other: Any, whole: bool) -> bool:
    kinds = (float, int) if whole else float
    return isinstance(mine, kinds) and isinstance(other, kinds)


def _differ(mine: Any, other: Any, whole: bool) -> bool:
    """Whether a number among the arguments is another one in the pruned run."""
    if _numbers(mine, other, whole):
        return bool(mine != other) and not (math.isnan(mine) and math.isnan(other))
    if isinstance(mine, (list, tuple)) and isinstance(other, (list, tuple)) and len(mine) == len(other):
        return any(_differ(a, b, whole) for a, b in zip(mine, other, strict=True))
    return False


def _scalars_differ(mine: Tensor, other: Tensor) -> bool:
    both = mine.ndim == other.ndim == 0 and mine.is_floating_point() and other.is_floating_point()
    return both and not torch.equal(mine.double(), other.double())


def _chosen(mine: Any, other: Any, whole: bool) -> Any:
    if _numbers(mine, other, whole):
        return other
    if isinstance(mine, (list, tuple)) and isinstance(other, (list, tuple)) and len(mine) == len(other):
        return type(mine)(_chosen(a, b, whole) for a, b in zip(mine, other, strict=True))
    return mine
