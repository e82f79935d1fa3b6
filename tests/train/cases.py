"""Recipes and small networks that several tests of the training loop share."""

from dataclasses import replace

import torch
from torch import nn

from secateur.models import build, initialise
from secateur.recipes import Adversary, Augment, Distillation, Penalty, Recipe

QUICK = Recipe(epochs=4, batch_size=32, learning_rate=0.05, checkpoint_every=1)
FULL = replace(
    QUICK,
    augment=Augment(1, 15, True),
    adversary=Adversary(0.1, 0.05, 2),
    label_smoothing=0.1,
    select="robust",
)
EVERYTHING = replace(
    FULL,
    adversary=Adversary(0.1, 0.05, 2, method="trades", beta=2.0, fold=True),
    schedule="cosine_per_step",
    ema=0.9,
    accumulate=2,
    channels_last=True,
    recalibrate=True,
    distillation=Distillation(0.5, 2.0),
    penalty=Penalty("growing_reg", 1e-3, 1e-2),
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def network(seed=0, widths=(4, 6)):
    model = build("resnet-tiny", widths=widths)
    initialise(model, seeded(seed))
    return model


class Dropping(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Dropout(0.5), nn.Linear(16, 10))

    def forward(self, x):
        return self.net(x)


def dropping():
    model = Dropping()
    initialise(model, seeded())
    return model
