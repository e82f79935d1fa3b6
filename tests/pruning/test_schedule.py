"""Rounds of pruning and retraining end exactly where one shot does."""

from fractions import Fraction

import pytest
import torch

import secateur
from graph.networks import build, images
from secateur.errors import UserError
from secateur.pruning.keep_counts import kept_count
from secateur.pruning.schedule import iterative, one_shot, round_targets


def network():
    return build(["residual", "concat", "plain"], "batch", "relu", "flatten")


def widths(net):
    return {name: tuple(p.shape) for name, p in net.named_parameters()}


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["linear", "geometric"])
@pytest.mark.parametrize("sparsity", [0.5, 0.3, 0.75])
def test_rounds_leave_as_many_channels_as_one_shot(shape, sparsity):
    at_once, in_rounds = network(), network()
    one_shot(at_once, images(), sparsity=sparsity)
    seen = []

    def retrain(model, number):
        seen.append((number, sum(p.numel() for p in model.parameters())))
        with torch.no_grad():
            model.head[1].weight.mul_(1.1)

    reports = iterative(in_rounds, images(), sparsity=sparsity, rounds=3, shape=shape, retrain=retrain)
    assert widths(in_rounds) == widths(at_once)
    assert [number for number, _ in seen] == [0, 1, 2]
    assert [report.parameters_after for report in reports] == [count for _, count in seen]
    assert reports[0].parameters_after > reports[1].parameters_after > reports[2].parameters_after


def test_a_network_pruned_in_rounds_comes_back(tmp_path):
    net = network()
    iterative(net, images(), sparsity=0.5, rounds=2)
    secateur.save(net, tmp_path / "net")
    assert torch.equal(secateur.load(tmp_path / "net", network).eval()(images()), net(images()))


def test_targets_end_exactly():
    assert round_targets(0.6, 3, "linear") == [0.2, 0.4, 0.6]
    assert round_targets(0.75, 2, "geometric") == [0.5, 0.75]


@pytest.mark.parametrize("rounds", [0, -1, 1.5, True])
def test_bad_rounds_are_refused(rounds):
    with pytest.raises(UserError, match="positive integer"):
        iterative(network(), images(), rounds=rounds)


def test_an_unknown_shape_is_refused():
    with pytest.raises(UserError, match="unknown shape"):
        iterative(network(), images(), shape="cubic")


def test_rounds_take_the_options_of_a_plan():
    at_once, in_rounds = network(), network()
    rates = {"body.3.0": 0.75, "body.0": 0}
    one_shot(at_once, images(), sparsity=0.5, rates=rates, round_to=2, scope="local", reduction="max")
    iterative(in_rounds, images(), sparsity=0.5, rates=rates, round_to=2, rounds=3, reduction="max")
    assert widths(in_rounds) == widths(at_once)
    assert in_rounds.body[3][0].out_channels == 4
    assert in_rounds.body[0][0].out_channels == 8


@pytest.mark.slow
@pytest.mark.parametrize("limit", [{"max_sparsity": 0.25}, {"min_channels": 5}])
def test_limits_count_from_the_original_channels(limit):
    at_once, in_rounds = network(), network()
    one_shot(at_once, images(), sparsity=0.75, **limit)
    iterative(in_rounds, images(), sparsity=0.75, rounds=3, **limit)
    assert widths(in_rounds) == widths(at_once)


def test_rounds_of_global_scope_remove_that_share_of_the_original_channels():
    net = network()
    reports = iterative(net, images(), sparsity=0.6, rounds=3, scope="global")
    total = reports[0].channels_before
    assert [report.channels for report in reports] == [
        kept_count(total, Fraction(s)) for s in ("0.2", "0.4", "0.6")
    ]
