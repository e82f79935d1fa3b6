"""A network that does not know its images is told from one that does, and few images raise no alarm."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from secateur import data, models, trust
from secateur.attacks import run
from secateur.data import Dataset
from secateur.trust import misfit

TEN = tuple("0123456789")


def answers(n, right, classes=10, *, wrong_as=None):
    """Balanced labels, of which ``right`` are met; the others are the next class, or all one."""
    labels = torch.arange(n) % classes
    predicted = (labels + 1) % classes if wrong_as is None else torch.full((n,), wrong_as)
    # Spread over the classes, so that what is right is balanced, too.
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0))[:right]
    predicted[order] = labels[order]
    return predicted, labels


@pytest.mark.parametrize(
    ("n", "right", "classes", "alarm"),
    [
        (200, 20, 10, True),
        (200, 45, 10, True),
        (200, 60, 10, False),
        (1000, 250, 10, True),
        (1000, 320, 10, False),
        (12, 1, 10, False),  # 12 images cannot tell 8 % from 35 %
        (12, 3, 10, False),
        (30, 2, 10, True),
        (5, 0, 10, False),
        (200, 100, 2, True),
        (200, 120, 2, False),
        (20, 10, 2, False),
        (1000, 60, 100, True),
        (1000, 200, 100, False),
        (1000, 150, 1000, False),
    ],
)
def test_near_chance_is_said_only_where_the_images_show_it(n, right, classes, alarm):
    names = tuple(map(str, range(classes)))
    sentence = misfit(*answers(n, right, classes), names)
    assert bool(sentence) == alarm
    if alarm:
        assert f"only {right} of {n} images" in sentence
        assert all(word in sentence for word in ("normalisation", "labels", "size"))


@pytest.mark.parametrize(
    ("n", "right", "alarm"), [(200, 80, True), (200, 120, False), (12, 5, False)]
)  # fmt: skip
def test_one_answer_for_most_images_is_said(n, right, alarm):
    sentence = misfit(*answers(n, right, wrong_as=3), TEN)
    assert ("are classified as '3', the label of 10" in sentence) == alarm


def test_images_of_one_class_may_be_classified_as_it():
    labels = torch.full((100,), 7)
    assert misfit(labels.clone(), labels, TEN) == ""
    mostly = torch.cat([torch.full((95,), 7), torch.tensor([1] * 5)])
    assert misfit(mostly, mostly, TEN) == ""


def test_the_answer_of_a_majority_is_said():
    labels = torch.cat([torch.zeros(180), torch.ones(20)]).long()
    assert "200 of 200 images are classified as 'a'" in misfit(torch.zeros(200).long(), labels, ("a", "b"))


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.last = nn.Linear(16, 10)
        with torch.no_grad():
            self.last.weight.copy_(torch.randn(10, 16, generator=torch.Generator().manual_seed(3)))
            self.last.bias.zero_()

    def forward(self, x):
        return self.last(x.flatten(1) - 0.5)


@pytest.fixture
def known():
    net = Linear().eval()
    x = torch.rand(100, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return net, Dataset("known", x, net(x).argmax(1), TEN, None)


def graded(net, images, **attack):
    result = run(net, images, "fmn", norm=2, steps=40, **attack)
    return {check.id: check for check in trust.grade(net, images, result).checks}, trust.grade(
        net, images, result
    )


@pytest.mark.parametrize("targeted", [False, True])
def test_a_network_with_labels_in_another_order_is_graded_c(known, targeted):
    net, images = known
    names = torch.cat([torch.arange(1, 10), torch.tensor([0])])
    shuffled = replace(images, y=torch.where(torch.arange(100) < 15, images.y, names[images.y]))
    targets = (shuffled.y + 3) % 10 if targeted else None
    checks, grade = graded(net, shuffled, targets=targets)
    assert not checks["F24"].passed
    assert grade.letter == "C"
    assert any(reason.startswith("F24: only 15 of 100 images (15.0%)") for reason in grade.reasons)


def test_a_network_that_knows_its_images_passes(known):
    checks, _ = graded(*known)
    assert checks["F24"].passed
    assert checks["F24"].sentence == "100.0% of 100 images are classified as labelled"


def test_where_nothing_was_attacked_the_causes_are_named(known):
    net, images = known
    wrong = replace(images, y=(images.y + 1) % 10)
    grade = graded(net, wrong)[1]
    assert grade.letter == "X"
    assert any("normalisation" in reason for reason in grade.reasons)


@pytest.mark.parametrize(
    ("n", "others", "met", "alarm"),
    [(100, 5, 0, True), (60, 20, 0, True), (100, 5, 1, False), (100, 4, 0, False), (100, 0, 0, False)],
)
def test_a_constant_answer_is_said_however_often_it_is_right(n, others, met, alarm):
    """At 95 % accuracy on 95 % of one class nothing was learnt, and no example says anything."""
    labels = (torch.arange(n) < others).long()
    predicted = (torch.arange(n) < met).long()
    sentence = misfit(predicted, labels, ("usual", "rare"))
    assert bool(sentence) == alarm
    assert not alarm or f"{n} of {n} images are classified as 'usual'" in sentence


@pytest.fixture(scope="module")
def digits():
    return data.load("digits:split").take(range(0, 540, 5))


def f24(model, images):
    result = run(model, images, "fgsm", eps=0.02)
    (check,) = [each for each in trust.grade(model, images, result).checks if each.id == "F24"]
    return check


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mean", "std", "said"),
    [
        (0.5, 0.5, "undone"),  # (x - 0.5) / 0.5 in front of a network that is given images in [0, 1]
        (0.0, 0.25, "without the normalisation of the input"),
    ],
)
def test_a_normalisation_that_the_network_was_not_trained_with_is_named(digits, mean, std, said):
    net = models.resolve("shipped:digits-plain").eval()
    wrong = models.normalised(net, mean, std)
    if said == "undone":
        wrong = nn.Sequential(wrong)  # hidden in a module of the user's own
    check = f24(wrong, digits)
    assert not check.passed
    assert said in check.sentence
    assert "unless pruning explains it, give the network the normalisation" in check.sentence


def test_above_chance_it_is_a_warning(digits):
    check = f24(models.normalised(models.resolve("shipped:digits-plain").eval(), 0.0, 0.25), digits)
    assert (check.passed, check.severity) == (False, "warn")


@pytest.mark.slow
def test_right_networks_and_coarse_labels_raise_no_alarm(digits):
    net = models.resolve("shipped:digits-plain").eval()
    assert f24(net, digits).passed
    noisy = digits.y.clone()
    noisy[::3] = (noisy[::3] + 1) % 10
    assert f24(net, replace(digits, y=noisy)).passed, "labels are wrong, whatever the normalisation"
    assert f24(models.normalised(net, 0.02, 0.95), digits).passed


def test_a_network_that_refuses_other_pixels_is_judged_by_the_rest(digits):
    class Strict(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, x):
            assert 0 <= x.min() <= x.max() <= 1
            return self.net(x)

    net = models.normalised(models.resolve("shipped:digits-plain").eval(), 0.0, 0.25)
    check = f24(Strict(net), digits)
    assert check.ran
    assert "could not run" not in check.sentence
