"""An attack called by itself says in one sentence who takes a network that answers otherwise."""

from types import SimpleNamespace

import pytest
import torch

import secateur
from attacks.every import CASES, call
from attacks.oracles import linear_case
from secateur.attacks import another_class, every_class, fmn
from secateur.attacks.core import batch, best
from secateur.data import Dataset
from secateur.errors import UserError

ANSWERS = {
    "dict": lambda z: {"logits": z},
    "tuple": lambda z: (z, z.mean()),
    "namespace": lambda z: SimpleNamespace(logits=z),
    "one column": lambda z: z[:, 1:] - z[:, :1],
    "one number": lambda z: z[:, 1] - z[:, 0],
    "whole numbers": lambda z: (z * 1000).long(),
}
ONCE = sorted({name: (name, norm) for name, norm in CASES}.values())


def handed(answer):
    made = linear_case(16, 2, 4, seed=0)
    x = made.x.view(-1, 1, 4, 4)
    return lambda images: ANSWERS[answer](made.model(images)), x, made.y


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize(("name", "norm"), ONCE)
def test_every_attack_names_the_functions_that_adapt(name, norm, answer):
    with pytest.raises(UserError, match="the model answered 4 images with") as refused:
        call(name, norm, *handed(answer), steps=4)
    assert "secateur.attack and secateur.attacks.run" in refused.value.hint


def test_starting_points_and_targets_of_every_class_are_no_way_around():
    model, x, y = handed("dict")
    with pytest.raises(UserError, match="with a dict"):
        fmn(model, x, y, norm=2, start=1 - x, steps=4)
    with pytest.raises(UserError, match="with a dict"):
        every_class(fmn, model, x, y, classes=2)


@pytest.mark.parametrize("answer", [each for each in ANSWERS if each != "whole numbers"])
def test_the_functions_that_are_named_do_adapt(answer):
    model, x, y = handed(answer)
    images = Dataset("few", x, y, ("a", "b"), None)
    assert secateur.attack(model, images, "fmn", norm=2, steps=60).result.adv_success.any()
    assert secateur.attacks.run(model, images, "fmn", norm=2, steps=60).adv_success.any()
    assert another_class(model, images).shape == (1, *x.shape)


def test_without_the_check_the_answer_ends_in_python_s_words(monkeypatch):
    for home in (batch, best):
        monkeypatch.setattr(home, "check_logits", lambda *args, **settings: None)
    with pytest.raises(AttributeError, match="detach"):
        call("ddn", 2.0, *handed("dict"), steps=4)
    assert torch.is_grad_enabled()
