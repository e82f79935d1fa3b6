"""Exact fractions, protected names, deterministic choices, and mistakes in one sentence."""

from fractions import Fraction

import pytest
import torch

import secateur
from graph.networks import build, images
from secateur.errors import UserError
from secateur.pruning.criteria_weights import l1, random
from secateur.pruning.keep_counts import kept_count


def net_and_graph(blocks=("residual", "plain"), norm="batch"):
    net = build(list(blocks), norm, "relu", "linear")
    return net, secateur.trace(net, images())


@pytest.mark.parametrize(
    ("channels", "sparsity", "kept"),
    [
        (640, "0.9", 64),
        (640, "0.3", 448),
        (64, "0.5", 32),
        (1, "0.5", 1),
        (10, "0.99", 1),
        (7, "0", 7),
        (100, "0.29", 71),
    ],
)
def test_fractions_are_exact(channels, sparsity, kept):
    assert kept_count(channels, Fraction(sparsity)) == kept


@pytest.mark.slow
@pytest.mark.parametrize(("sparsity", "parameters"), [(0.5, 2_797_610), (0.9, 110_378)])
def test_resnet18_has_the_known_counts(sparsity, parameters):
    model = secateur.models.build("resnet18")
    plan = secateur.plan(secateur.trace(model, torch.rand(1, 3, 32, 32)), sparsity=sparsity)
    assert plan.count_after({name for name, _ in model.named_parameters()}) == parameters
    assert secateur.apply(model, plan, verify=False).parameters_after == parameters


@pytest.mark.parametrize("sparsity", [float("nan"), float("inf"), -0.1, 1, 1.5, "90", None, True])
def test_a_bad_sparsity_is_one_sentence(sparsity):
    _, graph = net_and_graph()
    with pytest.raises(UserError, match="sparsity must be") as caught:
        secateur.plan(graph, sparsity=sparsity)
    assert "\n" not in str(caught.value)


def test_a_sparsity_that_can_change_nothing_is_refused():
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(432, 5))
    with pytest.raises(UserError, match="cannot remove a single channel"):
        secateur.plan(secateur.trace(net, images()), sparsity=0.5)


def test_a_layer_with_one_channel_stays_and_is_listed():
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 1, 3), torch.nn.Conv2d(1, 6, 3), torch.nn.Flatten(), torch.nn.Linear(384, 5)
    )
    listed = [
        str(item.reason) for item in secateur.trace(net, images()).frozen if item.axes == ("0.weight[0]",)
    ]
    assert listed == ["is the only channel of its layer (in 0)"]
    report = secateur.prune(net, images(), sparsity=0.5)
    assert net[0].out_channels == 1
    assert net[1].out_channels == 3
    assert report.max_error <= 1e-10


def test_inputs_and_logits_are_never_pruned():
    net, graph = net_and_graph()
    secateur.apply(net, secateur.plan(graph, sparsity=0.9))
    assert net.body[0][0].in_channels == 3
    assert net.head.out_features == 5


def test_keep_protects_inputs_and_outputs_of_a_module():
    net, graph = net_and_graph()
    secateur.apply(net, secateur.plan(graph, sparsity=0.5, keep=["body.2.0"]))
    assert tuple(net.body[2][0].weight.shape) == (12, 8, 3, 3)
    assert net.body[1].first[0].out_channels == 4


def test_keep_with_an_unknown_name_is_refused():
    _, graph = net_and_graph()
    with pytest.raises(UserError, match=r"'haed' is not a module.*did you mean 'head'"):
        secateur.plan(graph, keep=["haed"])


def test_l1_is_the_sum_of_absolute_kernel_weights_averaged_over_the_group():
    net, graph = net_and_graph()
    group = graph["body.0.0.weight[0]"]
    wanted = (
        net.body[0][0].weight.abs().sum((1, 2, 3)).double()
        + net.body[1].second[0].weight.abs().sum((1, 2, 3)).double()
    ) / 2
    assert torch.allclose(l1(group, net), wanted.detach(), rtol=1e-6)
    first = net.body[0][0].weight.detach().abs().sum((1, 2, 3)).double()
    assert torch.allclose(l1(group, net, reduction="first"), first, rtol=1e-6)


def test_l1_removes_the_smallest_filters():
    net, graph = net_and_graph(["plain"])
    scores = l1(graph["body.1.0.weight[0]"], net)
    plan = secateur.plan(graph, sparsity=0.5)
    cut = next(cut for cut in plan.cuts if cut.group == "body.1.0.weight[0]")
    gone = next(part.removed for part in cut.slices if part.tensor == "body.1.0.weight")
    assert set(gone) == set(scores.argsort()[:6].tolist())


def test_permuting_filters_permutes_their_scores():
    net, graph = net_and_graph(["plain"])
    group = graph["body.1.0.weight[0]"]
    before = l1(group, net)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    weight = net.body[1][0].weight
    weight.data = weight.data[order]
    assert torch.equal(l1(group, net), before[order])


def test_random_is_seeded_and_uniform():
    net, graph = net_and_graph(["plain"])
    group = graph["body.1.0.weight[0]"]
    draws = [random(group, net, generator=torch.Generator().manual_seed(3)) for _ in range(2)]
    assert torch.equal(*draws)
    generator = torch.Generator().manual_seed(0)
    lowest = torch.stack([random(group, net, generator=generator).argmin() for _ in range(2400)])
    assert torch.bincount(lowest, minlength=12).min() > 140
    with pytest.raises(UserError, match="generator"):
        random(group, net)


def test_global_random_state_is_neither_used_nor_moved():
    _net, graph = net_and_graph(["plain"])
    state = torch.random.get_rng_state()
    first = secateur.plan(graph, criterion="random", seed=1)
    torch.manual_seed(99)
    assert secateur.plan(graph, criterion="random", seed=1) == first
    assert secateur.plan(graph, criterion="random", seed=2) != first
    torch.random.set_rng_state(state)


def test_a_custom_criterion_is_a_function():
    _net, graph = net_and_graph(["plain"])

    def last(group, model, *, generator=None, reduction="mean"):
        return -torch.arange(group.size, dtype=torch.float64)

    plan = secateur.plan(graph, criterion=last, sparsity=0.5)
    assert plan.criterion == "last"
    cut = next(cut for cut in plan.cuts if cut.group == "body.1.0.weight[0]")
    assert cut.slices[0].removed == tuple(range(6, 12))


def test_weights_that_are_not_numbers_are_refused():
    net, graph = net_and_graph(["plain"])
    with torch.no_grad():
        net.body[1][0].weight[0] = float("nan")
    with pytest.raises(UserError, match="finite score"):
        secateur.plan(graph)


def test_a_model_changed_since_the_trace_is_refused():
    net, graph = net_and_graph(["plain"])
    plan = secateur.plan(graph)
    secateur.apply(net, plan)
    with pytest.raises(UserError, match="changed since it was traced"):
        secateur.plan(graph)
    with pytest.raises(UserError, match="made for another architecture"):
        secateur.apply(net, plan)


@pytest.mark.parametrize("groups", [2, 4])
def test_groups_of_a_normalisation_keep_equally_many(groups):
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3),
        torch.nn.GroupNorm(groups, 16),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(1600, 5),
    )
    plan = secateur.plan(secateur.trace(net, images()), sparsity=0.3)
    gone = next(part.removed for part in plan.cuts[0].slices if part.tensor == "0.weight")
    per_group = [sum(index // (16 // groups) == g for index in gone) for g in range(groups)]
    assert len(set(per_group)) == 1
    assert secateur.apply(net, plan).max_error <= 1e-10
