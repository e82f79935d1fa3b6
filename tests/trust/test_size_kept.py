"""F23: examples beyond the size of an attack."""

import math

import pytest
import torch

from secateur import evaluate, trust
from secateur.attacks import Outcome, run
from secateur.registry import ATTACKS
from trust.test_grading import failing, images, net  # noqa: F401


def grey(model, x, y, *, eps=8 / 255):
    return torch.full_like(x, 0.5)


def negative(model, x, y, *, eps=8 / 255):
    return 1 - x


@pytest.fixture
def planted(monkeypatch):
    monkeypatch.setattr(ATTACKS, "_entries", dict(ATTACKS._entries))
    monkeypatch.setattr(ATTACKS, "_objects", dict(ATTACKS._objects))
    for attack in (grey, negative):
        ATTACKS.register(attack.__name__, attack, norms=(math.inf,), kind="fixed-eps")


@pytest.mark.usefixtures("planted")
@pytest.mark.parametrize("name", ["grey", "negative"])
def test_an_attack_that_exceeds_its_size_is_graded_c_and_fools_nothing(net, images, name):  # noqa: F811
    result = run(net, images, name, eps=8 / 255)
    graded = trust.grade(net, images, result)
    assert graded.letter == "C"
    assert "F23" in failing(graded)
    assert not result.where(Outcome.FOUND).any()
    seen = evaluate.attack(net, images, name, eps=8 / 255).summary()
    assert (seen["found"], seen["robust_accuracy"][0]["value"]) == (0, 1.0)
    assert any("beyond its size" in reason for reason in seen["reasons"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fgsm", "pgd", "apgd", "square", "noise"])
@pytest.mark.parametrize("eps", [0.031, [0.01, 8 / 255]])
def test_an_honest_attack_of_fixed_size_passes(net, images, name, eps):  # noqa: F811
    result = run(net, images, name, eps=eps, **({} if name == "fgsm" else {"steps": 10}))
    assert "F23" not in failing(trust.grade(net, images, result))


def test_a_record_changed_afterwards_is_noticed(net, images):  # noqa: F811
    result = run(net, images, "pgd", eps=0.1, steps=10)
    found = result.where(Outcome.FOUND)
    result.distance[found] = 0.2
    assert "F23" in failing(trust.grade(net, images, result))
