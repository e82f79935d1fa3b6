"""An attack called by its public name takes what ``attack`` takes; its bare function names who does."""

import pickle
from inspect import signature
from types import SimpleNamespace

import pytest
import torch

import secateur
from attacks.every import CASES, call
from attacks.oracles import linear_case
from secateur import registry
from secateur.attacks import another_class, every_class
from secateur.attacks.core import batch, best
from secateur.attacks.fmn import fmn
from secateur.budgets import counts
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


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize(("name", "norm"), ONCE)
def test_every_attack_names_the_functions_that_adapt(name, norm, answer):
    with pytest.raises(UserError, match="the model answered 4 images with") as refused:
        call(name, norm, *handed(answer), steps=4)
    assert "secateur.attack and secateur.attacks.run" in refused.value.hint


EXPORTED = {"sigma-zero": "sigma_zero"}
ADAPTED = [each for each in ANSWERS if each != "whole numbers"]


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize("answer", ADAPTED)
@pytest.mark.parametrize(("name", "norm"), ONCE)
def test_every_attack_of_the_package_finds_what_it_finds_on_logits(name, norm, answer):
    function = getattr(secateur.attacks, EXPORTED.get(name, name))
    asked = (
        {"eps": 3.0 if counts(norm) else 0.3}
        if name in ("pgd", "apgd", "fgsm", "noise", "square")
        else {"steps": 8}
    )
    asked |= {"norm": norm} if "norm" in signature(function).parameters else {}
    model, x, y = handed(answer)

    def logits(images):
        return model_of(answer)(images)

    found, expected = function(model, x, y, **asked), function(logits, x, y, **asked)
    for each in ("adv", "mask", "already_wrong", "distance"):
        assert torch.equal(getattr(found, each), getattr(expected, each))
    assert torch.equal(function(model=model, x=x, y=y, **asked).adv, found.adv)


def model_of(answer):
    """The logits that an answer means: of one number z, [0, z]."""
    made = linear_case(16, 2, 4, seed=0)
    if answer not in ("one column", "one number"):
        return made.model
    return lambda x: torch.cat((torch.zeros(len(x), 1), made.model(x).diff(dim=1)), 1)


def test_a_network_that_answers_with_logits_is_asked_as_before():
    made, asked = linear_case(16, 2, 4, seed=0), []
    x, y = made.x.view(-1, 1, 4, 4), made.y

    def model(images):
        asked.append(len(images))
        return made.model(images)

    own = secateur.ddn(model, x, y, steps=5)
    assert asked == [4] * 6
    assert torch.equal(own.adv, registry.ATTACKS.get("ddn")(made.model, x, y, steps=5).adv)
    assert secateur.ddn is secateur.attacks.ddn is pickle.loads(pickle.dumps(secateur.ddn))
    assert signature(secateur.ddn) == signature(registry.ATTACKS.get("ddn"))


def test_an_answer_that_may_mean_several_things_is_refused_in_a_sentence():
    _, x, y = handed("dict")
    with pytest.raises(UserError, match="several may be its logits"):
        secateur.fmn(lambda images: (images.flatten(1), images.flatten(1)), x, y, norm=2, steps=4)


def test_starting_points_and_targets_of_every_class_are_no_way_around():
    model, x, y = handed("dict")
    with pytest.raises(UserError, match="with a dict"):
        fmn(model, x, y, norm=2, start=1 - x, steps=4)
    with pytest.raises(UserError, match="with a dict"):
        every_class(fmn, model, x, y, classes=2)


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize("answer", ADAPTED)
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
