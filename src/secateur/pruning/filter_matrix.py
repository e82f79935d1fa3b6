"""The filters of a group as one matrix, whatever layers its channels are produced by."""

import numpy as np
import torch
from torch import Tensor, nn

from secateur.graph import Group
from secateur.graph.groups import Member
from secateur.pruning.criteria import producers


def filters(group: Group, model: nn.Module) -> Tensor:
    """The weights that produce each channel of a group, one row per channel.

    The layers of the group stand side by side: convolutions, transposed ones (whose outputs are the second
    dimension), grouped ones, linear layers. A channel that a layer produces several times, as both halves of
    a gate do, has these filters one after the other. A group without such a layer has the parameters that go
    along with it, such as the scales of a normalisation. Biases are left out.

    Args:
        group: channels of ``model`` that can only go together, from ``secateur.trace(...).groups``.
        model: where the weights are.

    Returns:
        A copy in float64 on the CPU, [C, K]. Where a layer produces some channels more often than others, the
        shorter rows are filled with zeros, which changes no sum, norm or largest absolute value.

    Example:
        >>> import secateur, torch
        >>> model = torch.nn.Sequential(torch.nn.ConvTranspose2d(3, 8, 2), torch.nn.Conv2d(8, 4, 1))
        >>> (group,) = secateur.trace(model, torch.rand(1, 3, 8, 8)).groups
        >>> filters(group, model).shape  # 8 channels, each of 3 inputs and 2x2 pixels
        torch.Size([8, 12])
    """
    return torch.cat([_stacked(member, model, group.size) for member in producers(group, model)], dim=1)


def rows(member: Member, model: nn.Module) -> Tensor:
    """What a parameter has at each index of a member, [I, K], detached, as the parameter has it."""
    weight = model.get_parameter(member.tensor).detach().movedim(member.dim, 0)
    flat = weight.flatten(1) if weight.ndim > 1 else weight[:, None]
    return flat[torch.from_numpy(member.indices).to(flat.device)]


def _stacked(member: Member, model: nn.Module, size: int) -> Tensor:
    """The rows of a member side by side for each channel, [C, times K]."""
    found = rows(member, model).double().cpu()
    order = np.argsort(member.channels, kind="stable")
    ordered = member.channels[order]
    # How many rows the channel had before this one.
    turn = np.arange(len(ordered)) - np.searchsorted(ordered, ordered)
    matrix = found.new_zeros((size, int(turn.max(initial=0)) + 1, found.shape[1]))
    matrix[torch.from_numpy(ordered), torch.from_numpy(turn)] = found[torch.from_numpy(order)]
    return matrix.flatten(1)
