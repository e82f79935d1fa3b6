"""F15 of attacks of fixed size: what one step of the same size fools must not be called robust."""

import pytest

from secateur import trust
from secateur.attacks import run
from secateur.attacks.runner.result import Outcome
from trust.test_effect_sizes import images, net, told  # noqa: F401


@pytest.fixture(scope="module")
def reach(net, images):  # noqa: F811
    """The size at which one step fools half of the images."""
    result = run(net, images, "fmn", norm=float("inf"), steps=30)
    return 1.2 * float(result.distance.median())


@pytest.mark.parametrize("sizes", [1, 2])
def test_an_attack_that_one_step_beats_is_graded_c(net, images, reach, sizes):  # noqa: F811
    eps = reach if sizes == 1 else [reach / 100, reach]
    result = run(net, images, "noise", eps=eps, steps=1)
    assert int(result.where(Outcome.NOT_FOUND).sum()) > 60
    graded = trust.grade(net, images, result)
    check = told(graded, "F15")
    assert (graded.letter, check.passed) == ("C", False)
    assert "a single gradient step of the same size fools" in check.sentence
    assert "of 64 images, significantly more than a twentieth" in check.sentence


@pytest.mark.parametrize("name", ["pgd", "apgd", "fgsm"])
@pytest.mark.parametrize("sizes", [1, 3])
def test_attacks_with_gradients_are_not_beaten_by_one_step(net, images, reach, name, sizes):  # noqa: F811
    eps = reach if sizes == 1 else [0.0, reach / 2, reach]
    result = run(net, images, name, eps=eps, **({} if name == "fgsm" else {"steps": 10}))
    assert told(trust.grade(net, images, result), "F15").passed


def test_of_a_targeted_attack_the_step_aims_at_the_target(net, images, reach):  # noqa: F811
    targets = (images.y + 1) % 4
    result = run(net, images, "pgd", eps=reach, steps=20, targets=targets)
    assert told(trust.grade(net, images, result), "F15").passed


def test_few_images_are_not_judged(net, images, reach):  # noqa: F811
    few = images.take(range(31))
    check = told(trust.grade(net, few, run(net, few, "pgd", eps=reach, steps=10)), "F15")
    assert (check.passed, check.severity) == (False, "warn")
