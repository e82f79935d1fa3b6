"""Residual networks with post-activation blocks; submodule names follow the published CIFAR checkpoints."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from secateur.errors import UserError
from secateur.models.normalisation import add_normalisation, normalise_input

Block = Callable[[int, int, int], nn.Module]
"""Builds a block from its input channels, its width and its stride."""


def projection(in_channels: int, channels: int, stride: int) -> nn.Sequential:
    """A shortcut with a 1x1 convolution where the shape changes, else the identity."""
    if stride == 1 and in_channels == channels:
        return nn.Sequential()
    return nn.Sequential(nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))


class Padding(nn.Module):
    """A shortcut without weights (He et al. 2016, option A): every ``stride``-th pixel, then zero channels.

    The zero channels are buffers, so that pruning can remove them and adapt their number.
    """

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        before = (channels - in_channels) // 2
        self.register_buffer("before", torch.zeros(before), persistent=False)
        self.register_buffer("after", torch.zeros(channels - in_channels - before), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, in_channels, H, W] to [N, channels, H/stride, W/stride]."""
        x = x[:, :, :: self.stride, :: self.stride]
        n, _, height, width = x.shape
        before, after = (
            self.get_buffer(name)[None, :, None, None].expand(n, -1, height, width)
            for name in ("before", "after")
        )
        return torch.cat([before, x, after], 1)


def padding(in_channels: int, channels: int, stride: int) -> nn.Module:
    """A shortcut of zero channels where the shape changes, else the identity."""
    if stride == 1 and in_channels == channels:
        return nn.Sequential()
    return Padding(in_channels, channels, stride)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2016)."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int, *, shortcut: Block = projection) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = shortcut(in_channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, in_channels, H, W] to [N, width, H/stride, W/stride]."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.shortcut(x))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a projection shortcut; the output is four times as wide."""

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.shortcut = projection(in_channels, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, in_channels, H, W] to [N, 4 * width, H/stride, W/stride]."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return F.relu(out + self.shortcut(x))


class ResNet(nn.Module):
    """A 3x3 stem, stages of residual blocks, global average pooling and one linear layer.

    The first stage keeps the resolution, every other one halves it. ``normalise`` names the statistics of the
    input (see ``models.normalisation``).
    """

    def __init__(
        self,
        widths: Sequence[int],
        blocks: Sequence[int],
        num_classes: int,
        *,
        in_channels: int,
        block: Block = BasicBlock,
        expansion: int = 1,
        normalise: str | None = None,
    ) -> None:
        super().__init__()
        add_normalisation(self, normalise, in_channels)
        self.conv1 = nn.Conv2d(in_channels, widths[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.stages, previous = add_stages(self, widths, blocks, block, expansion=expansion)
        self.linear = nn.Linear(previous, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [N, C, H, W] in [0, 1] to logits [N, num_classes]."""
        out = F.relu(self.bn1(self.conv1(normalise_input(self, x))))
        for stage in self.stages:
            out = self.get_submodule(stage)(out)
        scores: Tensor = self.linear(torch.flatten(F.adaptive_avg_pool2d(out, 1), 1))
        return scores


def add_stages(
    network: nn.Module, widths: Sequence[int], blocks: Sequence[int], block: Block, *, expansion: int = 1
) -> tuple[list[str], int]:
    """Give ``network`` its stages of blocks; their names, and the channels of the last one.

    They are separate attributes, not a ModuleList: the published checkpoints name them layer1 to layer4.
    """
    stages, previous = [f"layer{index + 1}" for index in range(len(widths))], widths[0]
    for stage, width, count in zip(stages, widths, blocks, strict=True):
        parts = nn.Sequential()
        for stride in [1 if stage == "layer1" else 2] + [1] * (count - 1):
            parts.append(block(previous, width, stride))
            previous = width * expansion
        network.add_module(stage, parts)
    return stages, previous


def resnet_tiny(
    *, num_classes: int = 10, in_channels: int = 1, widths: Sequence[int] = (16, 32, 48)
) -> nn.Module:
    """One residual block per width: 56 250 parameters and 0.68 million MACs on an 8x8 image."""
    return ResNet(widths, [1] * len(widths), num_classes, in_channels=in_channels)


def resnet18(
    *,
    num_classes: int = 10,
    in_channels: int = 3,
    widths: Sequence[int] = (64, 128, 256, 512),
    normalise: str | None = None,
) -> nn.Module:
    """ResNet-18 with the CIFAR stem (3x3, no pooling): 11 173 962 parameters for 10 classes."""
    return ResNet(widths, (2, 2, 2, 2), num_classes, in_channels=in_channels, normalise=normalise)


def resnet50(
    *,
    num_classes: int = 10,
    in_channels: int = 3,
    widths: Sequence[int] = (64, 128, 256, 512),
    normalise: str | None = None,
) -> nn.Module:
    """ResNet-50 with the CIFAR stem: 23 520 842 parameters for 10 classes.

    ``normalise="cifar10-robustness"`` makes it the network of Engstrom et al. 2019.
    """
    return ResNet(
        widths,
        (3, 4, 6, 3),
        num_classes,
        in_channels=in_channels,
        block=Bottleneck,
        expansion=Bottleneck.expansion,
        normalise=normalise,
    )


def resnet_cifar(
    depth: int,
    *,
    num_classes: int = 10,
    in_channels: int = 3,
    widths: Sequence[int] = (16, 32, 64),
    shortcut: str = "padding",
    normalise: str | None = "imagenet",
) -> nn.Module:
    """The CIFAR networks of He et al. 2016, section 4.2: three stages of (depth - 2) / 6 basic blocks.

    ``shortcut`` is "padding" (option A, as published) or "projection" (option B). The published weights
    expect colour images normalised by the statistics of ImageNet, which is the default.

    Raises:
        UserError: a depth that is not 6 n + 2, an unknown shortcut, or zero channels asked to narrow a stage.
    """
    kinds: dict[str, Block] = {"padding": padding, "projection": projection}
    if depth < 8 or depth % 6 != 2:
        raise UserError(f"the depth of a CIFAR ResNet is 6 n + 2, such as 20 or 56, not {depth}")
    if shortcut not in kinds:
        raise UserError(f"unknown shortcut '{shortcut}'", hint=f"known: {', '.join(kinds)}")
    # Zero channels can be appended but not removed.
    if shortcut == "padding" and list(widths) != sorted(widths):
        raise UserError(f"padding shortcuts cannot narrow, but the widths are {list(widths)}")
    return ResNet(
        widths,
        [(depth - 2) // 6] * len(widths),
        num_classes,
        in_channels=in_channels,
        block=partial(BasicBlock, shortcut=kinds[shortcut]),
        normalise=normalise,
    )


resnet20 = partial(resnet_cifar, 20)
resnet56 = partial(resnet_cifar, 56)
resnet110 = partial(resnet_cifar, 110)
