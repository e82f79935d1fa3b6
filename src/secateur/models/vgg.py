"""VGG networks for 32x32 images, with batch normalisation (Simonyan & Zisserman 2015)."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from secateur.models.normalisation import add_normalisation, normalise_input

CONFIGURATIONS: dict[int, tuple[int | str, ...]] = {
    16: (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"),
    19: (64, 64, "M", 128, 128, "M", *[256] * 4, "M", *[512] * 4, "M", *[512] * 4, "M"),
}


class VGG(nn.Module):
    """3x3 convolutions with batch normalisation in a row ``features``, then ``classifier``."""

    def __init__(self, features: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        """Map images [N, C, H, W] in [0, 1] to logits [N, num_classes]."""
        out = F.adaptive_avg_pool2d(self.features(normalise_input(self, x)), 1)
        scores: Tensor = self.classifier(torch.flatten(out, 1))
        return scores


def vgg(
    depth: int,
    *,
    num_classes: int = 10,
    in_channels: int = 3,
    configuration: Sequence[int | str] | None = None,
    bias: bool = True,
    hidden: int | None = None,
    normalise: str | None = None,
) -> nn.Module:
    """VGG-16 or VGG-19 with one dense layer: 14 728 266 and 20 040 522 parameters for 10 classes.

    ``configuration`` replaces the widths of the convolutions ("M" is a max pooling). ``bias=False`` and
    ``hidden=512`` give the VGG-16 of Li et al. 2017: 14 987 722 parameters.
    """
    features = nn.Sequential()
    previous = in_channels
    for part in configuration or CONFIGURATIONS[depth]:
        if isinstance(part, str):
            features.append(nn.MaxPool2d(2))
            continue
        features.append(nn.Conv2d(previous, part, 3, padding=1, bias=bias))
        features.append(nn.BatchNorm2d(part))
        features.append(nn.ReLU())
        previous = part
    classifier: nn.Module = nn.Linear(previous, num_classes)
    if hidden is not None:
        classifier = nn.Sequential(
            nn.Linear(previous, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, num_classes)
        )
    network = VGG(features, classifier)
    add_normalisation(network, normalise, in_channels)
    return network


vgg16 = partial(vgg, 16)
vgg19 = partial(vgg, 19)
