import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from secateur.models import build, initialise, logits, weights_hash
from secateur.recipes import Adversary
from secateur.train import adversary as room
from secateur.train import perturb
from train.cases import seeded

LINF = Adversary(epsilon=0.1, step_size=0.05, steps=5)
L2 = Adversary(epsilon=0.5, step_size=0.2, steps=5, norm=2)


def case():
    model = build("resnet-tiny", widths=(4, 6))
    initialise(model, seeded())
    x = torch.rand(20, 1, 8, 8, generator=seeded())
    return model, x, logits(model, x).argmax(1)


@pytest.mark.parametrize("adversary", [LINF, L2, replace(LINF, random_start=False)])
def test_adversarial_images_stay_in_the_ball_and_in_the_box_and_raise_the_loss(adversary):
    model, x, y = case()
    adv = perturb(model, x, y, adversary=adversary, generator=seeded())
    delta = (adv - x).flatten(1)
    assert delta.norm(p=adversary.norm, dim=1).max() <= adversary.epsilon * (1 + 1e-5)
    assert adv.min() >= 0
    assert adv.max() <= 1
    clean, attacked = (nn.functional.cross_entropy(logits(model, images), y) for images in (x, adv))
    assert attacked > clean
    assert not adv.requires_grad


def test_a_step_without_projection_would_be_noticed(monkeypatch):
    monkeypatch.setattr(room, "_project", lambda delta, adversary: delta)
    with pytest.raises(AssertionError):
        test_adversarial_images_stay_in_the_ball_and_in_the_box_and_raise_the_loss(LINF)


@pytest.mark.parametrize("adversary", [LINF, L2])
def test_on_a_linear_model_the_optimum_of_the_ball_is_found(adversary):
    weight = torch.randn(2, 16, generator=seeded())
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2, bias=False))
    with torch.no_grad():
        model[1].weight.copy_(weight)
    x, y = torch.full((3, 1, 4, 4), 0.5), torch.tensor([0, 1, 0])
    adv = perturb(model, x, y, adversary=replace(adversary, steps=20), generator=seeded())
    rise = (weight[1 - y] - weight[y]) * (adv - x).flatten(1)
    dual = (weight[1] - weight[0]).norm(p=1 if adversary.norm == math.inf else 2)
    assert torch.allclose(rise.sum(1), (adversary.epsilon * dual).expand(3), rtol=1e-3)


def test_the_model_is_left_as_it_was():
    model, x, y = case()
    model.train()
    before = weights_hash(model)
    perturb(model, x, y, adversary=LINF, generator=seeded())
    assert weights_hash(model) == before
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("adversary", [LINF, L2])
def test_random_starts_fill_the_ball(adversary):
    x = torch.zeros(500, 1, 2, 2)
    points = room.starting_points(x, adversary, seeded()).flatten(1)
    norms = points.norm(p=adversary.norm, dim=1)
    assert norms.max() <= adversary.epsilon * (1 + 1e-6)
    assert norms.max() > 0.98 * adversary.epsilon
    # In d dimensions, the share of the ball within a fraction r of its radius is r**d.
    assert (norms < 0.8 * adversary.epsilon).float().mean().item() == pytest.approx(0.8**4, abs=0.06)


def test_the_same_generator_gives_the_same_images():
    model, x, y = case()
    first, again, other = (perturb(model, x, y, adversary=LINF, generator=seeded(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
