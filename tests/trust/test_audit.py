"""The costly checks: what they see that the cheap ones miss, and that an honest result passes them all."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from secateur import trust
from secateur.attacks import Found, fmn, run
from secateur.attacks.core.losses import logit_difference
from secateur.attacks.core.norms import distance
from secateur.data import Dataset
from secateur.evaluate import attack
from secateur.registry import ATTACKS
from secateur.trust.audit import AUDIT, Auditor
from secateur.trust.audit_context import AuditContext
from secateur.trust.loss_slices import slices
from trust.test_grading import Net, Quantised, failing, labelled

CHECKS = {check.__name__: check for check in AUDIT.values()}


@pytest.fixture(scope="module")
def net():
    return Net().eval()


@pytest.fixture(scope="module")
def images(net):
    x = torch.rand(120, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        y = net(x).argmax(1)
    return Dataset("planted", x, y, ("a", "b", "c", "d"), None)


@pytest.fixture
def plant(monkeypatch):
    monkeypatch.setattr(ATTACKS, "_entries", dict(ATTACKS._entries))
    monkeypatch.setattr(ATTACKS, "_objects", dict(ATTACKS._objects))

    def planted(function, norms):
        ATTACKS.register(function.__name__, function, norms=norms, kind="minimum-norm")
        return function.__name__

    return planted


def auditor(model, images, result, n=32):
    return Auditor(AuditContext(model.eval(), images, result, torch.arange(n), 0))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("ddn", {}),
        ("fmn", {"norm": math.inf}),
        pytest.param("steep", {"norm": 1.0}, marks=pytest.mark.slow),
    ],
)
def test_an_honest_result_passes_every_audit(net, images, name, settings):
    evaluated = attack(net, images, name, steps=150, audit=True, **settings)
    assert {"F11", "F13", "F16", "F17", "F19", "F20", "F22"} <= {check.id for check in evaluated.grade.checks}
    assert failing(evaluated.grade) <= {"F15"}, evaluated.grade.reasons
    assert evaluated.grade.letter in "AB"


@pytest.mark.slow
def test_an_honest_result_of_fixed_size_passes_too(net, images):
    evaluated = attack(net, images, "apgd", norm=2.0, eps=0.3, steps=60, audit=True)
    assert failing(evaluated.grade) == set(), evaluated.grade.reasons


class Retreat(nn.Module):
    """Far from every image it knows it answers class 0: larger budgets find less of that class."""

    def __init__(self, net, known):
        super().__init__()
        self.net = net
        self.register_buffer("known", known.flatten(1))

    def forward(self, x):
        far = torch.cdist(x.flatten(1), self.known).amin(1, keepdim=True) > 1
        return torch.where(far, torch.tensor([9.0, 0.0, 0.0, 0.0]), self.net(x))


@pytest.mark.slow
def test_a_model_that_larger_budgets_fool_less_is_seen(net, images):
    model = Retreat(net, images.x)
    result = run(model, images, "fmn", norm=math.inf, steps=60)
    check = CHECKS["curve"](auditor(model, images, result, 64))
    assert not check.passed
    assert CHECKS["curve"](auditor(net, images, result, 64)).passed


def test_a_model_that_hides_its_gradients_hides_what_was_planted(net, images):
    model = Quantised(net)
    data = labelled(model, images)
    result = run(model, data, "fmn", norm=2.0, steps=20)
    assert not CHECKS["planted"](auditor(model, data, result)).passed


@pytest.mark.slow
def test_planted_examples_are_found_by_an_honest_attack(net, images):
    for name, settings in (
        ("ddn", {}),
        ("fmn", {"norm": math.inf}),
        ("fmn", {"norm": 0.0}),
        ("pgd", {"eps": 0.1}),
    ):
        result = run(net, images, name, steps=100, **settings)
        check = CHECKS["planted"](auditor(net, images, result))
        assert check.passed, (name, check.sentence)
        assert "planted within its reach" in check.sentence


def test_an_attack_that_gives_up_does_not_find_what_was_planted(net, images, plant):
    def gives_up(model, x, y, *, norm=2.0):
        found = fmn(model, x, y, norm=norm, steps=100)
        lazy = torch.arange(len(x)) % 3 == 0
        adv = torch.where(lazy.view(-1, 1, 1, 1), x, found.adv)
        missed = found.distance.masked_fill(lazy, math.inf)
        return Found(adv, found.mask & ~lazy, found.already_wrong, missed)

    result = run(net, images, plant(gives_up, (2.0,)))
    check = CHECKS["planted"](auditor(net, images, result))
    assert not check.passed
    assert check.severity == "fail"


def test_a_network_without_a_linear_last_layer_is_not_tested_and_says_so(images):
    class Powers(Net):
        def forward(self, x):
            return super().forward(x) ** 3

    model = Powers().eval()
    data = labelled(model, images)
    check = CHECKS["planted"](auditor(model, data, run(model, data, "ddn", steps=5)))
    assert check.passed
    assert "not tested" in check.sentence


def too_far(norm, factor):
    def stretched(model, x, y, *, steps=100):
        found = fmn(model, x, y, norm=norm, steps=steps)
        adv = (x + factor * (found.adv - x)).clamp(0, 1)
        return Found(adv, found.mask, found.already_wrong, distance(adv - x, norm))

    return stretched


@pytest.mark.slow
def test_rivals_that_find_nearer_examples_are_seen(net, images, plant):
    result = run(net, images, plant(too_far(2.0, 1.3), (2.0,)))
    check = CHECKS["rivals"](auditor(net, images, result))
    assert not check.passed
    assert "ddn, fmn and steep find nearer examples of" in check.sentence


def test_rivals_that_fool_more_at_the_same_size_are_seen(net, images):
    result = run(net, images, "noise", norm=2.0, eps=0.5, steps=5)
    assert not CHECKS["rivals"](auditor(net, images, result)).passed


@pytest.mark.slow
def test_a_search_without_gradients_that_beats_the_attack_is_seen(net, images, plant):
    honest = run(net, images, "fmn", norm=math.inf, steps=100)
    assert CHECKS["black_box"](auditor(net, images, honest)).passed
    result = run(net, images, plant(too_far(math.inf, 12.0), (math.inf,)))
    assert not CHECKS["black_box"](auditor(net, images, result)).passed


def test_results_that_hang_on_the_seed_are_seen(net, images, plant):
    def lucky(model, x, y, *, steps=60, generator=None):
        found = fmn(model, x, y, norm=2.0, steps=steps)
        factor = 1 + 3 * torch.rand(1, generator=generator)
        adv = (x + factor * (found.adv - x)).clamp(0, 1)
        return Found(adv, found.mask, found.already_wrong, distance(adv - x, 2.0))

    result = run(net, images, plant(lucky, (2.0,)))
    assert not CHECKS["seeds"](auditor(net, images, result)).passed


def overshooting(model, x, y, *, norm=2.0, steps=100, targets=None, bounds=(0.0, 1.0)):
    """Half as far again as it found: still examples, but not the nearest on their way."""
    found = fmn(model, x, y, norm=norm, steps=steps, targets=targets, bounds=bounds)
    adv = (x + 1.5 * (found.adv - x)).clamp(*bounds)
    return Found(adv, found.mask, found.already_wrong, distance(adv - x, norm))


def test_a_nearer_example_in_the_plane_of_the_example_is_seen(net, images, plant):
    honest = run(net, images, "fmn", norm=2.0, steps=100)
    assert CHECKS["landscape"](auditor(net, images, honest)).passed
    planted = run(net, images, plant(overshooting, (2.0,)), norm=2.0, steps=100)
    check = CHECKS["landscape"](auditor(net, images, planted))
    assert (check.id, check.passed, check.severity) == ("F19", False, "fail")


@pytest.mark.slow
@pytest.mark.parametrize("norm", [0.0, 1.0, 2.0, math.inf])
def test_slices_go_through_the_image_and_its_example(net, images, norm):
    result = run(net, images, "fmn", norm=norm, steps=60)
    context = auditor(net, images, result).context
    seen = slices(context, points=5)
    assert len(seen.rows) == 16
    clean = logit_difference(context.batch, context.logits)[seen.rows]
    torch.testing.assert_close(seen.margin[:, 2, 2], clean)
    assert (seen.reached[:, 2, 2] == 0).all()
    # One step along the first side is the stored example: it fools, at the distance of the record.
    assert (seen.margin[:, 4, 2] < 0).all()
    torch.testing.assert_close(seen.reached[:, 4, 2], context.distance[seen.rows], rtol=1e-4, atol=1e-5)
    assert (seen.margin[:, 2, 4] < clean).double().mean() > 0.8  # v lowers the logit difference


def test_slices_have_a_second_side_where_the_gradient_vanishes(net, images):
    model = Quantised(net)
    data = labelled(model, images)
    context = auditor(model, data, run(model, data, "noise", norm=2.0, eps=3.0, steps=50)).context
    assert (context.gradient == 0).all()
    assert (slices(context, points=3).reached[:, 1, 2] > 0).all()


@pytest.mark.slow
def test_few_images_are_a_warning_of_the_audit_alone(net, images):
    few = images.take(range(40))
    result = run(net, few, "ddn", steps=150)
    assert "F22" not in failing(trust.grade(net, few, result))
    assert "F22" in failing(trust.grade(net, few, result, audit=True))


def test_a_curve_that_does_not_start_at_the_clean_accuracy_is_seen(net, images):
    data = replace(images, y=torch.where(torch.arange(120) % 6 == 0, (images.y + 1) % 4, images.y))
    result = run(net, data, "ddn", steps=100)
    assert "F11" not in failing(trust.grade(net, data, result))
    for broken in (
        {key: column.clamp_min(0.1) for key, column in result.distances.items()},
        {key: torch.where(column < 0.4, 0.0, column) for key, column in result.distances.items()},
    ):
        assert "F11" in failing(trust.grade(net, data, replace(result, distances=broken)))


def test_what_rounding_leaves_is_reported(net, images):
    grade = trust.grade(net, images, run(net, images, "ddn", steps=100))
    (check,) = [check for check in grade.checks if check.id == "F20"]
    assert check.passed
    assert "256 grey levels" in check.sentence


class Meter(nn.Module):
    """Counts images forwards and backwards, however they are batched."""

    def __init__(self, net):
        super().__init__()
        self.net, self.passes = net, 0

    def forward(self, x):
        self.passes += len(x)
        logits = self.net(x)
        if logits.requires_grad:
            logits.register_hook(self.back)
        return logits

    def back(self, gradient):
        self.passes += len(gradient)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("ddn", {"steps": 100}),
        ("ddn", {"steps": 1000}),
        ("fmn", {"norm": 0.0, "steps": 60}),
        ("pgd", {"steps": 40}),
    ],
)
def test_the_cheap_checks_cost_at_most_15_percent_of_the_attack_s_passes(net, images, name, settings):
    settings = settings if name != "pgd" else {**settings, "eps": 0.1}
    few = images.take(range(60)) if settings["steps"] == 1000 else images
    result = run(net, few, name, **settings)
    meter = Meter(net)
    graded = trust.grade(meter, few, result)
    spent = (result.forwards.sum() + result.backwards.sum()).item()
    assert 0 < meter.passes <= 0.15 * spent
    assert graded.cost == pytest.approx(meter.passes / spent)


def test_the_checks_of_a_short_attack_are_quick_and_say_their_cost(net, images):
    result = run(net, images, "ddn", steps=2)
    meter = Meter(net)
    graded = trust.grade(meter, images, result)
    assert meter.passes <= 5 * 64 + 24 * 8
    assert graded.cost == pytest.approx(
        meter.passes / (result.forwards.sum() + result.backwards.sum()).item()
    )
