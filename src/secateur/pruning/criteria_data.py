"""Criteria that read gradients or activations on a calibration batch."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from secateur.errors import UserError
from secateur.graph import Group
from secateur.graph.groups import Member
from secateur.pruning.calibration_stats import CalibrationStats
from secateur.pruning.criteria_weights import combine
from secateur.pruning.filter_matrix import (
    judged_members,
    module_of,
    producers,
    scatter_to_channels,
    sum_per_channel,
    weight_of,
)


def taylor(
    group: Group, model: nn.Module, *, reduction: str = "mean", calibration: CalibrationStats | None = None
) -> Tensor:
    """Squared first-order change of the loss if a channel's filters were zero; float64 [C].

    (Σ w ∂L/∂w)² over each filter (Molchanov et al. 2019, Eq. 8). On adversarial images it is the change of
    the adversarial loss (criterion robust_taylor).

    Raises:
        UserError: no calibration batch.
    """
    gradients = _required(calibration, "taylor").gradients
    weights = _weights(group, model)
    changes = (sum_per_channel(m, weight * gradients[m.tensor], group.size) for m, weight in weights)
    return combine([change.square() for change in changes], reduction)


def hessian(
    group: Group, model: nn.Module, *, reduction: str = "mean", calibration: CalibrationStats | None = None
) -> Tensor:
    """Second-order change of the loss if a channel's filters were zero; float64 [C].

    ½ Σ F w² over each filter, with the diagonal of the empirical Fisher matrix F in place of the Hessian
    (LeCun et al. 1990; Theis et al. 2018).

    Raises:
        UserError: no calibration batch.
    """
    fisher = _required(calibration, "hessian").fisher
    weights = _weights(group, model)
    changes = (sum_per_channel(m, w.square() * fisher[m.tensor] / 2, group.size) for m, w in weights)
    return combine(list(changes), reduction)


def activation(
    group: Group, model: nn.Module, *, reduction: str = "mean", calibration: CalibrationStats | None = None
) -> Tensor:
    """Mean absolute activation of each channel over images and positions; float64 [C].

    Read after the batch normalisation of the group; without one, after the layers that produce the channels
    (in the spirit of Hu et al. 2016). Of a recurrent layer it is the state, of other parameters that a
    module uses itself (attention, bare ones) their product with the bias.

    Raises:
        UserError: no calibration batch.
    """
    known = _required(calibration, "activation")
    normalised = [
        member
        for member in judged_members(group, model)
        if isinstance(module_of(member, model), _BatchNorm) and member.tensor.endswith("weight")
    ]
    scores = []
    for member in normalised or producers(group, model):
        found = known.activations.get(member.tensor.rpartition(".")[0])
        if found is None:
            scores.append(known.activation_of(group, member))
        else:
            own = found.cpu()[torch.from_numpy(member.indices)]
            scores.append(scatter_to_channels(member, own, group.size))
    return combine(scores, reduction)


def _weights(group: Group, model: nn.Module) -> Iterator[tuple[Member, Tensor]]:
    """The members that produce the channels of a group, with their weights in float64."""
    return ((member, weight_of(model, member.tensor).double()) for member in producers(group, model))


def _required(calibration: CalibrationStats | None, criterion: str) -> CalibrationStats:
    if calibration is None:
        raise UserError(
            f"the criterion {criterion} needs a calibration batch",
            hint="pass batch=(images, labels) to plan or prune",
        )
    return calibration
