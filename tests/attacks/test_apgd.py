"""Auto-PGD: when it halves its step, by the two rules of the paper that say so."""

import pytest
import torch
from torch import nn

from secateur.attacks.apgd import _checkpoints, apgd

FIRST = 22
"""The first checkpoint of 100 steps."""


class Recorder(nn.Module):
    """Answers class 0 to everything and keeps what it was asked."""

    def __init__(self):
        super().__init__()
        self.queries = []

    def forward(self, x):
        self.queries.append(x.detach().clone())
        return torch.tensor([[1.0, 0.0, 0.0]]) + 0 * x.sum(1, keepdim=True)


def queries(successes, rho):
    """What APGD asks in 100 steps if the loss rises in the first ``successes`` of them, and then falls."""
    values = iter([*range(successes + 1), *range(successes - 1, successes - 100, -1)])

    def scripted(logits, y):
        return logits.sum(1) * 0 + next(values)

    model = Recorder()
    x, y = torch.full((1, 6), 0.5), torch.tensor([0])
    apgd(model, x, y, norm=2, eps=0.2, loss=scripted, rho=rho, generator=torch.Generator().manual_seed(1))
    # The clean image comes first, then x^(0).
    return torch.cat(model.queries[1:])


@pytest.mark.parametrize(
    ("successes", "halves"),
    [(16, True), (17, False)],  # 0.75 · 22 = 16.5
)
def test_condition_1_counts_the_steps_between_checkpoints_and_not_the_start(successes, halves):
    got = queries(successes, 0.75)
    always, never = queries(successes, 1.0), queries(successes, 0.0)
    assert torch.equal(always[: FIRST + 1], never[: FIRST + 1])
    assert not torch.equal(always[FIRST + 1], never[FIRST + 1])
    assert torch.equal(got[FIRST + 1], (always if halves else never)[FIRST + 1])


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (100, {22, 41, 57, 70, 80, 87, 93, 99}),
        (50, {11, 21, 29, 35, 40, 44, 47, 50}),
        (10, {3, 5, 6, 7, 8, 9, 10}),
        (1, {1}),
    ],
)
def test_checkpoints_are_the_shares_of_the_paper_rounded_up(steps, expected):
    assert _checkpoints(steps) == expected
