"""Laws that hold for every network: pruned is masked dense, counts are as planned, nothing at sparsity 0."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

import secateur
from graph.networks import architectures, build, images

# Each example traces and prunes a network, most laws twice.
LAW = settings(max_examples=settings.default.max_examples // 4)


def counted(model) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def flops(model, x) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(x)
    return counter.get_total_flops() // 2


@pytest.mark.slow
@LAW
@given(architectures, st.sampled_from([0.2, 0.5, 0.7]), st.sampled_from(["l1", "random"]))
def test_the_pruned_network_is_the_masked_dense_one(net, sparsity, criterion):
    x = images()
    report = secateur.prune(net, x, sparsity=sparsity, criterion=criterion)
    assert report.max_error <= 1e-10
    assert report.gradient_error <= 1e-10
    assert not [note for note in report.notes if note.startswith("not pruned")]
    assert report.parameters_after < report.parameters_before
    assert net(x).shape == (2, 5)


@pytest.mark.slow
@LAW
@given(architectures, st.sampled_from([0.3, 0.6]))
def test_counts_are_what_the_plan_predicts(net, sparsity):
    x = images()
    dense = counted(net)
    plan = secateur.plan(secateur.trace(net, x), sparsity=sparsity)
    predicted = plan.count_after({name for name, _ in net.named_parameters()})
    macs_before = flops(net, x)
    report = secateur.apply(net, plan)
    assert counted(net) == predicted == report.parameters_after
    assert dense == report.parameters_before
    assert report.macs_before == macs_before
    assert report.macs_after == flops(net, x)


@pytest.mark.slow
@LAW
@given(architectures)
def test_sparsity_zero_is_the_identity(net):
    x = images()
    before = copy.deepcopy(net.state_dict())
    report = secateur.prune(net, x, sparsity=0)
    assert report.groups_pruned == 0
    after = net.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.slow
@LAW
@given(architectures, st.sampled_from([0.4, 0.8]), st.integers(0, 5))
def test_the_same_seed_gives_the_same_plan(net, sparsity, seed):
    x = images()
    plans = [
        secateur.plan(secateur.trace(net, x), criterion="random", sparsity=sparsity, seed=seed)
        for _ in range(2)
    ]
    assert plans[0].to_json() == plans[1].to_json()


@pytest.mark.slow
@LAW
@given(architectures)
def test_a_plan_replays_on_a_fresh_module_of_the_class(net):
    x = images()
    fresh = copy.deepcopy(net)
    text = secateur.plan(secateur.trace(net, x), sparsity=0.5).to_json()
    secateur.apply(net, secateur.pruning.Plan.from_json(text))
    secateur.apply(fresh, secateur.pruning.Plan.from_json(text), verify=False)
    assert torch.equal(net(x), fresh(x))


@pytest.mark.slow
@LAW
@given(architectures)
def test_what_is_left_trains(net):
    x = images()
    secateur.prune(net, x, sparsity=0.5)
    net.train()
    net(x).sum().backward()
    assert all(p.grad is None or p.grad.shape == p.shape for p in net.parameters())
    assert copy.deepcopy(net)(x).shape == (2, 5)


def test_modes_requires_grad_and_hooks_are_as_before():
    net = build(["residual"], "batch", "relu", "linear").train()
    net.body[0].eval()
    frozen = net.body[1].first[0].weight.requires_grad_(False)
    secateur.prune(net, images(), sparsity=0.5)
    assert net.training
    assert not net.body[0].training
    assert not frozen.requires_grad
    assert not [module for module in net.modules() if module._forward_hooks or module._forward_pre_hooks]
    assert frozen.shape[0] == 4
