"""Channels pass what mixes positions alone: orders, running sums, transforms, samples, circular padding."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import secateur
from graph.networks import images
from graph.test_rules import Body, pruned
from secateur.errors import UserError


class Done(Body):
    """Something that is done to 24 channels."""

    def __init__(self, what):
        super().__init__(24)
        self.what = what

    def middle(self, x: Tensor) -> Tensor:
        return self.what(x)


def turned(x):
    """Half a turn in the complex plane, at every frequency."""
    return torch.fft.ifft2(torch.fft.fft2(x) * -1).real


def unpooled(x):
    y, where = F.max_pool2d(x, 2, return_indices=True)
    return F.max_unpool2d(y, where, 2)


def shrunk(x):
    grid = F.affine_grid(torch.eye(2, 3).expand(len(x), 2, 3), [len(x), 1, 5, 5], align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)


POSITIONS = {
    "sort": lambda x: x.sort(2).values,
    "topk": lambda x: x.flatten(2).topk(5, 2).values[..., None],
    "kthvalue": lambda x: x.flatten(2).kthvalue(3, 2, keepdim=True).values[..., None],
    "median": lambda x: x.flatten(2).median(2, keepdim=True).values[..., None],
    "range": lambda x: torch.sub(*reversed(x.flatten(2).aminmax(dim=2, keepdim=True)))[..., None],
    "running sum": lambda x: x.cumsum(3),
    "running maximum": lambda x: x.cummax(2).values,
    "spectrum": lambda x: torch.fft.rfft2(x).abs(),
    "filter": lambda x: torch.fft.irfft2(torch.fft.rfft2(x)),
    "complex numbers": turned,
    "unpooling": unpooled,
    "grid": shrunk,
    "circular padding": nn.CircularPad2d(1),
    "leak in evaluation": nn.RReLU(),
    "no derivative": lambda x: x * torch.heaviside(x - 0.1, torch.ones((), dtype=x.dtype)),
}


@pytest.mark.parametrize("name", sorted(POSITIONS))
def test_channels_pass_what_mixes_positions(name):
    net = Done(POSITIONS[name]).eval()
    report = pruned(net)
    assert (net.stem.out_channels, net.head.in_features) == (12, 12)
    assert (report.gradient_error is None) == (name == "no derivative")


@pytest.mark.parametrize(
    "what", [lambda x: x.cumsum(1), lambda x: x.sort(1).values, lambda x: torch.fft.fft(x, dim=1).abs()]
)
def test_channels_that_are_mixed_stay(what):
    with pytest.raises(UserError, match="cannot remove a single channel"):
        secateur.prune(Done(what).eval(), images(), sparsity=0.5)
