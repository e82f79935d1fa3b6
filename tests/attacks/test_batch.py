"""The margin, its derivative, and when it says that an image fools."""

import pytest
import torch

from secateur.attacks.core.batch import Batch
from secateur.attacks.core.losses import (
    is_adversarial,
    log_odds,
    log_odds_grad,
    logit_difference,
    logit_difference_and_grad,
    reaches_goal,
)


def check_batch(targets=None, n=64, classes=5):
    y = torch.arange(n) % classes
    goal = (y + 1 + torch.arange(n) % (classes - 1)) % classes if targets else None
    return Batch(torch.zeros(n, 3), y, goal, (0.0, 1.0))


@pytest.fixture(params=[False, True], ids=["untargeted", "targeted"])
def problem(request):
    return check_batch(request.param)


@pytest.fixture
def logits():
    values = torch.randn(64, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values[:8] = values[:8].round()  # ties, where one class takes the derivative
    values[8:12] *= 1e4  # a saturated softmax
    return values.requires_grad_(True)


def test_the_slope_is_the_derivative_of_the_margin(problem, logits):
    margin = logit_difference(problem, logits)
    (slope,) = torch.autograd.grad(margin.sum(), logits)
    assert torch.equal(logit_difference_and_grad(problem, logits.detach())[0], margin)
    assert torch.equal(logit_difference_and_grad(problem, logits.detach())[1], slope)
    assert (slope.abs().sum(1) == 2).all()


def test_the_soft_slope_is_the_derivative_of_the_soft_margin(problem, logits):
    (slope,) = torch.autograd.grad(log_odds(problem, logits).sum(), logits)
    torch.testing.assert_close(log_odds_grad(problem, logits.detach()), slope, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan])
def test_nothing_fools_where_a_logit_is_not_finite(problem, value):
    for column in range(5):
        logits = torch.randn(64, 5, generator=torch.Generator().manual_seed(1))
        logits[:, column] = value
        assert not is_adversarial(problem, logits).any()
        assert not reaches_goal(problem, logits).any()
    assert is_adversarial(problem, torch.randn(64, 5, generator=torch.Generator().manual_seed(1))).any()
