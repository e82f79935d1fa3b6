"""The weights of a group by channel, whatever kind of layer produces its channels."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from secateur.graph import Group
from secateur.graph.groups import Member
from secateur.graph.trace.computed_weights import computed_as, computed_from, computed_weight
from secateur.graph.trace.named_tensors import find_parameter


def filters(group: Group, model: nn.Module) -> Tensor:
    """The weights that produce each channel of a group, one row per channel.

    The layers of the group are concatenated: convolutions, transposed ones (whose outputs are the second
    dimension), grouped ones, linear layers. Where one channel has several filters in a layer (both halves of
    a gate), they are concatenated too. A group that no such layer produces has the parameters coupled to it,
    such as the scales of a normalisation. Biases are left out.

    Args:
        group: channels of ``model`` that must be removed together, from ``secateur.trace(...).groups``.
        model: holds the weights.

    Returns:
        A copy in float64 on the CPU, [C, K]. Where a layer has more filters for some channels than for
        others, shorter rows are padded with zeros, which changes no sum, norm or largest absolute value.

    Example:
        >>> import secateur, torch
        >>> model = torch.nn.Sequential(torch.nn.ConvTranspose2d(3, 8, 2), torch.nn.Conv2d(8, 4, 1))
        >>> (group,) = secateur.trace(model, torch.rand(1, 3, 8, 8)).groups
        >>> filters(group, model).shape  # 8 channels, each of 3 inputs and 2x2 pixels
        torch.Size([8, 12])
    """
    return torch.cat([_stacked(member, model, group.size) for member in producers(group, model)], dim=1)


def judged_members(group: Group, model: nn.Module) -> list[Member]:
    """The members of a group that are weights as the layers use them; running statistics are none.

    Members from which a module computes a weight (norms of weights, masks) are replaced by one, with the name
    and the size of that weight.
    """
    found: dict[tuple[str, int], Member] = {}
    for member in group.members:
        parameter = find_parameter(model, member.tensor)
        computed = computed_from(model, member.tensor)
        if computed is None:
            if parameter is not None:
                found[member.tensor, member.dim] = member
            continue
        name = computed.name
        shape = weight_of(model, name).shape
        # Vectors of a spectral norm and gains have other dimensions than the weight.
        if (
            parameter is None
            or parameter.ndim != len(shape)
            or parameter.shape[member.dim] != shape[member.dim]
        ):
            continue
        before = found.get((name, member.dim))
        role = "out" if before is not None and before.role == "out" else member.role
        if before is not None and "in" in {before.role, role} and role != "out":
            role = "in"
        found[name, member.dim] = replace(member, tensor=name, role=role)
    return list(found.values())


def producers(group: Group, model: nn.Module) -> list[Member]:
    """The members whose filters produce the channels; if there are none, all that do not read them."""
    found = judged_members(group, model)
    made = [member for member in found if member.role == "out"]
    if made:
        return [member for member in made if weight_of(model, member.tensor).ndim > 1] or made
    return [member for member in found if member.role != "in"] or found


def weight_of(model: nn.Module, name: str) -> Tensor:
    """A parameter, or a weight that its module computes, by name; detached.

    >>> layer = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))
    >>> torch.equal(weight_of(layer, "weight"), layer.weight)
    True
    """
    parameter = find_parameter(model, name)
    if parameter is not None:
        return parameter.detach()
    computed = computed_as(model, name)
    assert computed is not None, name
    weight = computed_weight(model, computed)
    for source in computed.sources:
        made_from = find_parameter(model, source)
        if made_from is not None and made_from.shape == weight.shape:
            # Directions of zeros, as of filters that are gone already, have no length.
            weight = weight.masked_fill(weight.isnan() & (made_from == 0), 0.0)
    return weight


def module_of(member: Member, model: nn.Module) -> nn.Module:
    """The module that owns the member's tensor."""
    return model.get_submodule(member.tensor.rpartition(".")[0])


def filter_rows(member: Member, model: nn.Module) -> Tensor:
    """The slices of a member's weight at each of its indices, [I, K], detached, in its own dtype."""
    weight = weight_of(model, member.tensor).movedim(member.dim, 0)
    flat = weight.flatten(1) if weight.ndim > 1 else weight[:, None]
    return flat[torch.from_numpy(member.indices).to(flat.device)]


def squared_norms(member: Member, model: nn.Module, size: int) -> Tensor:
    """Squared norm of each channel's weights in one parameter, float64 [C]."""
    return sum_per_channel(member, weight_of(model, member.tensor).double().square(), size)


def sum_per_channel(member: Member, values: Tensor, size: int) -> Tensor:
    """Sum of ``values``, shaped like the member's tensor, over each channel; float64 [C]."""
    others = [dim for dim in range(values.ndim) if dim != member.dim]
    per_index = values.sum(others, dtype=torch.float64) if others else values.double()
    return scatter_to_channels(member, per_index.cpu()[torch.from_numpy(member.indices)], size)


def scatter_to_channels(member: Member, values: Tensor, size: int) -> Tensor:
    """Sum one value per index of the member into its channel; float64 [C] on the CPU."""
    scores = torch.zeros(size, dtype=torch.float64)
    return scores.index_add_(0, torch.from_numpy(member.channels), values.double().cpu())


def _stacked(member: Member, model: nn.Module, size: int) -> Tensor:
    """The rows of a member concatenated per channel, [C, times * K]."""
    found = filter_rows(member, model).double().cpu()
    order = np.argsort(member.channels, kind="stable")
    ordered = member.channels[order]
    # The position of each row among the rows of its channel.
    turn = np.arange(len(ordered)) - np.searchsorted(ordered, ordered)
    matrix = found.new_zeros((size, int(turn.max(initial=0)) + 1, found.shape[1]))
    matrix[torch.from_numpy(ordered), torch.from_numpy(turn)] = found[torch.from_numpy(order)]
    return matrix.flatten(1)
