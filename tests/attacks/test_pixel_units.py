"""Images in other bounds: lengths that are not given scale, results on [0, 1] do not change."""

import math

import pytest
import torch
from torch import nn

from secateur.attacks import run
from secateur.attacks.ddn import ddn
from secateur.data import Dataset
from secateur.errors import UserError
from secateur.registry import ATTACKS

INF = math.inf
CALLS = [
    ("ddn", {"steps": 30, "levels": None}),
    ("fmn", {"norm": 0.0, "steps": 30}),
    ("fmn", {"norm": 1.0, "steps": 30}),
    ("fmn", {"norm": 2.0, "steps": 30}),
    ("fmn", {"norm": INF, "steps": 30}),
    ("pgd", {"steps": 10}),
    ("pgd", {"norm": 2.0, "steps": 10}),
    ("apgd", {"steps": 10}),
    ("fgsm", {}),
    ("fgsm", {"norm": 1.0}),
    ("noise", {"steps": 10}),
    ("square", {"steps": 10}),
    ("strongest", {"norm": 2.0, "steps": 12}),
]
SETTINGS = {
    "ddn": {"init_eps": 1.0, "alpha": 1.0, "alpha_final": 0.01},
    "fmn": {"alpha": 1.0, "alpha_final": 0.01},
    **{name: {"eps": 8 / 255} for name in ("pgd", "apgd", "fgsm", "noise", "square")},
}


class Moved(nn.Module):
    """A network for images in other bounds, with the same answers."""

    def __init__(self, net, low, high):
        super().__init__()
        self.net, self.low, self.width = net, low, high - low

    def forward(self, x):
        return self.net((x - self.low) / self.width)


@pytest.fixture
def linear():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 4)).eval().double()


@pytest.fixture
def unit(linear):
    x = torch.rand(24, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return Dataset("d", x, linear(x.double()).argmax(1), tuple("abcd"), None)


def moved(data, low, high):
    return Dataset("d", data.x * (high - low) + low, data.y, data.classes, None, (low, high))


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize(("name", "settings"), CALLS)
@pytest.mark.parametrize(("low", "high"), [(0.0, 256.0), (0.0, 255.0), (-1.0, 1.0)])
def test_results_scale_with_the_bounds(linear, unit, name, settings, low, high):
    here = run(linear, unit, name, **settings)
    there = run(Moved(linear, low, high), moved(unit, low, high), name, **settings)
    assert there.outcome == here.outcome
    width = 1 if here.norm == 0 else high - low
    # A power of two is exact; otherwise pixels are float32, 6e-8 of the largest one, of distances near 0.03.
    exact = (low, high) == (0.0, 256.0)
    torch.testing.assert_close(
        there.distance / width, here.distance, rtol=1e-9 if exact else 1e-4, atol=0 if exact else 1e-5
    )


@pytest.mark.parametrize(("name", "defaults"), SETTINGS.items())
def test_on_unit_images_a_default_is_the_number_in_the_signature_to_the_bit(linear, unit, name, defaults):
    steps = {} if name == "fgsm" else {"steps": 5}
    left_out, given = run(linear, unit, name, **steps), run(linear, unit, name, **steps, **defaults)
    assert torch.equal(left_out.adv, given.adv)
    assert left_out.settings == given.settings
    assert {key: left_out.settings[key] for key in defaults} == defaults


def test_what_is_given_is_taken_in_the_units_of_the_images(linear, unit):
    wide = moved(unit, 0.0, 255.0)
    assert run(Moved(linear, 0.0, 255.0), wide, "pgd", steps=2).settings["eps"] == pytest.approx(8)
    assert run(Moved(linear, 0.0, 255.0), wide, "pgd", steps=2, eps=4).settings["eps"] == 4
    assert run(Moved(linear, 0.0, 255.0), wide, "ddn", steps=2).settings["init_eps"] == 255


def test_called_directly_an_attack_scales_as_well(linear, unit):
    x = unit.x.double()
    here = ddn(linear, x, unit.y, steps=30)
    there = ddn(Moved(linear, 0.0, 256.0), 256 * x, unit.y, steps=30, bounds=(0.0, 256.0))
    torch.testing.assert_close(there.distance, 256 * here.distance, rtol=1e-12, atol=0)


def test_bounds_that_enclose_nothing_are_still_refused_in_words(linear, unit):
    with pytest.raises(UserError, match="enclose nothing"):
        ddn(linear, unit.x.double(), unit.y, steps=2, bounds=(1.0, 1.0))


def test_every_attack_with_a_size_scales_it():
    sized = [name for name in ATTACKS.names() if ATTACKS.entry(name).facts["kind"] == "fixed-eps"]
    assert all("eps" in ATTACKS.get(name).in_pixels for name in sized)
