"""Grades carry an effect size: tests with stated error rates, enough images, medians that move."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from secateur import trust
from secateur.attacks import Found, Outcome, fmn, run
from secateur.attacks.core.norms import distance
from secateur.data import Dataset
from secateur.evaluate import attack
from secateur.registry import ATTACKS
from secateur.trust.baselines import one_step
from secateur.trust.joint import joint_lines
from trust.test_grading import Net, failing, labelled


@pytest.fixture(scope="module")
def net():
    return Net().eval()


@pytest.fixture(scope="module")
def images(net):
    x = torch.rand(120, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    y = torch.zeros(120, dtype=torch.int64)
    return labelled(net, Dataset("planted", x, y, ("a", "b", "c", "d"), None))


@pytest.fixture
def plant(monkeypatch):
    monkeypatch.setattr(ATTACKS, "_entries", dict(ATTACKS._entries))
    monkeypatch.setattr(ATTACKS, "_objects", dict(ATTACKS._objects))

    def planted(function, **facts):
        ATTACKS.register(function.__name__, function, norms=(2.0,), kind="minimum-norm", **facts)
        return function.__name__

    return planted


def told(grade, id):
    (check,) = [check for check in grade.checks if check.id == id]
    return check


def rate(share, n):
    """How often F15 fails, of 4000 attacks of which a single step beats this share of all images."""
    beaten = np.random.default_rng(0).binomial(n, share, 4000)
    return np.mean([not one_step(int(k), n, "of 95 % of the distance").passed for k in beaten])


@pytest.mark.parametrize("n", [32, 40, 50, 64])
def test_a_sound_attack_fails_the_single_step_rarely(n):
    assert rate(0.05, n) <= 0.05
    assert rate(0.02, n) <= 0.01


def test_a_bad_attack_fails_the_single_step_nearly_always():
    assert rate(0.25, 64) >= 0.9
    assert rate(0.25, 32) >= 0.9


@pytest.mark.parametrize(("k", "verdict"), [(6, "not significantly"), (7, "significantly")])
def test_the_single_step_says_figure_number_and_level(k, verdict):
    check = one_step(k, 64, "of 95 % of the distance")
    assert check.passed is (k == 6)
    assert check.severity == "fail"
    assert check.sentence == (
        f"a single gradient step of 95 % of the distance fools {k} of 64 images, "
        f"{verdict} more than a twentieth (binomial test at the 5% level)"
    )


def test_few_images_do_not_suffice_for_the_single_step():
    check = one_step(0, 31, "of the same size")
    assert (check.passed, check.severity) == (False, "warn")
    assert check.sentence.endswith("fools 0 of 31 images: with fewer than 32 the check cannot judge")


def test_few_images_suffice_to_condemn():
    check = one_step(31, 31, "of the same size")
    assert (check.passed, check.severity) == (False, "fail")


@pytest.mark.slow
@pytest.mark.parametrize(("steps", "n", "seen"), [(2, 40, 40), (5, 64, 64), (60, 40, 40), (200, 120, 64)])
def test_the_single_step_sees_enough_images_however_short_the_attack_was(net, images, steps, n, seen):
    few = images.take(range(n))
    graded = trust.grade(net, few, run(net, few, "ddn", steps=steps))
    assert f"of {seen} images" in told(graded, "F15").sentence
    assert f"of {seen} images" in told(graded, "F05").sentence


def test_gradients_that_vanish_on_one_image_warn_and_on_many_condemn(net, images):
    class Dead(torch.nn.Module):
        def __init__(self, count):
            super().__init__()
            self.net, self.known = net, images.x[:count].flatten(1)

        def forward(self, x):
            same = x.detach().flatten(1).unsqueeze(1) == self.known
            dead = same.all(2).any(1).view(-1, 1, 1, 1)
            return self.net(torch.where(dead, x.detach(), x))

    few = images.take(range(40))
    result = run(net, few, "ddn", steps=200)
    for count, letter in ((1, "B"), (20, "C")):
        graded = trust.grade(Dead(count).eval(), few, result)
        assert graded.letter == letter
        assert told(graded, "F05").sentence == (
            f"the gradient vanishes or is not finite on {count} of 40 images"
        )


@pytest.mark.slow
@pytest.mark.parametrize(("n", "letter"), [(1, "C"), (29, "C"), (31, "B"), (40, "A")])
def test_fewer_than_thirty_attacked_images_are_too_few(net, images, n, letter):
    some = images.take(range(n + 5))
    data = replace(some, y=torch.where(torch.arange(n + 5) < n, some.y, (some.y + 1) % 4))
    graded = trust.grade(net, data, run(net, data, "ddn", steps=200))
    assert graded.letter == letter
    assert ("F22" in failing(graded)) is (n < 30)
    if n < 30:
        assert told(graded, "F22").sentence == f"too few images: {n} were attacked, at least 30 are needed"


def stretched(factor):
    def too_far(model, x, y, *, steps=100):
        found = fmn(model, x, y, norm=2.0, steps=steps)
        adv = (x + factor * (found.adv - x)).clamp(0, 1)
        return Found(adv, found.mask, found.already_wrong, distance(adv - x, 2.0))

    return too_far


@pytest.mark.slow
@pytest.mark.parametrize(("factor", "passed"), [(1.05, True), (1.2, False)])
def test_a_joint_median_that_moves_by_a_tenth_condemns(net, images, plant, factor, passed):
    evaluated = attack(net, images, plant(stretched(factor)), steps=100, audit=True)
    check = told(evaluated.grade, "F13")
    assert check.passed is passed
    assert passed or (check.severity, evaluated.grade.letter) == ("fail", "C")


@pytest.mark.slow
def test_the_joint_minimum_is_that_of_the_attack_and_its_rivals(net, images, plant):
    few = images.take(range(50))
    evaluated = attack(net, few, plant(stretched(1.2)), steps=60, audit=True)
    record = evaluated.to_json()["joint"]
    assert record["attacks"] == ["too_far", "ddn", "fmn", "steep"]
    assert record["index"] == list(range(50))
    runs = [evaluated.result] + [
        run(net, few, name, steps=60, **({} if name == "ddn" else {"norm": 2.0}))
        for name in ("ddn", "fmn", "steep")
    ]
    least = torch.stack([each.distance for each in runs]).amin(0)
    assert record["distances"] == pytest.approx(least.tolist(), rel=1e-4)
    assert record["median"] == pytest.approx(np.median(least), rel=1e-4)
    assert record["median"] < 0.9 * record["median_of_attack"]
    assert record["eps"] == [0.25, 0.5, 1]
    for eps, joint, own in zip(
        *(record[key] for key in ("eps", "robust_accuracy", "of_attack")), strict=True
    ):
        assert joint == pytest.approx((least > eps).double().mean().item())
        assert own >= joint
    lines = joint_lines(evaluated.summary()["joint"])
    assert lines[0] == "minimum over too_far, ddn, fmn and steep on 50 attacked images:"
    assert re.fullmatch(r"  median 0\.\d+ \(too_far alone 0\.\d+\)", lines[1])
    assert lines[2].startswith("  robust accuracy at ε = 0.25: ")


@pytest.mark.slow
def test_images_that_are_wrong_from_the_start_are_not_robust_in_the_joint_minimum(net, images):
    wrong = torch.where(torch.arange(120) % 2 == 0, images.y, (images.y + 1) % 4)
    record = attack(net, replace(images, y=wrong), "fmn", norm=2.0, steps=20, audit=True).to_json()["joint"]
    assert record["n"] == 60
    assert all(index % 2 == 0 for index in record["index"])
    assert max(record["robust_accuracy"] + record["high"]) <= 0.5


@pytest.mark.slow
def test_the_joint_minimum_of_a_fixed_size_counts_what_was_found(net, images):
    few = images.take(range(40))
    evaluated = attack(net, few, "fgsm", norm=2.0, eps=0.2, audit=True)
    record = evaluated.to_json()["joint"]
    missed = evaluated.result.where(Outcome.NOT_FOUND).double().mean().item()
    assert record["eps"] == [0.2]
    assert record["of_attack"] == [pytest.approx(missed)]
    assert record["robust_accuracy"][0] <= missed
    assert record["median"] is None
    assert record["attacks"] == ["fgsm", "apgd (dlr)", "apgd (ce)"]


@pytest.mark.slow
def test_budgets_of_pictures_are_written_in_their_grey_levels(net, images):
    few = replace(images.take(range(40)), x=(255 * images.x[:40]).round() / 255, levels=256)
    summary = attack(net, few, "fgsm", norm=math.inf, eps=8 / 255, audit=True).summary()["joint"]
    assert summary["written"] == ["8/255"]
    assert joint_lines(summary)[-1].startswith("  robust accuracy at ε = 8/255: ")
    scaled = Dataset("d", 2 * few.x - 1, few.y, few.classes, 256, (-1.0, 1.0))
    shifted = torch.nn.Sequential(torch.nn.Flatten(), Halved(), net)
    summary = attack(shifted, scaled, "fmn", norm=2.0, steps=10, audit=True).summary()["joint"]
    assert summary["eps"] == [0.5, 1, 2]


class Halved(torch.nn.Module):
    def forward(self, x):
        return (x + 1) / 2


@pytest.mark.slow
def test_a_targeted_attack_has_no_robust_accuracy(net, images):
    few = images.take(range(40))
    targets = (few.y + 1) % 4
    record = attack(net, few, "ddn", steps=30, targets=targets, audit=True).to_json()["joint"]
    assert "robust_accuracy" not in record
    assert len(record["target_not_reached"]) == 3


@pytest.mark.slow
def test_a_rival_that_cannot_run_is_named_and_the_others_count(net, images, plant, monkeypatch):
    def broken(model, x, y, *, norm=2.0, steps=1):
        raise RuntimeError("no luck")

    plant(broken, audits=(2.0,))
    few_attacks = {
        name: entry for name, entry in ATTACKS._entries.items() if name in ("fmn", "ddn", "broken")
    }
    monkeypatch.setattr(ATTACKS, "_entries", few_attacks)
    few = images.take(range(40))
    evaluated = attack(net, few, "fmn", norm=2.0, steps=100, audit=True)
    record = evaluated.summary()["joint"]
    assert record["attacks"] == ["fmn", "ddn"]
    assert record["could_not_run"] == {"broken": "RuntimeError: no luck"}
    assert "broken could not run: RuntimeError: no luck" in told(evaluated.grade, "F13").sentence
    assert evaluated.grade.letter == "B"


def test_without_an_audit_there_is_no_joint_minimum(net, images):
    evaluated = attack(net, images.take(range(40)), "ddn", steps=10)
    assert evaluated.to_json()["joint"] is None
    assert joint_lines(evaluated.summary()["joint"]) == []
    assert 0 < evaluated.to_json()["checks_cost"] < math.inf
