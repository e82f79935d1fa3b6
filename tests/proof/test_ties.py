"""Picks among numbers that are equal but for rounding do not refuse a network; others still do."""

import importlib

import pytest
import torch
from torch import Tensor, nn

import secateur
from secateur.errors import UserError
from secateur.surgery import cut

# The function of the same name hides the module in its package.
VERIFY = importlib.import_module("secateur.proof.verify")


class Plain(nn.Module):
    """Two scores that are one sum in two orders: which is larger is up to the last bit."""

    def __init__(self, pick) -> None:
        super().__init__()
        self.body, self.parts, self.head = nn.Linear(6, 64), nn.Linear(64, 3), nn.Linear(64, 4)
        self.pick = pick

    def forward(self, x: Tensor) -> Tensor:
        h = self.body(x).relu()
        a, b, c = self.parts(h).unbind(1)
        return self.head(h) * (1 + self.pick(torch.stack([(a + b) + c, a + (b + c)], 1)))[:, None]


PICKS = {
    "argmax": lambda scores: scores.argmax(1),
    "topk": lambda scores: scores.topk(1).indices[:, 0],
    "sort": lambda scores: scores.sort(1).indices[:, 0],
    "larger": lambda scores: (scores[:, 0] > scores[:, 1]).long(),
    "max": lambda scores: scores.max(1).indices,
}


def plain(pick):
    torch.manual_seed(0)
    return Plain(PICKS[pick]), torch.randn(400, 6)


@pytest.mark.parametrize("pick", PICKS)
def test_picks_among_equal_numbers_are_compared_for_the_same_picks(pick, monkeypatch):
    net, x = plain(pick)
    report = secateur.prune(net, x, sparsity=0.5)
    assert report.verified
    assert net.body.out_features == 32
    assert not report.notes
    monkeypatch.setattr(VERIFY, "with_same_picks", lambda *_, **__: None)
    with pytest.raises(UserError, match="differs from the masked dense network"):
        secateur.prune(plain(pick)[0], x, sparsity=0.5)


@pytest.mark.parametrize("layer", ["parts", "head"])
def test_a_wrong_surgery_is_no_tie(layer, monkeypatch):
    honest = cut.without_indices

    def spoiled(tensors, removed):
        found = dict(honest(tensors, removed))
        if f"{layer}.weight" in found:
            found[f"{layer}.weight"] = found[f"{layer}.weight"].flip(1)
        return found

    monkeypatch.setattr(cut, "without_indices", spoiled)
    net, x = plain("argmax")
    with pytest.raises(UserError, match="differs from the masked dense network"):
        secateur.prune(net, x, sparsity=0.5)
