"""Residual networks with post-activation blocks; submodule names follow the published CIFAR checkpoints."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2016); a projection where the shape changes."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, in_channels, H, W] to [N, channels, H/stride, W/stride]."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.shortcut(x))


class ResNet(nn.Module):
    """A 3x3 stem, stages of residual blocks, global average pooling and one linear layer.

    The first stage keeps the resolution, every other one halves it.
    """

    def __init__(
        self, widths: Sequence[int], blocks: Sequence[int], num_classes: int, in_channels: int
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, widths[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.depth = len(widths)
        previous = widths[0]
        for index, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            strides = [1 if index == 0 else 2] + [1] * (count - 1)
            stage = nn.Sequential()
            for stride in strides:
                stage.append(BasicBlock(previous, width, stride))
                previous = width
            self.add_module(f"layer{index + 1}", stage)
        self.linear = nn.Linear(previous, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [N, C, H, W] in [0, 1] to logits [N, num_classes]."""
        out = F.relu(self.bn1(self.conv1(x)))
        for index in range(self.depth):
            out = self.get_submodule(f"layer{index + 1}")(out)
        scores: Tensor = self.linear(torch.flatten(F.adaptive_avg_pool2d(out, 1), 1))
        return scores


def resnet_tiny(
    *, num_classes: int = 10, in_channels: int = 1, widths: Sequence[int] = (16, 32, 48)
) -> nn.Module:
    """One residual block per width: 56 250 parameters and 0.68 million MACs on an 8x8 image."""
    return ResNet(widths, [1] * len(widths), num_classes, in_channels)


def resnet18(
    *, num_classes: int = 10, in_channels: int = 3, widths: Sequence[int] = (64, 128, 256, 512)
) -> nn.Module:
    """ResNet-18 with the CIFAR stem (3x3, no pooling): 11 173 962 parameters for 10 classes."""
    return ResNet(widths, [2] * len(widths), num_classes, in_channels)
