"""Networks that decide by numbers what they compute: a proof follows the way of the example."""

import pytest
import torch
from torch import Tensor, nn

import secateur
from secateur.errors import UserError


class Deep(nn.Module):
    """A layer that is used as often as the input wants."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.depth, self.head = nn.Linear(6, 16), nn.Linear(16, 1), nn.Linear(16, 4)
        self.layers = nn.ModuleList(nn.Linear(16, 16) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x).relu()
        for step in range(1 + int(self.depth(h).sigmoid().mean() * 8)):
            h = h + self.layers[step % 2](h).relu()
        return self.head(h)


@pytest.mark.parametrize("seed", [9, 17, 29])
def test_draws_that_take_another_way_are_left_out(seed):
    torch.manual_seed(seed)
    net = Deep()
    report = secateur.prune(net, torch.randn(3, 6), sparsity=0.5)
    assert report.verified
    assert not report.notes
    assert (net.first.out_features, net.layers[1].in_features) == (8, 8)


class Weights(nn.Module):
    """Weights that are computed from weights over channels that are pruned."""

    def __init__(self, make) -> None:
        super().__init__()
        self.first, self.head, self.make = nn.Linear(6, 16), nn.Linear(24, 4), make
        self.weight, self.left = nn.Parameter(torch.randn(24, 16)), nn.Linear(24, 24)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((self.first(x).relu() @ self.make(self).t()).relu())


MADE = {
    "normed": lambda net: net.weight / net.weight.norm(dim=1, keepdim=True),
    "normalised": lambda net: nn.functional.normalize(net.weight, dim=1),
    "product": lambda net: net.left(net.weight.t()).t(),
    "shared": lambda net: net.weight * net.head.weight.sum(0)[:, None],
}


@pytest.mark.parametrize("make", MADE)
def test_weights_made_of_weights_take_what_is_left_alone(make):
    torch.manual_seed(0)
    net = Weights(MADE[make])
    if make != "product":
        del net.left
    report = secateur.prune(net, torch.randn(3, 6), sparsity=0.5)
    assert report.verified
    assert report.max_error <= 1e-10
    assert not report.notes
    assert net.weight.shape == (12, 8)


class Chosen(nn.Module):
    """Runs the experts that at least one image was sent to, however many these are."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.head = nn.Linear(8, 4), nn.Linear(16, 3)
        self.experts = nn.ModuleList(nn.Linear(8, 16) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        chosen = self.gate(x).argmax(1)
        masks = nn.functional.one_hot(chosen, 4).t()
        found = [self.experts[n](x) * masks[n][:, None] for n in masks.sum(1).nonzero().flatten()]
        return self.head(torch.stack(found).sum(0).relu())


@pytest.mark.parametrize("seed", [1, 6, 10])
def test_inputs_that_need_other_experts_are_left_out(seed):
    torch.manual_seed(seed)
    net = Chosen()
    report = secateur.prune(net, torch.randn(4, 8), sparsity=0.5)
    assert report.verified
    assert not [note for note in report.notes if note.startswith("not pruned")]
    assert (net.gate.out_features, net.head.in_features) == (4, 8)


class Once(nn.Sequential):
    """Does something else the first time."""

    runs = 0

    def forward(self, x: Tensor) -> Tensor:
        Once.runs += 1
        return super().forward(x.exp() if float(x[0, 0]) < Once.runs < 2 else x)


def test_a_way_that_no_draw_takes_is_named():
    net = Once(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 4))
    with pytest.raises(UserError, match="took another way than on the example"):
        secateur.prune(net, torch.rand(3, 6), sparsity=0.5)


def test_inputs_are_kept_only_where_numbers_decide():
    x = torch.rand(3, 6)
    torch.manual_seed(9)
    assert secateur.trace(Deep(), x).example is x
    assert secateur.trace(nn.Linear(6, 4), x).example is None
