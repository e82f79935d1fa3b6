"""AutoAttack through its adapter, with a stand-in that keeps its interface."""

import math
import sys
from types import ModuleType

import pytest
import torch

from secateur.attacks import Outcome, run
from secateur.attacks.apgd import apgd
from secateur.errors import ExitCode, UserError


class Stand:
    """The constructor and method of autoattack.AutoAttack that are used."""

    made: list[dict[str, object]] = []  # noqa: RUF012

    def __init__(self, model, norm, eps, seed, verbose, attacks_to_run, version, device):
        assert version == "custom" or not attacks_to_run
        assert not verbose
        self.model, self.norm, self.eps = model, {"L2": 2.0, "Linf": math.inf}[norm], eps
        Stand.made.append({"seed": seed, "version": version, "device": device, "attacks": attacks_to_run})

    def run_standard_evaluation(self, x_orig, y_orig, bs=250):
        print("checking the defence")
        torch.manual_seed(0)
        return apgd(self.model, x_orig, y_orig, norm=self.norm, eps=self.eps, steps=10).adv


@pytest.fixture
def installed(monkeypatch):
    module = ModuleType("autoattack")
    module.AutoAttack = Stand
    monkeypatch.setattr(Stand, "made", [])
    monkeypatch.setitem(sys.modules, "autoattack", module)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("norm", [2.0, math.inf])
def test_it_runs_at_a_fixed_size_counted_and_verified(net, images, norm, capsys):
    before = torch.random.get_rng_state()
    result = run(net, images, "autoattack:standard", norm=norm, eps=0.4, seed=5)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert result.kind == "fixed-eps"
    assert result.where(Outcome.FOUND).any()
    assert result.distance[result.where(Outcome.FOUND)].max() <= 0.4 + 1e-6
    assert (result.forwards[~result.ori_success] >= 10).all()
    assert Stand.made[0] == {"seed": 5, "version": "standard", "device": torch.device("cpu"), "attacks": []}
    said = capsys.readouterr()
    assert said.out == ""
    assert "checking the defence" in said.err


@pytest.mark.usefixtures("installed")
def test_a_custom_version_says_which_attacks(net, images):
    run(net, images, "autoattack:custom", norm=2, eps=0.1, attacks_to_run=["apgd-ce"])
    assert Stand.made[0]["attacks"] == ["apgd-ce"]


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("autoattack:standard", {"eps": 0.1}, "does not say which norm"),
        ("autoattack:standard", {"norm": 0, "eps": 0.1}, "AutoAttack has no norm 0"),
        ("autoattack:standard", {"norm": 2}, "needs the setting 'eps'"),
        ("autoattack:standard", {"norm": 2, "eps": 0.1, "attacks_to_run": ["fab"]}, "choose their own"),
        ("autoattack:custom", {"norm": 2, "eps": 0.1}, "autoattack:custom needs it"),
        ("autoattack:best", {"norm": 2, "eps": 0.1}, "autoattack has no attack 'best'"),
    ],
)
def test_a_wrong_setting_is_one_sentence(net, images, name, settings, said):
    with pytest.raises(UserError, match=said):
        run(net, images, name, **settings)


def test_without_the_package_it_says_where_to_get_it(net, images, monkeypatch):
    monkeypatch.setitem(sys.modules, "autoattack", None)
    with pytest.raises(UserError, match="fra31/auto-attack") as error:
        run(net, images, "autoattack:standard", norm=2, eps=0.1)
    assert error.value.code == ExitCode.ENVIRONMENT
