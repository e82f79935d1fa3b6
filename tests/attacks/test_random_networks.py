"""Networks that draw random numbers: most of many answers decide what is correct and what is an example."""

import numpy as np
import pytest
import torch
from torch import nn

import secateur
from secateur.attacks import Outcome, run
from secateur.attacks.runner import random_networks
from secateur.attacks.runner.random_networks import DRAWS, SAID
from secateur.data import Dataset

EPS = 0.03


class Linear(nn.Module):
    """A linear network on 36 pixels; what it draws comes after."""

    def __init__(self, noise=None):
        super().__init__()
        self.noise, self.asked = noise, 0
        self.layer = nn.Linear(36, 2)
        with torch.no_grad():
            self.layer.weight.copy_(torch.randn(2, 36, generator=torch.Generator().manual_seed(0)) / 6)
            self.layer.bias.zero_()

    def forward(self, x):
        self.asked += len(x)
        logits = self.layer(x.flatten(1) - 0.5)
        return logits if self.noise is None else self.noise(logits)


def seldom(logits):
    """Swaps the classes of one image in eight."""
    return torch.where(torch.rand(len(logits), 1) < 1 / 8, logits.flip(1), logits)


def gauss(logits):
    return logits + 0.02 * torch.randn_like(logits)


def of_numpy(logits):
    return logits + torch.from_numpy(np.random.standard_normal(logits.shape)).to(logits) * 0.02  # noqa: NPY002


def dropped(logits):
    return nn.functional.dropout(logits, 0.02, training=True)


NOISE = {"swapped": seldom, "gauss": gauss, "numpy": of_numpy, "dropout": dropped}


@pytest.fixture(autouse=True)
def _noise_is_the_same_whatever_ran_before():
    torch.manual_seed(0)


@pytest.fixture
def images():
    x = torch.rand(100, 1, 6, 6, generator=torch.Generator().manual_seed(1)) * 0.6 + 0.2
    return Dataset("few", x, Linear()(x).argmax(1), ("a", "b"), None)


def margin(images, adv):
    """How far an image is on the side of its label, without noise."""
    z = Linear()(adv).detach()
    own = z.gather(1, images.y.unsqueeze(1)).squeeze(1)
    return own - z.gather(1, 1 - images.y.unsqueeze(1)).squeeze(1)


def within(images, eps):
    """The images that the network without noise may be fooled on: every pixel moves by eps."""
    slope = (Linear().layer.weight[0] - Linear().layer.weight[1]).abs().sum()
    return margin(images, images.x) < eps * slope


def check(noise, images, name="pgd", **settings):
    """An attack finds what it finds without the noise, and nothing else."""
    settings = {"eps": EPS, "steps": 30} | settings
    result = run(Linear(noise), images, name, **settings)
    found, clear = result.adv_success & ~result.ori_success, margin(images, images.x).abs() > 0.05
    can = within(images, 0.85 * settings["eps"]) & clear
    cannot = ~within(images, 1.15 * settings["eps"]) & clear
    assert can.sum() > 8
    assert cannot.sum() > 5
    assert result.correct[clear].all()
    assert found[can].double().mean() >= 0.9
    assert found[cannot].sum() <= 1
    assert (margin(images, result.adv)[found & can] < 0).double().mean() >= 0.9
    return result


# APGD goes back to the point of the best loss: where one answer in eight is swapped, that is a lucky one.
@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize(
    ("name", "noise"), [*(("pgd", noise) for noise in NOISE), ("apgd", "gauss"), ("apgd", "dropout")]
)
def test_attacks_of_fixed_size_find_what_they_find_without_the_noise(name, noise, images):
    result = check(NOISE[noise], images, name)
    assert result.search["draws"] == DRAWS
    assert result.search["network"][-1] == SAID


@pytest.mark.parametrize("noise", NOISE)
def test_one_lucky_answer_is_caught(noise, images, monkeypatch):
    """What was done before: the first query that fools is the example, and one answer verifies it."""
    monkeypatch.setattr(random_networks, "draws_numbers", lambda model, images: False)
    caught = 0
    # One search of six is lucky and right.
    for seed in range(5):
        torch.manual_seed(seed)
        try:
            check(NOISE[noise], images)
        except AssertionError:
            caught += 1
    assert caught >= 3


def test_random_examples_are_none_of_a_network_that_errs_now_and_then(images):
    """One answer in eight is wrong whatever the image: a search without gradients would be lucky at once."""
    assert run(Linear(seldom), images, "noise", eps=1e-4, steps=20).where(Outcome.FOUND).sum() <= 1
    assert run(Linear(seldom), images, "square", eps=1e-4, steps=20).where(Outcome.FOUND).sum() <= 1


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize("noise", ["gauss", "dropout"])
def test_minimum_norms_are_near_those_without_the_noise(noise, images):
    still = run(Linear(), images, "fmn", norm=2.0, steps=60)
    result = run(Linear(NOISE[noise]), images, "fmn", norm=2.0, steps=60)
    both = still.adv_success & result.adv_success & ~still.ori_success & ~result.ori_success
    assert both.sum() >= 0.8 * (~still.ori_success).sum()
    median = result.distance[both].median().item()
    assert median == pytest.approx(still.distance[both].median().item(), rel=0.25)
    assert (result.best_optim_distances["l2"] == result.distance).all()


def test_most_answers_decide_what_is_correct(images):
    """A network that errs on two images of five is right on all of them; one that errs on three on none."""
    for share, right in ((0.2, 1.0), (0.8, 0.0)):

        def often(logits, share=share):
            return torch.where(torch.rand(len(logits), 1) < share, logits.flip(1), logits)

        result = run(Linear(often), images, "pgd", eps=1e-4, steps=2)
        assert result.accuracy == pytest.approx(right, abs=0.06)
        assert torch.equal(result.correct, ~result.ori_success)
        # The class in the record agrees with the outcome.
        assert torch.equal(result.classes == images.y, result.correct & ~result.adv_success)


@pytest.mark.parametrize("noise", ["gauss", "numpy"])
def test_a_run_is_repeated_exactly_and_leaves_the_global_generators_alone(noise, images):
    network = Linear(NOISE[noise])
    before = torch.get_rng_state()
    one = run(network, images, "pgd", eps=EPS, steps=5)
    if noise == "numpy":  # asked what it answers, a network draws before anything is known of it
        assert torch.equal(before, torch.get_rng_state())
    torch.rand(7), np.random.standard_normal(3)  # noqa: NPY002
    other = run(Linear(NOISE[noise]), images, "pgd", eps=EPS, steps=5)
    assert torch.equal(one.adv, other.adv)
    assert one.outcome == other.outcome
    assert not torch.equal(one.adv, run(Linear(NOISE[noise]), images, "pgd", eps=EPS, steps=5, seed=3).adv)


def test_a_network_without_random_numbers_pays_one_comparison(images):
    network = Linear()
    result = run(network, images, "pgd", eps=EPS, steps=5)
    assert not {"draws", "network"} & result.search.keys()
    attacked = int((~result.ori_success).sum())
    # Eight images are compared; the others are clean images, queries and examples.
    assert network.asked == 2 * 8 + images.n + result.forwards.sum() + attacked


def test_restarts_go_on_where_one_run_was_lucky_alone(images):
    once, often = (check(gauss, images, restarts=count) for count in (1, 3))
    assert often.adv_success.sum() >= once.adv_success.sum()
    assert (often.forwards >= once.forwards).all()


def test_the_evaluation_says_how_outcomes_were_decided(images):
    done = secateur.attack(Linear(gauss), images, "pgd", eps=EPS, steps=10)
    assert SAID[:40] in str(done)
    assert done.to_json()["search"]["draws"] == DRAWS
    assert "F03" in {each.id for each in done.grade.checks if not each.passed}
    again = secateur.attack(Linear(gauss), images, "pgd", eps=EPS, steps=10)
    assert again.to_json(timings=False) == done.to_json(timings=False)
