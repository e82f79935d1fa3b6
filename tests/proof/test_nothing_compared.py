"""A proof that compared nothing says so, and looks at the values before the output."""

import pytest
import torch
from torch import nn

import secateur
from secateur.graph.rules import RULES
from secateur.proof.verify import relative_error


def passing(context, call):
    """Says that reversed channels are where they were."""
    return context.of(call.tensor("self"))


class Found(nn.Module):
    """Scores of an image, of which the last line returns some."""

    def __init__(self, last, *, reverse: bool = False) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(3, 16, 1), nn.Conv2d(16, 24, 1), nn.Conv2d(24, 4, 1)
        self.last, self.reverse = last, reverse

    def forward(self, x):
        h = self.first(x).relu()
        h = h.flip(1) if self.reverse else h
        return self.last(self.head(self.second(h).relu()).sigmoid())


def prune(last, **options):
    torch.manual_seed(0)
    return secateur.prune(Found(last, **options).eval(), torch.rand(1, 3, 6, 6), sparsity=0.5)


LAST = {
    "empty": (lambda y: y.masked_select(torch.zeros(y.shape, dtype=torch.bool)), "empty"),
    "constant": (lambda y: torch.zeros_like(y) * y, "constant"),
    "constant label": (lambda y: y.mean((2, 3)) > 2, "constant"),
}


@pytest.mark.parametrize("last", LAST)
def test_a_proof_of_nothing_is_none_and_says_why(last):
    function, why = LAST[last]
    report = prune(function)
    assert report.groups_pruned == 2
    assert (report.verified, report.max_error, report.gradient_error) == (False, None, None)
    assert report.notes[-1].startswith("not verified: the model's output is " + why)
    assert str(report).endswith("2 groups, not verified")
    assert report.to_json()["verified"] is False
    assert report.to_json()["notes"] == list(report.notes)


@pytest.mark.slow
@pytest.mark.parametrize("last", [*LAST, "label"])
def test_a_wrong_rule_is_caught_before_an_output_that_hides_it(last, monkeypatch):
    monkeypatch.setitem(RULES, "aten::flip", passing)
    report = prune(LAST[last][0] if last in LAST else lambda y: y.mean((2, 3)).argmax(1), reverse=True)
    assert report.groups_pruned == 1
    assert report.notes[0].startswith("not pruned: first.weight[0]: flip in the model")


def test_labels_are_compared_one_by_one():
    found = torch.tensor([10**9, 7, 3, 1])
    assert relative_error(found, found) == 0
    assert relative_error(found + torch.tensor([1, 0, 0, 0]), found) == 0.25
    assert relative_error(torch.tensor([True, False]), torch.tensor([True, True])) == 0.5
    endless = torch.tensor([-torch.inf, 2.0])
    assert relative_error(endless, endless) == 0
    assert relative_error(endless + torch.tensor([0.0, 1.0]), endless) == 0.5
    assert relative_error(-endless, endless) == relative_error(endless * torch.nan, endless) == torch.inf
    assert relative_error(torch.tensor([1 + 2j]), torch.tensor([1 + 0j])) == 2


def test_complex_outputs_are_compared_and_keep_their_shape():
    torch.manual_seed(0)
    net = Found(lambda y: torch.fft.fft(y.mean((2, 3)).flatten()))
    report = secateur.prune(net.eval(), torch.rand(1, 3, 6, 6), sparsity=0.5)
    assert report.verified
    assert net.head.out_channels == 4
