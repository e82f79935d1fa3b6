"""The criterion activation on layers that are no modules of their own, against values computed by hand."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import secateur
from secateur.errors import UserError
from secateur.pruning.calibration_stats import CalibrationStats
from secateur.pruning.criteria_data import activation


class Net(nn.Module):
    """A sequence of vectors through one layer of the kind named."""

    def __init__(self, kind):
        super().__init__()
        torch.manual_seed(0)
        self.kind, self.last = kind, nn.Linear(6, 3)
        if kind in {"bare", "bare with bias"}:
            self.weight, self.bias = nn.Parameter(torch.randn(6, 5)), nn.Parameter(torch.randn(6))
        elif kind == "uncalled":
            self.inner = nn.Linear(5, 6)
        elif kind == "embedding":
            self.inner = nn.Embedding(9, 6)
        elif kind == "attention":
            self.first, self.inner = nn.Linear(5, 6), nn.MultiheadAttention(6, 2, batch_first=True)
            nn.init.normal_(self.inner.out_proj.bias)
        else:
            cell = {"GRU": nn.GRU, "LSTM": nn.LSTM, "RNN": nn.RNN}[kind]
            self.inner = cell(5, 6, batch_first=True)

    def layer(self, x):
        if self.kind == "bare":
            return F.linear(x, self.weight)
        if self.kind == "bare with bias":
            return F.linear(x, self.weight, self.bias)
        if self.kind == "uncalled":
            return F.linear(x, self.inner.weight, self.inner.bias)
        if self.kind == "embedding":
            return self.inner(x)
        if self.kind == "attention":
            x = self.first(x)
            return self.inner(x, x, x, need_weights=False)[0]
        return self.inner(x)[0]

    def forward(self, x):
        return self.last(self.layer(x).mean(1))


def data(kind):
    generator = torch.Generator().manual_seed(2)
    if kind == "embedding":
        return torch.randint(0, 9, (7, 4), generator=generator), torch.zeros(7, dtype=torch.int64)
    return torch.randn(7, 4, 5, generator=generator), torch.zeros(7, dtype=torch.int64)


KINDS = ["bare", "bare with bias", "uncalled", "embedding", "attention", "GRU", "LSTM", "RNN"]


@pytest.mark.parametrize("kind", KINDS)
def test_activation_listens_to_the_layer(kind):
    model, (x, y) = Net(kind).eval(), data(kind)
    graph = secateur.trace(model, x[:2])
    group = next(g for g in graph.groups if any(member.tensor == "last.weight" for member in g.members))
    with torch.no_grad():
        expected = model.layer(x).double().abs().mean((0, 1))
    stats = CalibrationStats(model, x, y, batch_size=3)
    assert torch.allclose(activation(group, model, calibration=stats), expected, rtol=1e-5)


def test_heads_of_attention_are_scored_by_their_queries_keys_and_values():
    model, (x, y) = Net("attention").eval(), data("attention")
    graph = secateur.trace(model, x[:2])
    plan = secateur.plan(graph, criterion="activation", batch=(x, y))
    assert secateur.apply(model, plan).verified
    model = Net("attention").eval()
    graph = secateur.trace(model, x[:2])
    heads = model.first(x) @ model.inner.in_proj_weight.T + model.inner.in_proj_bias
    packed = heads.double().abs().mean((0, 1)).detach()
    read = {member.tensor: group for group in graph.groups for member in group.members if member.role == "in"}
    values = read["inner.out_proj.weight"]
    rows = next(member for member in values.members if member.tensor == "inner.in_proj_weight")
    stats = CalibrationStats(model, x, y)
    found = activation(values, model, calibration=stats)
    assert torch.allclose(found[rows.channels], packed[rows.indices], rtol=1e-5)


class Looping(nn.Module):
    """One operation more for every sample."""

    def __init__(self):
        super().__init__()
        self.weight, self.last = nn.Parameter(torch.randn(6, 5)), nn.Linear(6, 3)

    def forward(self, x):
        return self.last(torch.stack([F.linear(row, self.weight) for row in x]))


def test_all_uses_of_a_weight_are_heard():
    model, (x, y) = Looping().eval(), (torch.rand(4, 5), torch.zeros(4).long())
    (group,) = secateur.trace(model, x[:2]).groups
    expected = (x @ model.weight.T).double().abs().mean(0).detach()
    assert torch.allclose(activation(group, model, calibration=CalibrationStats(model, x, y)), expected)


def test_a_model_that_runs_otherwise_on_some_images_is_refused_in_words():
    model, (x, y) = Looping().eval(), (torch.rand(5, 5), torch.zeros(5).long())
    (group,) = secateur.trace(model, x[:2]).groups
    with pytest.raises(UserError, match="runs other operations on some images"):
        activation(group, model, calibration=CalibrationStats(model, x, y, batch_size=3))


def test_the_example_inputs_may_be_of_another_number_of_images():
    model, batch = Net("GRU").eval(), data("GRU")
    graph = secateur.trace(model, batch[0][:1])
    assert secateur.plan(graph, criterion="activation", batch=batch).cuts


@pytest.mark.parametrize("criterion", ["activation", "taylor", "hessian"])
@pytest.mark.parametrize("kind", ["bare", "attention"])
def test_a_batch_on_which_the_model_fails_is_one_sentence(kind, criterion):
    model, (x, y) = Net(kind).eval(), data(kind)
    graph = secateur.trace(model, x[:2])
    with pytest.raises(UserError, match="the model fails on the calibration batch: RuntimeError"):
        secateur.plan(graph, criterion=criterion, batch=(x[..., :3], y))
