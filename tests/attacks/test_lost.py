"""Networks on which radii estimated from gradients lead nowhere: what one gradient step finds is found."""

import math
import sys

import pytest
import torch

from secateur.attacks import fgsm, fmn, steep
from secateur.attacks.core.batch import Batch
from secateur.attacks.core.norms import distance
from secateur.attacks.core.steepest import reaching
from secateur.attacks.steep import descent

INF = math.inf
PAGE = sys.modules["secateur.attacks.fmn"]
NORMS = (0.0, 1.0, 2.0, INF)


@pytest.fixture(scope="module")
def spiky():
    """A network whose gradient is a thousand times as large at black pixels, images, and labels."""
    g = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(64, 10, generator=g) / 8, torch.randn(10, generator=g) / 8
    x = torch.rand(20, 1, 8, 8, generator=g)
    x[:, :, :4] = 0

    def model(x):
        return (x + 1e-8).flatten(1).sqrt() @ weight + bias

    return model, x, model(x).argmax(1)


def corner(x):
    """Class 1 in the white corner alone, where the gradient points to everywhere."""
    white = (x.flatten(1) > 0.999).all(1)
    return torch.stack([torch.ones(len(x)), 1e-3 * x.flatten(1).sum(1) + white], 1)


@pytest.mark.parametrize("p", NORMS)
def test_fmn_finds_what_one_step_finds(spiky, p):
    model, x, y = spiky
    if p == INF:
        assert fgsm(model, x, y, eps=0.1).mask.float().mean() > 0.9
    found = fmn(model, x, y, norm=p, steps=60)
    assert found.mask.all()
    assert (model(found.adv).argmax(1) != y).all()


@pytest.mark.parametrize("p", [1.0, 2.0, INF])
def test_without_the_rule_for_lost_images_it_finds_few(spiky, p, monkeypatch):
    model, x, y = spiky
    monkeypatch.setattr(PAGE, "hours", lambda steps: (steps + 1, steps + 1))  # no image ever is
    assert fmn(model, x, y, norm=p, steps=60).mask.float().mean() < 0.3


@pytest.mark.parametrize("p", NORMS)
@pytest.mark.parametrize("steps", [10, 40])
def test_the_whole_box_is_reached_by_half_of_the_steps(p, steps):
    asked = []

    def model(x):
        asked.append(x.detach().clone())
        return corner(x)

    x = torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(0)) / 2
    assert fmn(model, x, torch.tensor([0]), norm=p, steps=steps).mask.all()
    assert any(bool((image > 0.999).all()) for image in asked[: math.ceil(steps / 2) + 1])


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize("p", NORMS)
@pytest.mark.parametrize("steps", [20, 60])
def test_steep_finds_what_one_step_finds(spiky, p, steps):
    model, x, y = spiky
    found = steep(model, x, y, norm=p, steps=steps)
    assert found.mask.all()
    assert (model(found.adv).argmax(1) != y).all()


@pytest.mark.parametrize("p", [1.0, 2.0, INF])
def test_steep_without_the_rule_for_lost_images_finds_few(spiky, p, monkeypatch):
    model, x, y = spiky
    monkeypatch.setattr(descent, "hours", lambda steps: (steps + 1, steps + 1))
    assert steep(model, x, y, norm=p, steps=60).mask.float().mean() < 0.3


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize("p", [1.0, 2.0, INF])
@pytest.mark.parametrize("n_surveyed", [1, 5])
def test_steep_reaches_the_whole_box_by_half_of_its_steps(p, n_surveyed):
    asked = []

    def model(x):
        asked.append(x.detach().clone())
        two = corner(x)
        return torch.cat([two[:, :1], two[:, 1:] - 0.5 * torch.arange(6), two[:, 1:]], 1)

    x = torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(0)) / 2
    assert steep(model, x, torch.tensor([0]), norm=p, steps=80, n_surveyed=n_surveyed).mask.all()
    assert any(bool((image > 0.999).all()) for image in asked[:41])


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize("p", NORMS)
def test_steep_attacks_an_image_with_an_early_success_as_ever(spiky, p, monkeypatch):
    weight = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
    x = spiky[1][:8]

    def model(x):
        return x.flatten(1) @ weight

    found = steep(model, x, model(x).argmax(1), norm=p, steps=60)
    monkeypatch.setattr(descent, "hours", lambda steps: (steps + 1, steps + 1))
    assert torch.equal(found.adv, steep(model, x, model(x).argmax(1), norm=p, steps=60).adv)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("p", NORMS)
def test_a_step_reaches_its_length_however_small_most_of_the_gradient_is(p, dtype):
    x = torch.full((1, 6), 0.5, dtype=dtype)
    x[0, 0] = 0
    # The first pixel has all of the gradient and no room, the last one no gradient.
    gradient = torch.tensor([[1.0, 1e-3, -1e-8, 1e-20, -1e-30, 0.0]], dtype=dtype)
    batch = Batch(x, torch.tensor([0]), None, (0.0, 1.0))
    for share in (0.1, 0.5, 1.0):
        size = torch.tensor([share * float(distance(torch.tensor([[0.5] * 4]), p))]).to(dtype)
        size = size.floor() if p == 0 else size
        delta = reaching(gradient, batch, size, p=p)
        assert (delta * gradient <= 0).all()
        assert delta[0, [0, 5]].eq(0).all()
        torch.testing.assert_close(distance(delta, p), size)
