"""Normalisation of the input inside the network, so that every model takes images in [0, 1]."""

import torch
from torch import Tensor, nn

from secateur.errors import UserError

STATISTICS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)),
    # The deviations that the robustness library uses: averaged over images, not over the data set.
    "cifar10-robustness": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


def add_statistics(
    module: nn.Module, which: str | None, in_channels: int, *, names: tuple[str, str] = ("mu", "sigma")
) -> None:
    """Give ``module`` its mean and deviation as constant buffers [1, C, 1, 1] called ``names``.

    With ``which`` None, or for images of another number of channels than three, nothing is added and
    ``normalised`` is the identity. The buffers are no part of the state dict.

    Raises:
        UserError: unknown statistics.
    """
    if which is not None and which not in STATISTICS:
        raise UserError(f"unknown normalisation '{which}'", hint=f"known: {', '.join(STATISTICS)}, or null")
    if which is None or in_channels != 3:
        return
    for name, values in zip(names, STATISTICS[which], strict=True):
        module.register_buffer(name, torch.tensor(values).reshape(1, 3, 1, 1), persistent=False)


def normalised(module: nn.Module, x: Tensor, *, names: tuple[str, str] = ("mu", "sigma")) -> Tensor:
    """Images [N, C, H, W] as the first layer of ``module`` wants them."""
    mean, deviation = (getattr(module, name, None) for name in names)
    if mean is None or deviation is None:
        return x
    out: Tensor = (x - mean) / deviation
    return out
