"""A run leaves nothing behind, and one of several outputs may be the one that counts."""

from collections import namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

import secateur
from secateur.errors import UserError
from secateur.pruning import Plan

Pair = namedtuple("Pair", "logits features")


@dataclass
class Answer:
    logits: Tensor
    features: Tensor


FORMS = {
    "tuple": (lambda logits, features: (features, logits), 1),
    "dict": (lambda logits, features: {"features": features, "logits": logits}, "logits"),
    "named tuple": (Pair, "logits"),
    "dataclass": (Answer, "logits"),
}


class Several(nn.Module):
    """Logits, and the features that they are made from."""

    def __init__(self, form):
        super().__init__()
        self.hidden, self.head, self.form = nn.Linear(6, 8), nn.Linear(8, 3), form

    def forward(self, x):
        features = self.hidden(x).relu()
        return self.form(self.head(features), features)


class Lazy(nn.Module):
    """A table that is made once it is known how many tokens come, and a count of the calls."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(6, 8), nn.Linear(8, 3)
        self.register_buffer("table", torch.zeros(1, 1))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        if self.table.shape[1] != x.shape[1]:
            self.table = torch.arange(x.shape[1], dtype=x.dtype)[None]
        return self.two(self.one(x * self.table).relu())


@pytest.mark.parametrize("name", sorted(FORMS))
def test_the_output_that_counts_keeps_its_shape_and_the_others_may_shrink(name):
    torch.manual_seed(0)
    form, logits = FORMS[name]
    x = torch.rand(2, 6)
    with pytest.raises(UserError, match="name the logits"):
        secateur.prune(Several(form), x, sparsity=0.5)
    net = Several(form).eval()
    report = secateur.prune(net, x, sparsity=0.5, logits=logits)
    assert report.verified
    assert net.hidden.out_features == 4
    assert net.head.out_features == 3
    again = Several(form).eval()
    secateur.apply(again, Plan.from_json(report.plan.to_json()))
    assert again.hidden.out_features == 4


def test_rounds_know_which_output_counts():
    torch.manual_seed(0)
    net = Several(FORMS["dict"][0]).eval()
    secateur.pruning.iterative(net, torch.rand(2, 6), sparsity=0.5, rounds=2, logits="logits")
    assert net.hidden.out_features == 4


@pytest.mark.parametrize(
    ("form", "name", "known"),
    [
        ("dict", "logit", "its outputs are: features, logits"),
        ("tuple", 2, "its outputs are: 0, 1"),
        ("tuple", "logits", "its outputs are: 0, 1"),
        ("tuple", True, "its outputs are: 0, 1"),
        ("dict", ["logits"], "its outputs are: features, logits"),
    ],
)
def test_an_output_that_is_not_there_is_refused_with_those_that_are(form, name, known):
    with pytest.raises(UserError, match="the model has no output") as caught:
        secateur.trace(Several(FORMS[form][0]), torch.rand(2, 6), logits=name)
    assert known in str(caught.value)


def test_buffers_that_a_run_makes_or_writes_are_as_before():
    torch.manual_seed(0)
    net = Lazy().eval()
    table, x = net.table, torch.rand(2, 6)
    report = secateur.prune(net, x, sparsity=0.5)
    assert report.verified
    assert net.one.out_features == 4
    assert net.table is table
    assert net.calls == 0


def test_a_table_that_is_there_is_read():
    torch.manual_seed(0)
    net = Lazy().eval()
    x = torch.rand(2, 6)
    net(x)
    assert secateur.prune(net, x, sparsity=0.5).verified
    assert net.calls == 1
