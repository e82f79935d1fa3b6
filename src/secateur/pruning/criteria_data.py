"""Criteria that look at what images do in the network; they need ``calibration``."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from secateur.errors import UserError
from secateur.graph import Group
from secateur.pruning.calibration_stats import CalibrationStats
from secateur.pruning.criteria_weights import combine
from secateur.pruning.filter_matrix import module_of, producers, scatter_to_channels, sum_per_channel


def taylor(
    group: Group,
    model: nn.Module,
    *,
    generator: torch.Generator | None = None,
    reduction: str = "mean",
    calibration: CalibrationStats | None = None,
) -> Tensor:
    """The squared first-order change of the loss if a channel's filters were zero; float64 [C].

    (Σ w ∂L/∂w)² over each filter (Molchanov et al. 2019, Eq. 8). With adversarial images as calibration it is
    the change of the adversarial loss.

    Raises:
        UserError: no calibration.
    """
    gradients = _given(calibration, "taylor").gradients
    return combine(
        [
            sum_per_channel(
                member,
                model.get_parameter(member.tensor).detach().double() * gradients[member.tensor],
                group.size,
            ).square()
            for member in producers(group, model)
        ],
        reduction,
    )


def hessian(
    group: Group,
    model: nn.Module,
    *,
    generator: torch.Generator | None = None,
    reduction: str = "mean",
    calibration: CalibrationStats | None = None,
) -> Tensor:
    """The second-order change of the loss if a channel's filters were zero; float64 [C].

    ½ Σ F w² over each filter, with the diagonal of the empirical Fisher matrix F for the Hessian (LeCun et
    al. 1990; Theis et al. 2018).

    Raises:
        UserError: no calibration.
    """
    fisher = _given(calibration, "hessian").fisher
    return combine(
        [
            sum_per_channel(
                member,
                model.get_parameter(member.tensor).detach().double().square() * fisher[member.tensor] / 2,
                group.size,
            )
            for member in producers(group, model)
        ],
        reduction,
    )


def activation(
    group: Group,
    model: nn.Module,
    *,
    generator: torch.Generator | None = None,
    reduction: str = "mean",
    calibration: CalibrationStats | None = None,
) -> Tensor:
    """The mean absolute activation of each channel over images and positions; float64 [C].

    Read after the batch normalisation that goes with the group, or where there is none after the layers that
    produce it (in the spirit of Hu et al. 2016).

    Raises:
        UserError: no calibration.
    """
    activations = _given(calibration, "activation").activations
    normalised = [
        member
        for member in group.members
        if isinstance(module_of(member, model), _BatchNorm) and member.tensor.endswith("weight")
    ]
    scores = []
    for member in normalised or producers(group, model):
        found = activations[member.tensor.rpartition(".")[0]].cpu()
        scores.append(scatter_to_channels(member, found[torch.from_numpy(member.indices)], group.size))
    return combine(scores, reduction)


def _given(calibration: CalibrationStats | None, criterion: str) -> CalibrationStats:
    if calibration is None:
        raise UserError(
            f"the criterion {criterion} looks at images", hint="pass batch=(images, labels) to plan or prune"
        )
    return calibration
