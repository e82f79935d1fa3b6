"""Planted failures: each detector must see the case it is there for, and an honest result must pass."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from secateur import trust
from secateur.attacks import Found, Outcome, ddn, fmn, run
from secateur.attacks.core.norms import distance
from secateur.data import Dataset
from secateur.registry import ATTACKS
from secateur.trust.audit_context import AuditContext


class Net(nn.Module):
    """A random two-layer network; smooth, so that finite differences are exact."""

    def __init__(self):
        super().__init__()
        g = torch.Generator().manual_seed(5)
        self.first = nn.Linear(64, 40)
        self.second = nn.Linear(40, 4)
        with torch.no_grad():
            self.first.weight.copy_(torch.randn(40, 64, generator=g) / 4)
            self.first.bias.zero_()
            self.second.weight.copy_(torch.randn(4, 40, generator=g) * 10)
            self.second.bias.zero_()

    def forward(self, x):
        return self.second(torch.tanh(self.first(x.flatten(1) - 0.5)))


@pytest.fixture(scope="module")
def net():
    return Net().eval()


@pytest.fixture(scope="module")
def images(net):
    x = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        y = net(x).argmax(1)
    return Dataset("planted", x, y, ("a", "b", "c", "d"), None)


def failing(grade):
    return {check.id for check in grade.checks if not check.passed}


def labelled(model, images):
    with torch.no_grad():
        return replace(images, y=model(images.x).argmax(1))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "norm"), [("ddn", 2), ("fmn", 2), ("fmn", math.inf), ("steep", 0)])
def test_an_honest_result_gets_an_a(net, images, name, norm):
    result = run(net, images, name, norm=norm, steps=300)
    graded = trust.grade(net, images, result)
    assert graded.reasons == []
    assert graded.letter == "A"
    assert all(check.sentence for check in graded.checks)


@pytest.mark.slow
def test_a_few_images_that_a_single_step_beats_are_told_but_may_be_chance(net, images):
    graded = trust.grade(net, images, run(net, images, "fmn", norm=0, steps=300))
    (check,) = [check for check in graded.checks if check.id == "F15"]
    assert "fools 3 of 40 images, not significantly more than a twentieth" in check.sentence
    assert check.passed


def test_the_model_is_left_as_it_was(images):
    model = Net().train()
    trust.grade(model, images, run(model, images, "ddn", steps=20))
    assert model.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


class Softmax(nn.Module):
    def __init__(self, net, scale=1.0):
        super().__init__()
        self.net, self.scale = net, scale

    def forward(self, x):
        return (self.scale * self.net(x)).softmax(1)


def test_probabilities_instead_of_logits_are_seen(net, images):
    model = Softmax(net)
    assert "F04" in failing(trust.grade(model, images, run(model, images, "ddn", steps=100)))


def test_a_softmax_that_saturates_to_a_zero_gradient_is_unreliable(net, images):
    model = Softmax(net, scale=1e4)
    graded = trust.grade(model, images, run(model, images, "ddn", steps=50))
    assert graded.letter == "C"
    assert {"F04", "F05"} <= failing(graded)


class Loud(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return 1e4 * self.net(x)


def test_saturated_logits_are_warned_of(net, images):
    model = Loud(net)
    graded = trust.grade(model, images, run(model, images, "ddn", steps=300))
    assert "F18" in failing(graded)


class Scaled(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.scale = scale

    def forward(self, logits):
        return self.scale * logits


class Noisy(nn.Module):
    """A randomised defence: its noise does not care about evaluation mode."""

    def __init__(self, net):
        super().__init__()
        self.net = net
        self.generator = torch.Generator().manual_seed(0)

    def forward(self, x):
        return self.net(x + 0.05 * torch.randn(x.shape, generator=self.generator))


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1.0, 1e-6])
def test_a_randomised_defence_is_unreliable(net, images, scale):
    model = nn.Sequential(Noisy(net), Scaled(scale))
    graded = trust.grade(model, images, run(model, images, "ddn", steps=50))
    assert graded.letter == "C"
    assert "F03" in failing(graded)


class Quantised(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net((x * 8).round() / 8 + 0 * x)


def test_quantised_activations_with_zero_gradients_are_unreliable(net, images):
    model = Quantised(net)
    data = labelled(model, images)
    graded = trust.grade(model, data, run(model, data, "fmn", steps=30))
    assert graded.letter == "C"
    assert "F05" in failing(graded)


class Deceitful(nn.Module):
    """Right answers, gradients of another function."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        logits = self.net(x)
        decoy = x.flatten(1)[:, : logits.shape[1]]
        return logits.detach() + decoy - decoy.detach()


def test_gradients_of_another_function_are_seen(net, images):
    model = Deceitful(net)
    graded = trust.grade(model, images, run(model, images, "fmn", steps=30))
    assert graded.letter == "C"
    assert "F06" in failing(graded)


class Sociable(nn.Module):
    """Answers depend on the rest of the batch, as batch-norm's do in training mode."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x - x.mean(0, keepdim=True) + 0.5)


@pytest.mark.parametrize("count", [1, 7, 16, 17, 40])
def test_other_batches_hold_every_image_once_and_in_its_place(net, images, count):
    data, sizes = labelled(net, images), []
    context = AuditContext(net, data, run(net, data, "ddn", steps=5), torch.arange(count), 0)
    counting = net.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    answers = context.query_in_other_batches(context.batch.x)
    counting.remove()
    assert torch.allclose(answers, net(context.batch.x), atol=1e-5)
    assert sizes[: min(count, 16)] == [1] * min(count, 16)
    assert sum(sizes) == count
    assert max(sizes) <= 8


def test_answers_that_depend_on_the_batch_are_seen(net, images):
    model = Sociable(net)
    data = labelled(model, images)
    assert "F07" in failing(trust.grade(model, data, run(model, data, "ddn", steps=30)))


@pytest.fixture
def planted(monkeypatch):
    monkeypatch.setattr(ATTACKS, "_entries", dict(ATTACKS._entries))
    monkeypatch.setattr(ATTACKS, "_objects", dict(ATTACKS._objects))

    def plant(attack, kind="minimum-norm", norms=(2.0,)):
        ATTACKS.register(attack.__name__, attack, norms=norms, kind=kind)
        return attack.__name__

    return plant


def clean_images(model, x, y):
    return Found(
        x, torch.ones_like(y, dtype=torch.bool), torch.zeros_like(y, dtype=torch.bool), x.new_zeros(len(x))
    )


def test_an_attack_that_returns_clean_images_is_unreliable(net, images, planted):
    graded = trust.grade(net, images, run(net, images, planted(clean_images)))
    assert graded.letter == "C"
    assert {"F01", "F09"} <= failing(graded)


def without_projection(model, x, y, *, steps=100):
    found = ddn(model, x, y, steps=steps)
    adv = (x + 8 * (found.adv - x)).clamp(0, 1)
    return Found(adv, found.mask, found.already_wrong, distance(adv - x, 2.0))


def test_perturbations_far_larger_than_needed_are_unreliable(net, images, planted):
    graded = trust.grade(net, images, run(net, images, planted(without_projection)))
    assert graded.letter == "C"
    assert {"F08", "F15"} <= failing(graded)


def gives_up_halfway(model, x, y, *, steps=100):
    found = fmn(model, x, y, norm=2.0, steps=steps)
    keep = torch.arange(len(x)) % 2 == 0
    adv = torch.where(keep.view(-1, 1, 1, 1), found.adv, x)
    return Found(adv, found.mask & keep, found.already_wrong, found.distance.masked_fill(~keep, math.inf))


def test_an_attack_that_loses_what_it_found_is_unreliable(net, images, planted):
    graded = trust.grade(net, images, run(net, images, planted(gives_up_halfway)))
    assert graded.letter == "C"
    assert {"F08", "F09"} <= failing(graded)


def test_too_few_steps_are_not_convergence(net, images):
    graded = trust.grade(net, images, run(net, images, "ddn", steps=8))
    assert "F10" in failing(graded)
    assert graded.letter in "BC"


def test_images_replaced_after_the_attack_are_seen(net, images):
    result = run(net, images, "ddn", steps=100)
    graded = trust.grade(net, images, replace(result, adv=images.x.clone()))
    assert graded.letter == "C"
    assert {"F01", "F12"} <= failing(graded)


def test_distances_of_another_perturbation_are_seen(net, images):
    result = run(net, images, "ddn", steps=100)
    halved = {key: column / 2 for key, column in result.distances.items()}
    graded = trust.grade(net, images, replace(result, distances=halved))
    assert "F12" in failing(graded)


def test_a_clean_accuracy_other_than_recorded_is_seen(net, images):
    result = run(net, images, "ddn", steps=100)
    assert "F02" in failing(trust.grade(net, images, result, expected_accuracy=0.9))
    assert "F02" not in failing(trust.grade(net, images, result, expected_accuracy=1.0))


def test_where_everything_was_wrong_from_the_start_there_is_nothing_to_grade(net, images):
    data = replace(images, y=(images.y + 1) % 4)
    result = run(net, data, "ddn", steps=5)
    assert set(result.outcome) == {Outcome.ALREADY_WRONG}
    graded = trust.grade(net, data, result)
    assert graded.letter == "X"
    assert "nothing was attacked" in graded.reasons[0]
