"""Random networks: every query is the mean of several forwards, and all of them count."""

import pytest
import torch
from torch import nn

import secateur
from secateur.attacks import run
from secateur.attacks.runner import random_networks
from secateur.data import Dataset
from secateur.errors import UserError


class Noisy(nn.Module):
    """A linear network on images with noise; it counts its forwards of single images."""

    def __init__(self, sigma):
        super().__init__()
        self.sigma, self.asked = sigma, 0
        self.layer = nn.Linear(16, 2)
        with torch.no_grad():
            self.layer.weight.copy_(torch.randn(2, 16, generator=torch.Generator().manual_seed(0)))
            self.layer.bias.zero_()

    def forward(self, x):
        self.asked += len(x)
        x = x.flatten(1)
        return self.layer(x + self.sigma * torch.randn_like(x))


@pytest.fixture
def images():
    x = torch.rand(12, 1, 4, 4, generator=torch.Generator().manual_seed(1)) * 0.4 + 0.3
    return Dataset("noise", x, Noisy(0.0)(x).argmax(1), ("a", "b"), None)


@pytest.mark.slow
@pytest.mark.kernels
def test_the_mean_of_many_forwards_has_the_distances_without_noise(images, monkeypatch):
    """So has a single forward, as most of many answers verify it; one answer would take lucky noise."""

    def median(sigma, samples):
        result = run(Noisy(sigma), images, "ddn", steps=40, eot_samples=samples)
        return result.distance[~result.ori_success].median().item()

    still = median(0.0, 1)
    one, many = median(0.2, 1), median(0.2, 64)
    assert abs(many - still) < 0.25 * still
    assert abs(one - still) < 0.25 * still
    monkeypatch.setattr(random_networks, "draws_numbers", lambda model, images: False)
    lucky = []
    for seed in range(4):
        torch.manual_seed(seed)
        lucky.append(median(0.2, 1))
    # Most of them infinite: what fooled once does not fool when it is verified.
    assert sum(abs(each - still) > 0.25 * still for each in lucky) >= 2


@pytest.mark.slow
@pytest.mark.kernels
def test_all_forwards_of_a_query_are_counted(images):
    one = run(Noisy(0.0), images, "ddn", steps=10)
    five = run(Noisy(0.0), images, "ddn", steps=10, eot_samples=5)
    assert torch.equal(five.forwards, 5 * one.forwards)
    assert torch.equal(five.backwards, 5 * one.backwards)
    torch.testing.assert_close(five.distance, one.distance, rtol=1e-4, atol=1e-5)
    assert five.to_json()["search"]["eot_samples"] == 5
    assert "eot_samples" not in one.to_json()["search"]


def test_the_passes_of_the_record_are_those_of_the_network(images):
    network = Noisy(0.1)
    result = run(network, images, "pgd", eps=0.01, steps=7, eot_samples=3, batch_size=12)
    # Besides the attack: the clean prediction, the comparison of a faster copy, and the verification.
    extra = network.asked - int(result.forwards.sum())
    assert 0 <= extra <= 3 * (12 + 2 * 8 + 12) + 4


def test_a_run_is_repeated_exactly_and_leaves_the_global_generator_alone(images):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    one = run(Noisy(0.3), images, "fmn", norm=2.0, steps=10, eot_samples=4)
    assert not torch.equal(before, torch.zeros_like(before))
    torch.rand(7)
    other = run(Noisy(0.3), images, "fmn", norm=2.0, steps=10, eot_samples=4)
    assert torch.equal(one.adv, other.adv)


@pytest.mark.slow
@pytest.mark.kernels
def test_the_checks_ask_for_the_mean_too(images):
    seen = secateur.attack(Noisy(0.05), images, "ddn", steps=30, eot_samples=64)
    assert seen.result.search["eot_samples"] == 64
    assert seen.grade.letter in "ABC"


@pytest.mark.parametrize("samples", [0, -1, 1.5, True, "3"])
def test_a_number_of_forwards_that_is_none_is_refused(images, samples):
    with pytest.raises(UserError, match="eot_samples is"):
        run(Noisy(0.1), images, "ddn", steps=3, eot_samples=samples)
