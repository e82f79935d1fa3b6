"""Criteria that look at the weights alone. As everywhere, the channels with the smallest scores go."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from secateur.errors import UserError
from secateur.graph import Group
from secateur.graph.groups import Member
from secateur.pruning.criteria import combine, is_parameter, producers
from secateur.pruning.filter_matrix import rows


def l2(
    group: Group, model: nn.Module, *, generator: torch.Generator | None = None, reduction: str = "mean"
) -> Tensor:
    """The Euclidean norm of the filters that produce each channel; float64 [C]."""
    return combine(
        [squares(member, model, group.size).sqrt() for member in producers(group, model)], reduction
    )


def group_norm(
    group: Group, model: nn.Module, *, generator: torch.Generator | None = None, reduction: str = "mean"
) -> Tensor:
    """The norm of everything that goes with a channel: filters, scales, and the kernels that read it; [C].

    The importance of Fang et al. 2023 (Eq. 5). The layers are always combined by this norm, so ``reduction``
    has no effect.
    """
    owned = [member for member in group.members if is_parameter(model, member.tensor)]
    parts = [squares(member, model, group.size) for member in owned]
    return torch.stack(parts).sum(0).sqrt()


def bn_scale(
    group: Group, model: nn.Module, *, generator: torch.Generator | None = None, reduction: str = "mean"
) -> Tensor:
    """The absolute scale that batch normalisation gives each channel (Liu et al. 2017); float64 [C].

    Raises:
        UserError: no batch normalisation with scales goes with the group.
    """
    found = [
        per_channel(member, model.get_parameter(member.tensor).detach().abs(), group.size)
        for member in group.members
        if isinstance(owner(member, model), _BatchNorm) and member.tensor.endswith("weight")
    ]
    if not found:
        raise UserError(
            f"the criterion bn_scale needs batch normalisation, and {group.name} has none",
            hint="leave that layer whole with keep, or use another criterion",
        )
    return combine(found, reduction)


def fpgm(
    group: Group, model: nn.Module, *, generator: torch.Generator | None = None, reduction: str = "mean"
) -> Tensor:
    """The sum of distances from a channel's filter to all others of its layer; float64 [C].

    A filter near the geometric median of its layer can be replaced by the others (He et al. 2019, Eq. 4). A
    channel that several filters of a layer produce gets their sum.
    """
    scores = []
    for member in producers(group, model):
        filters = rows(member, model).double()
        scores.append(scattered(member, torch.cdist(filters, filters).sum(1), group.size))
    return combine(scores, reduction)


def lamp(
    group: Group, model: nn.Module, *, generator: torch.Generator | None = None, reduction: str = "mean"
) -> Tensor:
    """A channel's squared norm as a share of those that are at least as large in its layer; float64 [C].

    Lee et al. 2021 (Eq. 4), for channels instead of weights. Within a group the order is that of l2; between
    groups the scores are comparable, which l2's are not.
    """
    return combine(
        [_shares(squares(member, model, group.size)) for member in producers(group, model)], reduction
    )


def squares(member: Member, model: nn.Module, size: int) -> Tensor:
    """The squared norm of what each channel has in one parameter, float64 [C]."""
    return per_channel(member, model.get_parameter(member.tensor).detach().double().square(), size)


def per_channel(member: Member, values: Tensor, size: int) -> Tensor:
    """Sums of ``values``, which have the shape of the member's tensor, for each channel; float64 [C]."""
    others = [dim for dim in range(values.ndim) if dim != member.dim]
    per_index = values.sum(others, dtype=torch.float64) if others else values.double()
    return scattered(member, per_index.cpu()[torch.from_numpy(member.indices)], size)


def scattered(member: Member, values: Tensor, size: int) -> Tensor:
    """Sums of one value per index of the member, for each channel; float64 [C] on the CPU."""
    scores = torch.zeros(size, dtype=torch.float64)
    return scores.index_add_(0, torch.from_numpy(member.channels), values.double().cpu())


def owner(member: Member, model: nn.Module) -> nn.Module:
    """The module that holds the member's tensor."""
    return model.get_submodule(member.tensor.rpartition(".")[0])


def _shares(found: Tensor) -> Tensor:
    order = torch.argsort(found, descending=True, stable=True)
    shares = torch.empty_like(found)
    shares[order] = found[order] / found[order].cumsum(0).clamp_min(torch.finfo(torch.float64).tiny)
    return shares
