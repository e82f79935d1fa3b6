import os
from pathlib import Path

import pytest
import torch
from torch import nn

from secateur.data import Dataset


@pytest.fixture
def shared():
    """The folder of data that is not ours to commit; without it the test is skipped."""
    default = Path(__file__).parents[3] / "shared" / "data"
    folder = Path(os.environ.get("SECATEUR_DATA", default))
    if not folder.is_dir():
        pytest.skip("SECATEUR_DATA names no folder")
    return folder


class TinyNet(nn.Module):
    """A small network with everything that can be disturbed: batch-norm, dropout, a non-linearity."""

    def __init__(self, classes=3):
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3, padding=1)
        self.bn = nn.BatchNorm2d(6)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(6 * 16, classes)

    def forward(self, x):
        return self.head(self.drop(torch.relu(self.bn(self.conv(x)))).flatten(1))


@pytest.fixture
def net():
    """A network whose three classes all occur among ``images``."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        made = TinyNet()
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.mul_(3)
    return made.eval()


@pytest.fixture
def images(net):
    """48 images on 17 grey levels; every sixth has a wrong label."""
    g = torch.Generator().manual_seed(0)
    x = torch.randint(0, 17, (48, 1, 4, 4), generator=g) / 16
    with torch.no_grad():
        y = net(x).argmax(1)
    y[::6] = (y[::6] + 1) % 3
    return Dataset("tiny", x, y, ("a", "b", "c"), 17)
