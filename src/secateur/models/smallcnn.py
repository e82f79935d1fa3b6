"""The small convolutional network of the published MNIST checkpoints (Carlini & Wagner 2017)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from secateur.errors import UserError


class Features(nn.Module):
    """Four 3x3 convolutions without padding, max pooling after each pair."""

    def __init__(self, in_channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        first, second, third, fourth = widths
        self.conv1 = nn.Conv2d(in_channels, first, 3)
        self.conv2 = nn.Conv2d(first, second, 3)
        self.conv3 = nn.Conv2d(second, third, 3)
        self.conv4 = nn.Conv2d(third, fourth, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, widths[3], H', W'] with H' = ((H - 4) // 2 - 4) // 2."""
        x = F.max_pool2d(F.relu(self.conv2(F.relu(self.conv1(x)))), 2)
        return F.max_pool2d(F.relu(self.conv4(F.relu(self.conv3(x)))), 2)


class Classifier(nn.Module):
    """Three dense layers."""

    def __init__(self, features: int, hidden: Sequence[int], num_classes: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(features, hidden[0])
        self.fc2 = nn.Linear(hidden[0], hidden[1])
        self.fc3 = nn.Linear(hidden[1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, features] to logits [N, num_classes]."""
        out: Tensor = self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))
        return out


class SmallCNN(nn.Module):
    """Convolutions, then dense layers; for images of one fixed size."""

    def __init__(self, feature_extractor: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.feature_extractor = feature_extractor
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        """Map images [N, C, H, W] in [0, 1] to logits [N, num_classes]."""
        out: Tensor = self.classifier(torch.flatten(self.feature_extractor(x), 1))
        return out


def smallcnn(
    *,
    num_classes: int = 10,
    in_channels: int = 1,
    size: int = 28,
    widths: Sequence[int] = (32, 32, 64, 64),
    hidden: Sequence[int] = (200, 200),
) -> nn.Module:
    """The network of the published MNIST checkpoints; ``size`` is the side of the square images in pixels.

    Raises:
        UserError: images too small for four convolutions and two poolings.
    """
    side = ((size - 4) // 2 - 4) // 2
    if side < 1:
        raise UserError(f"smallcnn needs images of at least 16x16 pixels, not {size}x{size}")
    return SmallCNN(Features(in_channels, widths), Classifier(widths[3] * side * side, hidden, num_classes))
