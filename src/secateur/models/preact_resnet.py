"""Residual networks with pre-activation blocks (He et al. 2016b), in the layout of the CIFAR checkpoints."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from secateur.models.normalisation import add_normalisation, normalise_input
from secateur.models.resnet import add_stages


class PreActBlock(nn.Module):
    """Normalisation and activation before each convolution; the projection may read the activated input."""

    def __init__(self, in_channels: int, width: int, stride: int, *, activated_shortcut: bool) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.activated_shortcut = activated_shortcut
        self.shortcut: nn.Sequential | None = None
        if stride != 1 or in_channels != width:
            self.shortcut = nn.Sequential(nn.Conv2d(in_channels, width, 1, stride, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, in_channels, H, W] to [N, width, H/stride, W/stride]."""
        active = F.relu(self.bn1(x))
        out: Tensor = self.conv2(F.relu(self.bn2(self.conv1(active))))
        if self.shortcut is None:
            return out + x
        summed: Tensor = out + self.shortcut(active if self.activated_shortcut else x)
        return summed


class PreActResNet(nn.Module):
    """A 3x3 stem, four stages of pre-activation blocks, pooling and one linear layer."""

    def __init__(
        self,
        widths: Sequence[int],
        blocks: Sequence[int],
        num_classes: int,
        *,
        in_channels: int,
        final_norm: bool,
        activated_shortcut: bool,
        normalise: str | None,
    ) -> None:
        super().__init__()
        add_normalisation(self, normalise, in_channels)
        self.conv1 = nn.Conv2d(in_channels, widths[0], 3, 1, 1, bias=False)
        block = partial(PreActBlock, activated_shortcut=activated_shortcut)
        self.stages, previous = add_stages(self, widths, blocks, block)
        self.bn = nn.BatchNorm2d(previous) if final_norm else None
        self.linear = nn.Linear(previous, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [N, C, H, W] in [0, 1] to logits [N, num_classes]."""
        out = self.conv1(normalise_input(self, x))
        for stage in self.stages:
            out = self.get_submodule(stage)(out)
        if self.bn is not None:
            out = F.relu(self.bn(out))
        scores: Tensor = self.linear(torch.flatten(F.adaptive_avg_pool2d(out, 1), 1))
        return scores


def preact_resnet18(
    *,
    num_classes: int = 10,
    in_channels: int = 3,
    widths: Sequence[int] = (64, 128, 256, 512),
    final_norm: bool = False,
    activated_shortcut: bool = False,
    normalise: str | None = None,
) -> nn.Module:
    """PreActResNet-18: 11 171 146 parameters for 10 classes.

    Published checkpoints differ in two details: ``final_norm`` adds a normalisation before pooling (key
    ``bn``), and ``activated_shortcut`` lets projections read the activated input. The defaults are
    RobustBench's ``PreActBlock`` without ``bn_before_fc``.
    """
    return PreActResNet(
        widths,
        (2, 2, 2, 2),
        num_classes,
        in_channels=in_channels,
        final_norm=final_norm,
        activated_shortcut=activated_shortcut,
        normalise=normalise,
    )
