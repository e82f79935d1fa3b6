"""Masks over channels: what they pick counts the channels that are left, and is pruned with proof."""

from importlib import import_module

import pytest
import torch
from torch import nn

import secateur
from secateur.graph.trace import decisions


class Net(nn.Module):
    def __init__(self, between):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.f, self.between = nn.Linear(16, 5), between

    def forward(self, x):
        return self.f(self.between(self.b(self.a(x).relu())).mean((2, 3)))


def put(h, mask, values):
    h = h.clone()
    h[mask] = values(h[mask]) if callable(values) else values
    return h


def pixels(h):
    last = h.movedim(1, 3)
    likely = h.mean(1) > 0
    return last.masked_scatter(likely[..., None], last[likely] * 2).movedim(3, 1)


NAMED = "names the channel by its position"
PRUNED = {
    "mean": lambda h: h * h[h > 0].mean(),
    "sum": lambda h: h * h[h >= 0].sum(),
    "largest": lambda h: h * h[h < 0].max(),
    "median": lambda h: h * h[h != 0].median(),
    "spread": lambda h: h * h[h.abs() < 2].std(),
    "exp": lambda h: h * h[h > 0].exp().sum(),
    "masked_select": lambda h: h * h.masked_select(h > 0).mean(),
    "share": lambda h: h * (h[h > 0].sum() / (h > 0).sum()),
    "count over size": lambda h: h * ((h > 0).sum() / h.numel()),
    "two masks": lambda h: h * h[(h > 0) & ~(h > 1)].mean(),
    "expanded mask": lambda h: h * h[(h.mean((2, 3), keepdim=True) > -9).expand_as(h)].mean(),
    "rows": lambda h: h[h.mean((2, 3)) > -1e9].view(h.shape),
    "channels": lambda h: h[:, h.mean((0, 2, 3)) > -1e9],
    "number": lambda h: put(h, h < 0, 0.0),
    "own values": lambda h: put(h, h < 0, lambda values: values * 0.1),
    "masked_scatter": lambda h: h.masked_scatter(h < 0, h[h < 0] * 0.1),
    "pixels": pixels,
}


def pruned(between):
    torch.manual_seed(0)
    model, x = Net(between).eval(), torch.randn(2, 3, 6, 6)
    graph = secateur.trace(model, x)
    return graph, model, secateur.prune(model, x, sparsity=0.5)


@pytest.mark.slow
@pytest.mark.parametrize("name", PRUNED)
def test_what_a_mask_picks_is_pruned(name):
    _, model, report = pruned(PRUNED[name])
    assert report.verified
    assert (model.a.out_channels, model.b.out_channels) == (8, 8)
    model(torch.randn(5, 3, 4, 4))


@pytest.mark.parametrize(
    ("name", "between", "says"),
    [
        (
            "nonzero",
            lambda h: h * h[(h > 0).nonzero(as_tuple=True)].sum(),
            NAMED,
        ),
        ("where", lambda h: h * h[torch.where(h > 0)].sum(), NAMED),
        ("topk", lambda h: h * h.flatten(1).topk(5)[0].mean(), "is mixed over positions"),
        ("mask of channels", lambda h: h[:, h.mean((0, 2, 3)).sort()[0] > -9], "is mixed over positions"),
    ],
)
def test_numbers_of_channels_keep_them_and_the_graph_says_so(name, between, says):
    graph, model, report = pruned(between)
    assert report.verified
    assert (model.a.out_channels, model.b.out_channels) == (8, 16)
    assert any(says in str(item.reason) for item in graph.frozen)


def test_a_width_by_which_a_sum_is_divided_is_reported():
    _, model, report = pruned(lambda h: h * (h.sum(1, keepdim=True) / h.shape[1]))
    assert report.verified
    assert model.b.out_channels == 8
    assert any(said.startswith("a number that follows a width, in div") for said in report.changed_by_design)


class Thresholded(nn.Module):
    """Class scores that only decide which positions go on are answers, not channels."""

    def __init__(self):
        super().__init__()
        self.h, self.scores, self.f = nn.Linear(6, 16), nn.Linear(16, 4), nn.Linear(16, 3)

    def forward(self, x):
        h = self.h(x).relu()
        likely = (self.scores(h) > 0).any(1)
        return self.f(h[likely]).mean(0)


def test_scores_that_decide_about_positions_stay():
    torch.manual_seed(0)
    model = Thresholded().eval()
    assert secateur.prune(model, torch.randn(9, 6), sparsity=0.5).verified
    assert (model.scores.out_features, model.h.out_features) == (4, 8)


def test_a_proof_that_decides_by_removed_channels_fails(monkeypatch):
    """Without leaving out what was removed, the flags of the example do not fit the pruned network."""
    verifying = import_module("secateur.proof.verify")
    whole = lambda tape, compact: decisions.by_order(tape, lambda _, kept: kept)  # noqa: E731
    monkeypatch.setattr(verifying, "by_order", whole)
    _, model, report = pruned(PRUNED["mean"])
    assert model.b.out_channels == 16
    assert any("b.weight" in note for note in report.notes)
