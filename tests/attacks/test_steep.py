"""Steep surveys classes and, in L1, hears PDPGD first: the nearest counts, and no query is one too many."""

import math
import sys

import numpy as np
import pytest
import torch

from attacks.oracles import linear_case
from secateur.attacks import every_class, fmn, run
from secateur.attacks.core.norms import distance
from secateur.attacks.steep.attack import converges_from, steep
from secateur.registry import ATTACKS
from secateur.run_options import RunOptions

INF = math.inf
STEEP = sys.modules["secateur.attacks.steep.attack"]


def excess(made, p, **settings):
    """How far beyond the exact minimum over all classes, per image."""
    found = steep(made.model, made.x, made.y, norm=p, steps=200, **settings)
    assert found.mask.all()
    return distance(found.adv - made.x, p).double().numpy() / made.optimum(p)


def check_nearest_class(p):
    made = linear_case(64, 10, 24, seed=0)
    ratio = excess(made, p)
    assert np.median(ratio) <= 1.005
    assert (ratio <= 1.02).mean() >= 0.9


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize("p", [1.0, 2.0, INF])
def test_the_survey_ends_in_the_nearest_of_ten_classes(p):
    check_nearest_class(p)


@pytest.mark.slow
@pytest.mark.kernels
def test_a_shortlist_of_the_farthest_classes_is_seen(monkeypatch):
    shortlist = STEEP.shortlist

    def farthest(paths, count, ground):
        return shortlist(paths, len(paths), ground)[-count:]

    monkeypatch.setattr(STEEP, "shortlist", farthest)
    with pytest.raises(AssertionError):
        check_nearest_class(2.0)


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize("p", [0.0, 1.0, 2.0, INF])
def test_the_unit_of_the_pixels_does_not_matter(net, images, p):
    found = steep(net, images.x, images.y, norm=p, steps=60)
    coarse = steep(lambda x: net(x / 256), 256 * images.x, images.y, norm=p, steps=60, bounds=(0.0, 256.0))
    assert found.mask.any()
    assert torch.equal(coarse.adv / 256, found.adv)


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize("p", [1.0, 2.0, INF])
@pytest.mark.parametrize("steps", [1, 7, 20, 60])
def test_the_survey_stays_within_its_queries(net, images, p, steps):
    result = run(net, images, "steep", norm=p, steps=steps, n_surveyed=9)
    assert result.forwards.max() <= steps + 1
    assert result.backwards.max() <= steps


def test_a_targeted_attack_surveys_nothing(net, images):
    targets = (images.y + 1) % 3
    one, many = (steep(net, images.x, images.y, steps=30, targets=targets, n_surveyed=c) for c in (1, 9))
    assert torch.equal(one.adv, many.adv)


@pytest.mark.parametrize(
    ("steps", "settings"),
    [
        pytest.param(600, {}, marks=pytest.mark.slow),
        (601, {}),
        (1, {"pdpgd_share": 0.5}),
        (3, {"pdpgd_share": 0.9}),
        (60, {"pdpgd_share": 0.99}),
        (60, {"pdpgd_share": 0.3, "n_surveyed": 9}),
        (60, {"pdpgd_share": 0.3, "norm": 2.0}),
    ],
)
def test_pdpgd_s_share_stays_within_the_queries(net, images, steps, settings):
    result = run(net, images, "steep", steps=steps, **{"norm": 1.0, **settings})
    assert steps - 8 <= result.forwards.max() <= steps + 1
    assert result.backwards.max() <= steps


@pytest.fixture
def far_sighted(monkeypatch):
    """A linear case, and what PDPGD is made to find in it: examples near the exact minimum."""
    made = linear_case(64, 4, 24, seed=0)

    def near(model, x, y, *, norm, steps, targets, bounds, **settings):
        def attack(_, x, y, *, targets):
            return fmn(made.model, x, y, norm=norm, steps=80, targets=targets, bounds=bounds)

        return every_class(attack, model, x, y, classes=4)

    monkeypatch.setattr(STEEP, "pdpgd", near)
    return made


def check_no_farther(made):
    """Few steps would end much farther out on their own."""
    ratio = distance(steep(made.model, made.x, made.y, norm=1.0, steps=20, pdpgd_share=0.3).adv - made.x, 1.0)
    assert (ratio.double().numpy() <= 1.05 * made.optimum(1.0)).mean() >= 0.9


@pytest.mark.slow
@pytest.mark.kernels
def test_what_pdpgd_found_is_never_lost(far_sighted):
    check_no_farther(far_sighted)


@pytest.mark.slow
@pytest.mark.kernels
def test_a_steep_that_forgets_what_pdpgd_found_is_seen(far_sighted, monkeypatch):
    monkeypatch.setattr(STEEP, "minimum", lambda one, other: one)
    monkeypatch.setattr(STEEP, "resume", lambda path, found: path)
    with pytest.raises(AssertionError):
        check_no_farther(far_sighted)


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize("n_surveyed", [1, 5])
def test_the_last_descent_starts_from_what_pdpgd_found(far_sighted, monkeypatch, n_surveyed):
    monkeypatch.setattr(STEEP, "minimum", lambda one, other: one)
    made = far_sighted
    found = STEEP.pdpgd(made.model, made.x, made.y, norm=1.0, steps=0, targets=None, bounds=(0, 1))
    asked = []

    class Watched(torch.nn.Module):
        def forward(self, x):
            asked.append(x.detach().clone())
            return made.model(x)

    result = steep(Watched(), made.x, made.y, norm=1.0, steps=60, pdpgd_share=0.3, n_surveyed=n_surveyed)
    heard = torch.stack([(query - found.adv).flatten(1).abs().amax(1) < 1e-6 for query in asked])
    assert heard.any(0).float().mean() > 0.9
    assert (result.distance <= found.distance * (1 + 1e-5)).float().mean() > 0.9


EARLY = [(1.0, 200), (0.0, 200), (2.0, 200), (INF, 200), pytest.param(1.0, 600, marks=pytest.mark.slow)]


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize("p", [0.0, 1.0, 2.0])
def test_none_of_several_attacks_is_skipped_because_the_first_has_converged(net, images, p):
    result = run(net, images, "strongest", norm=p, steps=60, options=RunOptions(early_stop=True))
    assert result.forwards[~result.ori_success].min() >= 61 * (2 if p != 1 else 1) + 20


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize(("p", "steps"), EARLY)
def test_no_image_stops_before_the_survey_has_ended(net, images, p, steps):
    result = run(net, images, "steep", norm=p, steps=steps, options=RunOptions(early_stop=True))
    asked = result.forwards[~result.ori_success]
    end = converges_from(result.settings)
    assert 0.5 * steps < end < 0.9 * steps
    assert asked.min() > end
    assert asked.mean() < steps, "then it may"


@pytest.mark.slow
@pytest.mark.kernels
def test_an_early_stop_that_knows_no_survey_is_seen(net, images, monkeypatch):
    entry = ATTACKS.entry("steep")
    monkeypatch.setitem(entry.facts, "converges_from", "attacks.test_steep:at_once")
    with pytest.raises(AssertionError):
        test_no_image_stops_before_the_survey_has_ended(net, images, *EARLY[0])


def at_once(settings):
    """For the test above: converged whenever it looks like it."""
    return 0


def test_a_descent_without_a_survey_may_converge_from_its_first_query():
    settings = {"norm": 1.0, "steps": 100, "n_surveyed": 1, "pdpgd_share": None}
    assert converges_from(settings) == 0
    assert converges_from({**settings, "n_surveyed": None}) > 50
