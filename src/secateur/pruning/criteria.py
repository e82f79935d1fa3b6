"""Criteria: how much each channel of a group is worth. The channels with the smallest scores go."""

import numpy as np
import torch
from torch import Tensor, nn

from secateur.errors import UserError
from secateur.graph import Group
from secateur.graph.groups import Member
from secateur.graph.trace.named_tensors import find_parameter

REDUCTIONS = ("mean", "sum", "max", "first")
_AT_ONCE = 1 << 18


def l1(
    group: Group, model: nn.Module, *, generator: torch.Generator | None = None, reduction: str = "mean"
) -> Tensor:
    """Sum of absolute kernel weights of the filters that produce each channel (Li et al. 2017).

    Args:
        group: channels of ``model`` that can only go together.
        model: where the weights are.
        generator: unused; every criterion takes one.
        reduction: how the layers of a group are combined: mean, sum, max, or first (its first layer
            decides).

    Returns:
        One float64 score per channel, shape [C].
    """
    scores = [_sums(member, model, group.size) for member in producers(group, model)]
    return combine(scores, reduction)


def random(
    group: Group, model: nn.Module, *, generator: torch.Generator | None = None, reduction: str = "mean"
) -> Tensor:
    """Uniform scores, drawn from ``generator``: every subset of channels is equally likely.

    Raises:
        UserError: there is no generator.
    """
    if generator is None:
        raise UserError("the random criterion needs a generator", hint="pass generator=torch.Generator()")
    return torch.rand(group.size, generator=generator, dtype=torch.float64)


def producers(group: Group, model: nn.Module) -> list[Member]:
    """Members that are filters producing the channels; without any, every member that is not read."""
    owned = [(member, find_parameter(model, member.tensor)) for member in group.members]
    found = [(member, parameter.ndim) for member, parameter in owned if parameter is not None]
    made = [(member, ndim) for member, ndim in found if member.role == "out"]
    if made:
        return [member for member, ndim in made if ndim > 1] or [member for member, _ in made]
    return [member for member, _ in found if member.role != "in"] or [member for member, _ in found]


def is_parameter(model: nn.Module, name: str) -> bool:
    """Whether a tensor of the model is a parameter, and no buffer."""
    return find_parameter(model, name) is not None


def combine(scores: list[Tensor], reduction: str) -> Tensor:
    """Reduce the scores of several layers to one per channel.

    Raises:
        UserError: the reduction is unknown.
    """
    if reduction not in REDUCTIONS:
        raise UserError(f"unknown reduction '{reduction}'", hint=f"known: {', '.join(REDUCTIONS)}")
    if reduction == "first" or len(scores) == 1:
        return scores[0]
    stacked = torch.stack(scores)
    if reduction == "max":
        return stacked.max(dim=0).values
    return stacked.sum(dim=0) if reduction == "sum" else stacked.mean(dim=0)


def _sums(member: Member, model: nn.Module, size: int) -> Tensor:
    weight = model.get_parameter(member.tensor).detach()
    filters = weight.movedim(member.dim, 0).flatten(1) if weight.ndim > 1 else weight[:, None]
    found = _row_sums(filters).cpu().numpy()[member.indices]
    return torch.from_numpy(np.bincount(member.channels, weights=found, minlength=size))


def _row_sums(filters: Tensor) -> Tensor:
    """Sums of absolute values in float64, one per row."""
    few = max(1, _AT_ONCE // max(1, filters.shape[1]))
    if len(filters) <= few:
        return filters.abs().sum(1, dtype=torch.float64)
    # A few filters at a time, in the same memory: copies of a large layer take longer than its sums.
    wide = torch.empty((few, filters.shape[1]), dtype=torch.float64, device=filters.device)
    return torch.cat([wide[: len(part)].copy_(part).abs_().sum(1) for part in torch.split(filters, few)])
