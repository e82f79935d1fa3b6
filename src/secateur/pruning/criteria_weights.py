"""Criteria that read the weights alone. The channels with the lowest scores are removed."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from secateur.errors import UserError
from secateur.graph import Group
from secateur.graph.groups import Member
from secateur.pruning.filter_matrix import (
    filter_rows,
    judged_members,
    module_of,
    producers,
    scatter_to_channels,
    squared_norms,
    sum_per_channel,
    weight_of,
)

REDUCTIONS = ("mean", "sum", "max", "first")
_AT_ONCE = 1 << 18


def l1(group: Group, model: nn.Module, *, reduction: str = "mean") -> Tensor:
    """Sum of absolute weights of the filters that produce each channel (Li et al. 2017).

    Args:
        group: channels of ``model`` that must be removed together.
        model: holds the weights.
        reduction: how the layers of a group are combined: mean, sum, max, or first (its first layer
            decides).

    Returns:
        One float64 score per channel, shape [C].

    >>> import torch
    >>> from secateur.graph import trace
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 2))
    >>> _ = model[0].weight.data.copy_(torch.tensor([[1.0, -1.0], [0.5, 0.0], [2.0, 2.0]]))
    >>> l1(trace(model, torch.rand(1, 2)).groups[0], model)
    tensor([2.0000, 0.5000, 4.0000], dtype=torch.float64)
    """
    scores = [_sums(member, model, group.size) for member in producers(group, model)]
    return combine(scores, reduction)


def random(group: Group, model: nn.Module, *, generator: torch.Generator | None = None) -> Tensor:
    """Uniform random scores drawn from ``generator``: every subset of channels is equally likely.

    Raises:
        UserError: no generator was given.
    """
    if generator is None:
        raise UserError("the random criterion needs a generator", hint="pass generator=torch.Generator()")
    return torch.rand(group.size, generator=generator, dtype=torch.float64)


def l2(group: Group, model: nn.Module, *, reduction: str = "mean") -> Tensor:
    """Euclidean norm of the filters that produce each channel; float64 [C]."""
    return combine(
        [squared_norms(member, model, group.size).sqrt() for member in producers(group, model)], reduction
    )


def group_norm(group: Group, model: nn.Module) -> Tensor:
    """Euclidean norm of a channel's filters, scales, and the weights that read it; float64 [C].

    The importance of Fang et al. 2023 (Eq. 5). The norm combines all layers, so there is no reduction.
    """
    parts = [squared_norms(member, model, group.size) for member in judged_members(group, model)]
    return torch.stack(parts).sum(0).sqrt()


def bn_scale(group: Group, model: nn.Module, *, reduction: str = "mean") -> Tensor:
    """Absolute batch-normalisation scale of each channel (Liu et al. 2017); float64 [C].

    Raises:
        UserError: the group contains no batch normalisation with scales.
    """
    found = [
        sum_per_channel(member, weight_of(model, member.tensor).abs(), group.size)
        for member in judged_members(group, model)
        if isinstance(module_of(member, model), _BatchNorm) and member.tensor.endswith("weight")
    ]
    if not found:
        raise UserError(
            f"the criterion bn_scale needs batch normalisation, but {group.name} has none",
            hint="exclude that layer with keep, or use another criterion",
        )
    return combine(found, reduction)


def fpgm(group: Group, model: nn.Module, *, reduction: str = "mean") -> Tensor:
    """Sum of distances from a channel's filter to all other filters of its layer; float64 [C].

    Filters near the geometric median are the most replaceable (He et al. 2019, Eq. 4). A channel that several
    filters of a layer produce gets their sum.
    """
    scores = []
    for member in producers(group, model):
        filters = filter_rows(member, model).double()
        scores.append(scatter_to_channels(member, torch.cdist(filters, filters).sum(1), group.size))
    return combine(scores, reduction)


def lamp(group: Group, model: nn.Module, *, reduction: str = "mean") -> Tensor:
    """Squared norm of a channel divided by that of all channels at least as large in its layer; float64 [C].

    Lee et al. 2021 (Eq. 4), for channels instead of single weights. Within a layer the order is that of l2;
    between layers the scores are comparable, which those of l2 are not.
    """
    return combine(
        [_shares(squared_norms(member, model, group.size)) for member in producers(group, model)], reduction
    )


def combine(scores: list[Tensor], reduction: str) -> Tensor:
    """Reduce the scores of several layers to one per channel.

    Raises:
        UserError: an unknown reduction.
    """
    if reduction not in REDUCTIONS:
        raise UserError(f"unknown reduction '{reduction}'", hint=f"known: {', '.join(REDUCTIONS)}")
    if reduction == "first" or len(scores) == 1:
        return scores[0]
    stacked = torch.stack(scores)
    if reduction == "max":
        return stacked.max(dim=0).values
    return stacked.sum(dim=0) if reduction == "sum" else stacked.mean(dim=0)


def _shares(found: Tensor) -> Tensor:
    order = torch.argsort(found, descending=True, stable=True)
    shares = torch.empty_like(found)
    shares[order] = found[order] / found[order].cumsum(0).clamp_min(torch.finfo(torch.float64).tiny)
    return shares


def _sums(member: Member, model: nn.Module, size: int) -> Tensor:
    weight = weight_of(model, member.tensor)
    filters = weight.movedim(member.dim, 0).flatten(1) if weight.ndim > 1 else weight[:, None]
    found = _row_sums(filters).cpu().numpy()[member.indices]
    return torch.from_numpy(np.bincount(member.channels, weights=found, minlength=size))


def _row_sums(filters: Tensor) -> Tensor:
    """Sums of absolute values, one per row, in float64."""
    few = max(1, _AT_ONCE // max(1, filters.shape[1]))
    if len(filters) <= few:
        return filters.abs().sum(1, dtype=torch.float64)
    # In chunks through one buffer: a float64 copy of a large layer takes longer than its sums.
    wide = torch.empty((few, filters.shape[1]), dtype=torch.float64, device=filters.device)
    return torch.cat([wide[: len(part)].copy_(part).abs_().sum(1) for part in torch.split(filters, few)])
