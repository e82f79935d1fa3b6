"""Everything a plan can be asked for: scopes, rates, limits, budgets, greedy selection, the residual rule."""

import inspect
import json
from fractions import Fraction
from typing import Unpack, get_type_hints

import pytest
import torch
from torch import nn

import secateur
from graph.networks import build, images
from secateur.errors import UserError
from secateur.pruning.budget import plan_costs
from secateur.pruning.criteria_weights import l1
from secateur.pruning.keep_counts import kept_count, scored_by_shortcut
from secateur.pruning.planning import PlanOptions, SelectionOptions


def network():
    return build(["residual", "project", "plain"], "batch", "relu", "linear")


@pytest.fixture
def graph():
    return secateur.trace(network(), images())


def kept(plan):
    return {cut.group: cut.kept for cut in plan.cuts}


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


def test_global_scope_removes_that_share_of_all_channels(graph):
    total = sum(group.size for group in graph.groups)
    plan = secateur.plan(graph, scope="global", sparsity=0.5)
    assert sum(cut.channels - cut.kept for cut in plan.cuts) == total - total // 2
    assert len({cut.kept / cut.channels for cut in plan.cuts}) > 1
    assert secateur.apply(graph.model, plan).max_error <= 1e-10


def test_global_scope_has_a_floor_and_says_what_it_leaves(graph):
    weak = graph["body.3.0.weight[0]"]
    with torch.no_grad():
        graph.model.body[3][0].weight[1:].mul_(1e-6)
    plan = secateur.plan(graph, scope="global", sparsity=0.9, max_sparsity=0.75)
    assert kept(plan)[weak.name] == 3
    assert all(cut.kept >= cut.channels / 4 for cut in plan.cuts)
    untouched = [group.name for group in graph.groups if group.name not in kept(plan)]
    assert all(any(note.startswith(name) for note in plan.notes) for name in untouched)


def test_global_scope_says_how_many_channels_the_floors_hold_back(graph):
    plan = secateur.plan(graph, scope="global", sparsity=0.9, max_sparsity=0.5)
    total = sum(group.size for group in graph.groups)
    short = total - kept_count(total, Fraction("0.9")) - sum(cut.channels - cut.kept for cut in plan.cuts)
    assert f"{short} fewer channels than requested are removed" in plan.notes[-1]
    assert "fewer" not in "".join(secateur.plan(graph, scope="global", sparsity=0.3).notes)


def test_rates_override_the_sparsity_of_single_layers(graph):
    plan = secateur.plan(graph, sparsity=0.5, rates={"body.3.0": 0.75, "body.1.first.0.weight": 0})
    found = kept(plan)
    assert found["body.3.0.weight[0]"] == 3
    assert "body.1.first.0.weight[0]" not in found


def test_widths_are_rounded_up(graph):
    plan = secateur.plan(graph, sparsity=0.6, round_to=4)
    assert all(size % 4 == 0 for size in kept(plan).values())
    assert all(cut.kept >= int(cut.channels * 0.4) for cut in plan.cuts)


def test_limits_hold(graph):
    assert min(kept(secateur.plan(graph, sparsity=0.9, min_channels=3)).values()) == 3
    plan = secateur.plan(graph, sparsity=0.9, max_sparsity=0.5)
    assert all(cut.kept >= cut.channels / 2 for cut in plan.cuts)


@pytest.mark.slow
@pytest.mark.parametrize(
    "budget", [{"parameters": 0.4}, {"macs": 0.5}, {"parameters": 3000}, {"parameters": 0.6, "macs": 0.4}]
)
def test_budgets_are_met_by_the_smallest_sparsity(graph, budget):
    model = graph.model
    dense = count(model)
    plan = secateur.plan(graph, **budget)
    found = plan_costs(graph, plan)
    report = secateur.apply(model, plan)
    assert found == {"parameters": report.parameters_after, "macs": report.macs_after}
    if "parameters" in budget:
        most = budget["parameters"] * dense if budget["parameters"] < 1 else budget["parameters"]
        assert report.parameters_after <= most
    if "macs" in budget:
        assert report.macs_after <= budget["macs"] * report.macs_before
    assert report.parameters_after > 0.25 * dense


def test_a_budget_out_of_reach_is_refused_with_the_least(graph):
    with pytest.raises(UserError, match="cannot be reached"):
        secateur.plan(graph, parameters=10)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"scope": "galactic"}, "unknown scope"),
        ({"selection": "random"}, "unknown selection"),
        ({"reduction": "median"}, "unknown reduction"),
        ({"round_to": 0}, "positive integer"),
        ({"min_channels": 1.5}, "positive integer"),
        ({"max_sparsity": 2}, "sparsity must be"),
        ({"rates": {"nowhere": 0.5}}, "nowhere"),
        ({"rates": {"head": float("nan")}}, "rate of head must be"),
        ({"parameters": 1.5}, "fraction"),
        ({"macs": -3}, "fraction"),
    ],
)
def test_bad_arguments_are_one_sentence(graph, wrong, message):
    with pytest.raises(UserError, match=message) as caught:
        secateur.plan(graph, **wrong)
    assert "\n" not in str(caught.value)


def test_greedy_selection_ignores_inputs_that_are_gone():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.Flatten(), nn.Linear(576, 2))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([5.0, 4, 1, 0.5]).reshape(4, 1, 1, 1).expand(4, 3, 1, 1))
        # Filters 0 and 1 are large only on channels 2 and 3, which go first.
        rows = [[0.1, 0.1, 9, 9], [0.2, 0.2, 8, 8], [1, 1, 0, 0], [2, 2, 0, 0]]
        net[2].weight.copy_(torch.tensor(rows).reshape(4, 4, 1, 1))
    graph = secateur.trace(net, images())
    gone = {}
    for selection in ("independent", "greedy"):
        plan = secateur.plan(graph, sparsity=0.5, selection=selection)
        gone[selection] = next(p.removed for p in plan.cuts[1].slices if p.tensor == "2.weight")
    assert gone == {"independent": (2, 3), "greedy": (0, 1)}
    assert torch.equal(net[2].weight[0].flatten(), torch.tensor([0.1, 0.1, 9, 9]))


def test_the_residual_rule_lets_the_projection_decide(graph):
    group = next(g for g in graph.groups if any(str(m) == "body.2.shortcut.weight[0]" for m in g.members))
    judged = scored_by_shortcut(graph, group)
    assert [m.tensor for m in judged.members if m.role == "out"] == ["body.2.shortcut.weight"]
    wanted = graph.model.body[2].shortcut.weight.detach().abs().sum((1, 2, 3)).double()
    assert torch.allclose(l1(judged, graph.model), wanted)
    plan = secateur.plan(graph, reduction="shortcut", sparsity=0.5)
    cut = next(cut for cut in plan.cuts if cut.group == group.name)
    assert set(cut.slices[0].removed) == set(wanted.argsort()[:6].tolist())


def test_without_a_projection_the_first_producer_decides(graph):
    group = graph["body.0.0.weight[0]"]
    judged = scored_by_shortcut(graph, group)
    assert [m.tensor for m in judged.members if m.role == "out"] == ["body.0.0.weight"]


def options(function):
    return inspect.signature(function).parameters


def test_the_options_of_a_plan_are_declared_once():
    declared = get_type_hints(PlanOptions)
    own = get_type_hints(secateur.plan)
    assert {name: own[name] for name in options(secateur.plan) if name != "graph"} == declared
    assert options(secateur.prune)["options"].annotation == Unpack[PlanOptions]
    assert set(get_type_hints(SelectionOptions)) < set(declared)


def test_prune_takes_every_option_of_a_plan():
    given = {
        "criterion": "random",
        "sparsity": 0.5,
        "scope": "local",
        "selection": "greedy",
        "reduction": "max",
        "keep": ["body.0"],
        "rates": {"body.3.0": 0.25},
        "parameters": None,
        "macs": None,
        "latency": None,
        "min_channels": 2,
        "max_sparsity": 0.75,
        "round_to": 2,
        "batch": None,
        "seed": 3,
        "dense_sizes": {"body.1.first.0.weight[0]": 12},
    }
    assert set(given) == set(get_type_hints(PlanOptions))
    net = network()
    plan = secateur.plan(secateur.trace(net, images()), **given)
    assert kept(plan)["body.1.first.0.weight[0]"] == 6
    report = secateur.prune(net, images(), **given)
    assert report.plan.to_json() == plan.to_json()


def test_an_option_that_does_not_exist_is_refused():
    with pytest.raises(TypeError, match="sparsty"):
        secateur.prune(network(), images(), sparsty=0.5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "asked",
    [
        {"scope": "global", "sparsity": 0.6, "max_sparsity": 0.75},
        {"selection": "greedy", "criterion": "random", "seed": 7, "rates": {"body.1": 0.25}},
        {"parameters": 0.4, "reduction": "shortcut", "round_to": 2},
    ],
)
def test_a_plan_is_its_json_and_replays_on_a_fresh_module(asked):
    net, fresh = network(), network()
    plan = secateur.plan(secateur.trace(net, images()), **asked)
    again = secateur.pruning.Plan.from_json(json.loads(json.dumps(plan.to_json())))
    assert again == plan
    assert again.fingerprint == plan.fingerprint
    secateur.apply(net, plan)
    report = secateur.apply(fresh, again)
    assert report.max_error <= 1e-10
    assert torch.equal(fresh(images()), net(images()))


def test_plans_compose_over_rounds_and_replay_in_their_order():
    net, fresh = network(), network()
    texts = []
    for number in range(3):
        plan = secateur.plan(secateur.trace(net, images()), sparsity=0.25, criterion="random", seed=number)
        texts.append(json.dumps(plan.to_json()))
        secateur.apply(net, plan)
    assert [json.dumps(plan.to_json()) for plan in secateur.pruning.history(net)] == texts
    with pytest.raises(UserError, match="another architecture"):
        secateur.apply(fresh, secateur.pruning.Plan.from_json(json.loads(texts[1])))
    for text in texts:
        secateur.apply(fresh, secateur.pruning.Plan.from_json(json.loads(text)), verify=False)
    assert torch.equal(fresh(images()), net(images()))
