"""A network whose channels are known by hand, and scores of all its groups."""

import torch
from torch import nn
from torch.nn import functional as F


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class Net(nn.Module):
    """Two convolutions with batch normalisation; the second is flattened into a dense layer of 4 x 2 x 2."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 5, 3), nn.BatchNorm2d(5)
        self.conv2, self.bn2 = nn.Conv2d(5, 4, 3), nn.BatchNorm2d(4)
        self.fc = nn.Linear(16, 3)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return self.fc(F.max_pool2d(x, 2).flatten(1))


def layers(model):
    return [(model.conv1, model.bn1), (model.conv2, model.bn2)]


def scores(score, case, **settings):
    return [score(group, case.model, **settings) for group in case.graph.groups]


def close(found, expected):
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.dtype == torch.float64
        assert torch.allclose(mine, torch.as_tensor(theirs, dtype=torch.float64), rtol=1e-4, atol=1e-12)
