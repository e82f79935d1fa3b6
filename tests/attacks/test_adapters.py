"""Classes of foolbox and torchattacks through their adapters, with stand-ins that keep their interfaces."""

import math
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

from secateur.attacks import Outcome, run
from secateur.attacks.apgd import apgd
from secateur.attacks.pgd import pgd
from secateur.errors import UserError

INF = math.inf


class FixedEpsilonAttack:
    """Foolbox's base of attacks whose size is given when they are called."""


class LinfPGD(FixedEpsilonAttack):
    def __init__(self, *, steps=40):
        self.steps = steps

    def __call__(self, wrapped, x, goal, *, epsilons):
        if epsilons is None:
            raise NotImplementedError("no epsilons")
        adv = pgd(wrapped.model, x, goal.labels, eps=epsilons, steps=self.steps).adv
        return adv, adv, None


class LinfDeepFool:
    def __call__(self, wrapped, x, goal, *, epsilons):
        assert epsilons is None
        adv = pgd(wrapped.model, x, goal.labels, eps=0.9, steps=20).adv
        return adv, adv, None


class APGD:
    """Of torchattacks: norms have names."""

    def __init__(self, model, norm="Linf", eps=8 / 255, steps=10):
        assert norm in ("Linf", "L2")
        self.model, self.norm, self.eps, self.steps = model, {"L2": 2.0, "Linf": INF}[norm], eps, steps

    def __call__(self, x, y):
        return apgd(self.model, x, y, norm=self.norm, eps=self.eps, steps=self.steps).adv


class Broken:
    def __init__(self, model, how="lookup"):
        self.how = how

    def __call__(self, x, y):
        if self.how == "memory":
            raise torch.OutOfMemoryError("none left")
        raise {"lookup": KeyError("speed"), "silent": AssertionError()}[self.how]


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    def named(name, **members):
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)

    named(
        "foolbox",
        PyTorchModel=lambda model, bounds, device: SimpleNamespace(model=model),
        Misclassification=lambda labels: SimpleNamespace(labels=labels),
    )
    named("foolbox.attacks", LinfPGD=LinfPGD, LinfDeepFool=LinfDeepFool)
    named("foolbox.attacks.base", FixedEpsilonAttack=FixedEpsilonAttack)
    named("torchattacks", APGD=APGD, Broken=Broken)


def test_foolbox_s_attacks_of_fixed_size_are_told_it(net, images):
    result = run(net, images, "foolbox:LinfPGD", norm=INF, eps=0.3, steps=7)
    assert result.kind == "fixed-eps"
    found = result.where(Outcome.FOUND)
    assert found.any()
    assert result.distance[found].max() <= 0.3 + 1e-6
    assert result.backwards.max() == 7
    with pytest.raises(UserError, match="needs the setting 'eps'"):
        run(net, images, "foolbox:LinfPGD", norm=INF)


def test_foolbox_s_minimum_norm_attacks_are_told_no_size(net, images):
    assert run(net, images, "foolbox:LinfDeepFool", norm=INF).kind == "minimum-norm"
    with pytest.raises(UserError, match="no setting 'eps'"):
        run(net, images, "foolbox:LinfDeepFool", norm=INF, eps=0.3)


@pytest.mark.parametrize("norm", [2.0, INF])
def test_torchattacks_hears_a_norm_by_its_own_name(net, images, norm):
    result = run(net, images, "torchattacks:APGD", norm=norm, eps=0.4)
    found = result.where(Outcome.FOUND)
    assert found.any()
    assert result.distance[found].max() <= 0.4 + 1e-6


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("torchattacks:APGD", {"norm": 0}, "torchattacks has no norm 0"),
        ("torchattacks:Broken", {"norm": 2}, "attack 'torchattacks:Broken' ended in KeyError: 'speed'"),
        ("torchattacks:Broken", {"norm": 2, "how": "silent"}, "ended in AssertionError"),
        ("torchattacks:Broken", {"norm": 2, "how": "memory"}, "not enough memory for a batch of one image"),
    ],
)
def test_what_a_library_raises_is_one_sentence(net, images, name, settings, said):
    with pytest.raises(UserError, match=said):
        run(net, images, name, **settings)


@pytest.mark.reference
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("foolbox:LinfPGD", {"norm": INF, "eps": 0.3}),
        ("torchattacks:APGD", {"norm": 2.0, "eps": 0.9}),
        ("torchattacks:Square", {"norm": INF, "eps": 0.3, "n_queries": 50}),
    ],
)
def test_the_libraries_themselves_run(net, images, monkeypatch, name, settings):
    for module in [key for key in sys.modules if key.split(".")[0] in ("foolbox", "torchattacks")]:
        monkeypatch.delitem(sys.modules, module)
    pytest.importorskip(name.split(":")[0])
    result = run(net, images, name, **settings)
    assert result.where(Outcome.FOUND).any()
    assert result.distance[result.where(Outcome.FOUND)].max() <= settings["eps"] + 1e-5
