"""In L0 steep ends with sets of pixels that are as small as they can be, or one pixel larger."""

import sys

import pytest
import torch

from attacks.test_linear import case, check
from secateur.attacks import run
from secateur.attacks.core.batch import check_batch, conclude
from secateur.attacks.core.best import BestAdversarial
from secateur.attacks.core.losses import is_adversarial, logit_difference
from secateur.attacks.steep.attack import converges_from, steep
from secateur.attacks.steep.l0_removal import remove_pixels

REMOVAL = sys.modules["secateur.attacks.steep.l0_removal"]


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize(("d", "classes"), [(2, 2), (64, 2), (64, 10)])
def test_steep_needs_at_most_one_pixel_too_many(d, classes):
    made = case(d, classes, 32, seed=0)
    check(made, steep(made.model, made.x, made.y, norm=0.0, steps=200), 0.0, 1)


def whittled(made, queries, steps, found=None):
    """The search alone, from images whose every pixel is pushed to the edge that fools most."""
    asked = []

    class Watched(torch.nn.Module):
        def forward(self, x):
            asked.append(torch.is_grad_enabled())
            return made.model(x)

    problem = check_batch(made.x, made.y, None, (0.0, 1.0))
    x = made.x.clone().requires_grad_(True)
    gradient = torch.autograd.grad(logit_difference(problem, made.model(x)).sum(), x)[0]
    adv = (gradient < 0).to(x.dtype)
    reach = torch.where(
        is_adversarial(problem, made.model(adv)), (adv != made.x).sum(1).to(x.dtype), torch.inf
    )
    found = conclude(problem, adv, reach, torch.zeros_like(problem.y, dtype=torch.bool))
    return remove_pixels(
        BestAdversarial(Watched(), problem, 0.0), found, halvings=queries, steps=steps
    ), asked


def check_exact(made):
    found, asked = whittled(made, 7, 40)
    check(made, found, 0.0, 0)
    assert len(asked) == 7 + 41
    assert sum(asked) == 40


def test_on_two_classes_the_search_alone_is_exact():
    check_exact(case(64, 2, 32, seed=0))


def test_sets_that_nothing_is_left_out_of_are_seen(monkeypatch):
    monkeypatch.setattr(REMOVAL, "tabu_search", lambda best, steps: None)
    with pytest.raises(AssertionError):
        check_exact(case(64, 2, 32, seed=0))


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize("steps", [1, 2, 4, 7, 20, 60])
def test_no_query_is_one_too_many(net, images, steps):
    result = run(net, images, "steep", norm=0.0, steps=steps)
    assert result.forwards.max() <= steps + 1
    assert result.backwards.max() <= steps
    assert 0 < converges_from(result.settings) <= steps


def test_what_the_descent_in_l1_missed_is_searched_for_pixel_by_pixel():
    made = case(64, 2, 16, seed=0)
    problem = check_batch(made.x, made.y, None, (0.0, 1.0))
    nowhere = torch.full((16,), torch.inf, dtype=made.x.dtype)
    nothing = conclude(problem, made.x, nowhere, torch.zeros(16, dtype=torch.bool))
    check(
        made, remove_pixels(BestAdversarial(made.model, problem, 0.0), nothing, halvings=0, steps=120), 0.0, 1
    )
