"""One table says what a setting of our attacks may be; signatures, attacks and studies agree with it."""

import inspect
import math

import numpy as np
import pytest
import torch

from secateur.attacks.runner.bind import PROVIDED
from secateur.budgets import is_list
from secateur.errors import UserError
from secateur.registry import ATTACKS
from secateur.registry.settings import Rule, check, number, problems, rules_of, whole, word

OURS = [entry.name for entry in ATTACKS.entries() if entry.target.startswith("secateur.")]
CASES = [(attack, name) for attack in OURS for name in rules_of(attack)]
BAD = (-1, 0, 7.5, 1e9, math.nan, math.inf, True, "no such word", [0.5], None)
# Kept apart: what a norm may be is a fact of the attack, and of the function that measures it.
NORM = "norm"


def own(attack):
    return {k: p for k, p in inspect.signature(ATTACKS.get(attack)).parameters.items() if k not in PROVIDED}


class Asked(BaseException):
    """The attack has asked the network."""


def refuses(attack, settings):
    """Whether the attack itself refuses, before its first query."""

    def network(x):
        raise Asked

    norm = {} if NORM not in own(attack) else {NORM: ATTACKS.entry(attack).facts["norms"][-1]}
    try:
        ATTACKS.get(attack)(
            network, torch.full((1, 1, 8, 8), 0.5), torch.zeros(1, dtype=torch.int64), **norm, **settings
        )
    except Asked:
        return False
    except UserError:
        return True
    raise AssertionError("the attack asked for nothing")


@pytest.mark.parametrize("attack", OURS)
def test_the_table_has_the_settings_that_the_attack_has(attack):
    assert set(rules_of(attack)) == set(own(attack))


@pytest.mark.parametrize("attack", OURS)
def test_the_defaults_of_an_attack_are_allowed(attack):
    assert problems(attack, {name: parameter.default for name, parameter in own(attack).items()}) == []


@pytest.mark.slow
@pytest.mark.parametrize(("attack", "name"), [case for case in CASES if case[1] != NORM])
def test_an_attack_refuses_what_the_table_refuses_and_nothing_else(attack, name):
    for value in BAD:
        if name == "eps" and is_list(value):
            continue  # a list of sizes, which the runner takes apart: tests/attacks/test_fixed_sizes.py
        told = bool(problems(attack, {name: value}))
        assert refuses(attack, {name: value}) == told, value


def test_a_check_names_the_setting_its_value_and_what_it_may_be():
    with pytest.raises(UserError, match=r"gamma is 7 \(give a number above 0 and below 1\)"):
        check("ddn", alpha=1.0, gamma=7)
    with pytest.raises(UserError, match=r"unknown schedule 'x' \(choose 'cosine' or 'constant'\)"):
        check("ddn", schedule="x")


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        (number(above=0, most=1), (1, 0.5, np.float32(0.5)), (0, 1.1, True, "1", math.nan, None)),
        (number(least=0, below=1, optional=True), (0, None), (1, -1e-9)),
        (number(), (-3, 0, 1e300), (math.inf, -math.inf)),
        (whole(2), (2, 10**9, np.int64(3)), (1, 2.0, True, None, "2")),
        (word("a", "b"), ("a", "b"), ("c", "A", 1, None)),
    ],
)
def test_a_rule_accepts_what_it_says(rule: Rule, good, bad):
    assert all(rule.accepts(value) for value in good)
    assert not any(rule.accepts(value) for value in bad)


def test_attacks_that_are_not_ours_are_not_judged_by_the_table():
    assert problems("somebody-elses", {"gamma": 7}) == []
