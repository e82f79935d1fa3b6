"""Wide residual networks (Zagoruyko & Komodakis 2016) in the two layouts of the published checkpoints.

``wrn`` has the names and padding of the TRADES code, ``wrn_silu`` those of DeepMind's: SiLU, normalised
input, and a padding that is asymmetrical where the stride is 2.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from secateur.errors import UserError
from secateur.models.normalisation import add_normalisation, normalise_input

STATISTICS = ("mean", "std")


class Block(nn.Module):
    """Pre-activation block; where the width changes, the shortcut reads the activated input."""

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.convShortcut: nn.Module | None = None
        if in_channels != width:
            self.convShortcut = nn.Conv2d(in_channels, width, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, in_channels, H, W] to [N, width, H/stride, W/stride]."""
        active = F.relu(self.bn1(x))
        out: Tensor = self.conv2(F.relu(self.bn2(self.conv1(active))))
        return out + (x if self.convShortcut is None else self.convShortcut(active))


class Stage(nn.Module):
    """Blocks in a row, under the name that the checkpoints of their layout have for them."""

    def __init__(
        self, block: type["Block | SiluBlock"], in_channels: int, width: int, stride: int, *, count: int
    ) -> None:
        super().__init__()
        self.row = "layer" if block is Block else "block"
        later = (block(width, width, 1) for _ in range(count - 1))
        self.add_module(self.row, nn.Sequential(block(in_channels, width, stride), *later))

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, in_channels, H, W] to [N, width, H/stride, W/stride]."""
        out: Tensor = self.get_submodule(self.row)(x)
        return out


class WideResNet(nn.Module):
    """Stem, three stages, normalisation, pooling and one linear layer ``fc``."""

    def __init__(self, widths: Sequence[int], count: int, num_classes: int, *, in_channels: int) -> None:
        super().__init__()
        stem, first, second, third = widths
        self.conv1 = nn.Conv2d(in_channels, stem, 3, 1, 1, bias=False)
        self.block1 = Stage(Block, stem, first, 1, count=count)
        self.block2 = Stage(Block, first, second, 2, count=count)
        self.block3 = Stage(Block, second, third, 2, count=count)
        self.bn1 = nn.BatchNorm2d(third)
        self.fc = nn.Linear(third, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [N, C, H, W] in [0, 1] to logits [N, num_classes]."""
        out = self.block3(self.block2(self.block1(self.conv1(x))))
        out = F.adaptive_avg_pool2d(F.relu(self.bn1(out)), 1)
        scores: Tensor = self.fc(torch.flatten(out, 1))
        return scores


class SiluBlock(nn.Module):
    """As ``Block``, with SiLU; a stride of 2 pads only below and to the right."""

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.batchnorm_0 = nn.BatchNorm2d(in_channels)
        self.conv_0 = nn.Conv2d(in_channels, width, 3, stride, bias=False)
        self.batchnorm_1 = nn.BatchNorm2d(width)
        self.conv_1 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        # TensorFlow's "SAME" padding at stride 2, with which these weights were trained.
        self.margins = (1, 1, 1, 1) if stride == 1 else (0, 1, 0, 1)
        self.shortcut: nn.Module | None = None
        if in_channels != width:
            self.shortcut = nn.Conv2d(in_channels, width, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, in_channels, H, W] to [N, width, H/stride, W/stride]."""
        active = F.silu(self.batchnorm_0(x))
        out = F.silu(self.batchnorm_1(self.conv_0(F.pad(active, self.margins))))
        summed: Tensor = self.conv_1(out) + (x if self.shortcut is None else self.shortcut(active))
        return summed


class SiluWideResNet(nn.Module):
    """Normalised input, stem, three stages, normalisation, pooling and one linear layer ``logits``."""

    def __init__(
        self, widths: Sequence[int], count: int, num_classes: int, *, in_channels: int, normalise: str | None
    ) -> None:
        super().__init__()
        add_normalisation(self, normalise, in_channels, names=STATISTICS)
        stem, first, second, third = widths
        self.init_conv = nn.Conv2d(in_channels, stem, 3, 1, 1, bias=False)
        self.layer = nn.Sequential(
            Stage(SiluBlock, stem, first, 1, count=count),
            Stage(SiluBlock, first, second, 2, count=count),
            Stage(SiluBlock, second, third, 2, count=count),
        )
        self.batchnorm = nn.BatchNorm2d(third)
        self.logits = nn.Linear(third, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [N, C, H, W] in [0, 1] to logits [N, num_classes]."""
        out = self.layer(self.init_conv(normalise_input(self, x, names=STATISTICS)))
        out = F.adaptive_avg_pool2d(F.silu(self.batchnorm(out)), 1)
        scores: Tensor = self.logits(torch.flatten(out, 1))
        return scores


def wrn(*, num_classes: int = 10, in_channels: int = 3, depth: int = 28, width: int = 10) -> nn.Module:
    """WRN-depth-width with ReLU, as in the TRADES code: 36 479 194 parameters for WRN-28-10.

    Raises:
        UserError: a depth that is not 6 n + 4.
    """
    return WideResNet(_widths(width), _count(depth), num_classes, in_channels=in_channels)


def wrn_silu(
    *,
    num_classes: int = 10,
    in_channels: int = 3,
    depth: int = 28,
    width: int = 10,
    normalise: str | None = "cifar10",
) -> nn.Module:
    """WRN-depth-width with SiLU (Gowal et al. 2020, Wang et al. 2023): 36 479 194 parameters for 28-10.

    Raises:
        UserError: a depth that is not 6 n + 4.
    """
    return SiluWideResNet(
        _widths(width), _count(depth), num_classes, in_channels=in_channels, normalise=normalise
    )


def _widths(width: int) -> tuple[int, int, int, int]:
    return 16, 16 * width, 32 * width, 64 * width


def _count(depth: int) -> int:
    if depth < 10 or depth % 6 != 4:
        raise UserError(f"the depth of a wide ResNet is 6 n + 4, such as 16 or 28, not {depth}")
    return (depth - 4) // 6
