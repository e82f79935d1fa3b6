"""Steep surveys classes: it ends in the one that is nearest, and asks no query more than it was given."""

import math
import sys

import numpy as np
import pytest
import torch

from attacks.oracles import linear_case
from secateur.attacks import run
from secateur.attacks.norms import distance
from secateur.attacks.steep import steep

INF = math.inf
STEEP = sys.modules["secateur.attacks.steep"]


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


@pytest.mark.parametrize("p", [2.0, INF])
def test_the_survey_ends_in_the_nearest_of_ten_classes(p):
    check_nearest_class(p)


def test_a_shortlist_of_the_farthest_classes_is_seen(monkeypatch):
    shortlist = STEEP.shortlist

    def farthest(paths, count, ground):
        return shortlist(paths, len(paths), ground)[-count:]

    monkeypatch.setattr(STEEP, "shortlist", farthest)
    with pytest.raises(AssertionError):
        check_nearest_class(2.0)


@pytest.mark.parametrize("p", [1.0, 2.0, INF])
@pytest.mark.parametrize("steps", [1, 7, 20, 60])
def test_the_survey_stays_within_its_queries(net, images, p, steps):
    result = run(net, images, "steep", norm=p, steps=steps, classes=9)
    assert result.forwards.max() <= steps + 1
    assert result.backwards.max() <= steps


def test_a_targeted_attack_surveys_nothing(net, images):
    targets = (images.y + 1) % 3
    one, many = (steep(net, images.x, images.y, steps=30, targets=targets, classes=c) for c in (1, 9))
    assert torch.equal(one.adv, many.adv)
