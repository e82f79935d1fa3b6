"""The published MNIST network: our distances against those that adversarial-library 0.2.8 prints for it."""

import math

import pytest

from secateur.attacks import run
from secateur.data import load
from secateur.models import build, load_weights
from secateur.stats import median

# Median distances over the 199 initially correct of the first 200 test images, after 1000 steps.
PUBLISHED = {
    ("ddn", 2.0): 2.6426,
    ("fmn", math.inf): 0.24488,
    ("fmn", 1.0): 15.777,
    ("fmn", 2.0): 2.6506,
    ("fmn", 0.0): 28,
}


# Half of the steps must be enough for L∞, a fifth or fewer for the other norms.
STEPS = dict.fromkeys(PUBLISHED, 200) | {("fmn", math.inf): 500, ("fmn", 0.0): 150}


@pytest.mark.slow
@pytest.mark.reference
@pytest.mark.parametrize(("name", "norm"), PUBLISHED)
def test_medians_on_the_published_network_are_at_most_one_percent_above(shared, name, norm):
    images = load(f"idx:{shared / 'mnist'}").take(range(200))
    model = build("smallcnn", num_classes=10, in_channels=1)
    load_weights(model, shared / "mnist" / "smallcnn-ddn-trained.pth")
    result = run(model, images, name, norm=norm, steps=STEPS[name, norm])
    assert int(result.correct.sum()) == 199
    assert result.adv_success.all()
    assert not result.unverified.any()
    assert median(result.distance[result.correct]) <= 1.01 * PUBLISHED[name, norm]
