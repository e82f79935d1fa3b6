"""A number that the model's code computes from a width changes with it; the report says so."""

import math

import pytest
import torch
from torch import nn

import secateur


class Attention(nn.Module):
    """One layer of attention; ``fixed`` scales by a stated number, otherwise by the width of a head."""

    def __init__(self, *, fixed):
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(16, 16) for _ in range(4))
        self.scale = 0.5 if fixed else None

    def forward(self, x):
        n, length, _ = x.shape
        q, k, v = (layer(x).view(n, length, 4, -1).transpose(1, 2) for layer in (self.q, self.k, self.v))
        scale = self.scale or 1 / math.sqrt(q.shape[-1])
        weights = (q @ k.transpose(-2, -1) * scale).softmax(-1)
        return self.out((weights @ v).transpose(1, 2).flatten(2))


def test_a_scale_that_follows_the_width_of_a_head_is_reported():
    model = Attention(fixed=False).eval()
    report = secateur.prune(model, torch.rand(2, 5, 16), sparsity=0.5)
    assert report.verified
    (said,) = report.changed_by_design
    assert said.startswith("a number that follows a width, in mul at ")


def test_a_stated_scale_is_not():
    report = secateur.prune(Attention(fixed=True).eval(), torch.rand(2, 5, 16), sparsity=0.5)
    assert report.verified
    assert report.changed_by_design == ()


@pytest.mark.parametrize(
    "layer", [nn.Dropout(0.3), nn.LeakyReLU(0.1), nn.BatchNorm1d(8, eps=1e-3), nn.Hardtanh(-0.5, 0.5)]
)
def test_numbers_that_no_width_enters_are_not(layer):
    model = nn.Sequential(nn.Linear(4, 8), layer, nn.Linear(8, 3)).eval()
    report = secateur.prune(model, torch.rand(3, 4), sparsity=0.5)
    assert (report.verified, report.changed_by_design) == (True, ())
