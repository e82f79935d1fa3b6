"""What the row of an attack in the registry says is so, of every attack."""

import inspect

import pytest

from attacks.every import CASES, call
from attacks.oracles import linear_case
from attacks.test_linear import check
from secateur.attacks import ddn, fmn, run
from secateur.budgets import counts
from secateur.registry import ATTACKS

COST = {"1 fwd, 1 bwd": (1, 1), "1 fwd": (1, 0)}
ENTRIES = {entry.name: entry for entry in ATTACKS.entries()}


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize("name", [name for name, entry in ENTRIES.items() if entry.facts["cost"] in COST])
def test_a_step_costs_what_the_list_says(net, images, name):
    settings = {"eps": 0.01} if ENTRIES[name].facts["kind"] == "fixed-eps" else {}
    images = images.take(range(1, 6))
    short, long = (run(net, images, name, steps=steps, **settings) for steps in (5, 9))
    forwards, backwards = COST[ENTRIES[name].facts["cost"]]
    assert ((long.forwards - short.forwards) == 4 * forwards).all()
    assert ((long.backwards - short.backwards) == 4 * backwards).all()


@pytest.mark.parametrize("name", ENTRIES)
def test_norms_kind_and_targets_are_those_of_the_signature(name):
    facts, parameters = ENTRIES[name].facts, inspect.signature(ATTACKS.get(name)).parameters
    assert facts["targeted"] == ("targets" in parameters)
    assert (facts["kind"] == "fixed-eps") == ("eps" in parameters)
    assert len(facts["norms"]) == 1 or "norm" in parameters
    assert facts["cost"]
    # Where others had the idea, their paper is named; the number is for machines.
    assert facts.get("paper", "arXiv:").startswith("arXiv:")
    assert ("paper" in facts) == any(year in ENTRIES[name].summary for year in ("20",))


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize(
    ("name", "norm"),
    [
        (name, norm)
        for name, norm in CASES
        if ENTRIES[name].facts["kind"] == "minimum-norm" and ENTRIES[name].facts["cost"] in COST
    ],
)
def test_every_minimum_norm_attack_comes_near_the_closed_form_minimum(name, norm):
    # Each attack has narrower gates in its own test; a new one has to pass this one unasked.
    made = linear_case(16, 2, 6, seed=0)
    check(made, call(name, norm, made.model, made.x, made.y, steps=200), norm, 1 if counts(norm) else 1.25)


@pytest.mark.parametrize("attack", [ddn, fmn])
def test_attacks_of_a_paper_list_where_they_deviate_from_it(attack):
    assert "Deviations from Algorithm 1:" in attack.__doc__
