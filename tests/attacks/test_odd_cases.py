"""Odd networks and images: every attack answers in the box, without NaN, and claims no more than it did."""

from functools import cache

import pytest
import torch
from torch import nn

from attacks.conftest import TinyNet
from attacks.every import CASES, call


class Around(nn.Module):
    """A network with something odd done to its images or its logits."""

    def __init__(self, inner, odd):
        super().__init__()
        self.inner, self.odd = inner, odd

    def forward(self, x):
        return self.odd(self.inner, x)


def constant(inner, x):
    return torch.tensor([[3.0, 1, 0, 0]]).expand(len(x), 4) + 0 * x.flatten(1).sum(1, keepdim=True)


ODD = {
    "zero gradients": lambda net, x: net((x * 4).round() / 4 + 0 * x),
    "the same answer everywhere": constant,
    "logits that saturate": lambda net, x: 1e4 * net(x),
    "two classes": lambda net, x: net(x)[:, :2],
    "logits of another precision": lambda net, x: net(x).double(),
}
IMAGES = {
    "a batch of one": lambda x: x[:1],
    "all black": torch.zeros_like,
    "all white": torch.ones_like,
    "float64": torch.Tensor.double,
}
KINDS = [(odd, "a batch of one") for odd in ODD] + [(None, image) for image in IMAGES]


@cache
def made(kind):
    """Network, images and what it answers."""
    odd, image = kind
    with torch.random.fork_rng():
        torch.manual_seed(3)
        net, x = TinyNet(4).eval(), IMAGES[image](torch.rand(5, 1, 4, 4))
    model = (net if odd is None else Around(net, ODD[odd])).to(x.dtype)
    with torch.no_grad():
        return model, x, model(x).argmax(1)


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind[0] or kind[1])
@pytest.mark.parametrize(("name", "norm"), CASES)
def test_an_odd_case_is_answered_like_any_other(kind, name, norm):
    model, x, y = made(kind)
    before = x.clone()
    found = call(name, norm, model, x, y)
    assert torch.equal(x, before)
    assert found.adv.min() >= 0
    assert found.adv.max() <= 1
    assert found.distance.dtype == x.dtype
    assert torch.equal(found.distance.isfinite(), found.mask)
    assert (found.distance[found.mask] > 0).all()
    assert not found.already_wrong.any()
    with torch.no_grad():
        fooled = model(found.adv).argmax(1) != y
    assert fooled[found.mask].all()
    if kind[0] == "the same answer everywhere":
        assert not found.mask.any()


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind[0] or kind[1])
@pytest.mark.parametrize(("name", "norm"), CASES)
def test_what_is_wrong_already_is_no_find(kind, name, norm):
    model, x, y = made(kind)
    found = call(name, norm, model, x, torch.where(y == 0, 1, 0), steps=3)
    assert found.already_wrong.all()
    assert not found.mask.any()
    assert (found.distance == 0).all()
    assert torch.equal(found.adv, x)
