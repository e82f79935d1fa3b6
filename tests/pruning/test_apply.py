"""What travels with a pruned network: optimizer state, averages, gradients."""

import copy

import pytest
import torch
from torch import nn

import secateur
from graph.networks import build, images
from secateur.errors import UserError


def trained(kind):
    net = build(["residual", "plain"], "batch", "gelu", "flatten").train()
    optimizer = kind(net)
    for _ in range(2):
        optimizer.zero_grad()
        net(images(4)).square().sum().backward()
        optimizer.step()
    return net, optimizer


OPTIMIZERS = {
    "momentum": lambda net: torch.optim.SGD(net.parameters(), 0.01, momentum=0.9),
    "adam": lambda net: torch.optim.AdamW(net.parameters(), 0.01),
}


@pytest.mark.parametrize("kind", sorted(OPTIMIZERS))
def test_optimizer_state_is_cut_like_the_parameters(kind):
    net, optimizer = trained(OPTIMIZERS[kind])
    weight = net.body[1].first[0].weight
    whole = {
        key: value.clone() for key, value in optimizer.state[weight].items() if value.shape == weight.shape
    }
    plan = secateur.plan(secateur.trace(net, images()), sparsity=0.5)
    secateur.apply(net, plan, optimizer=optimizer)
    removed = plan.removed()
    keep = [[i for i in range(8) if i not in removed["body.1.first.0.weight", dim]] for dim in (0, 1)]
    assert whole
    for key, value in whole.items():
        assert torch.equal(optimizer.state[weight][key], value[keep[0]][:, keep[1]])
    net(images(4)).square().sum().backward()
    optimizer.step()
    assert all(p is q for p, q in zip(net.parameters(), optimizer.param_groups[0]["params"], strict=True))


def test_gradients_are_cut_like_the_parameters():
    net, _ = trained(OPTIMIZERS["momentum"])
    weight = net.body[1].first[0].weight
    whole = weight.grad.clone()
    plan = secateur.plan(secateur.trace(net, images()), sparsity=0.5)
    secateur.apply(net, plan)
    removed = plan.removed()
    keep = [[i for i in range(8) if i not in removed["body.1.first.0.weight", dim]] for dim in (0, 1)]
    assert torch.equal(weight.grad, whole[keep[0]][:, keep[1]])


def test_moving_averages_are_cut_alike():
    net, _ = trained(OPTIMIZERS["adam"])
    average = copy.deepcopy(net)
    secateur.apply(net, secateur.plan(secateur.trace(net, images()), sparsity=0.5), copies=[average])
    assert torch.equal(net.eval()(images()), average.eval()(images()))


def test_a_copy_of_another_architecture_is_refused_before_anything_is_cut():
    net, _ = trained(OPTIMIZERS["adam"])
    plan = secateur.plan(secateur.trace(net, images()), sparsity=0.5)
    with pytest.raises(UserError, match="another architecture"):
        secateur.apply(net, plan, copies=[build(["plain"], "batch", "gelu", "flatten")])
    assert net.body[0][0].out_channels == 8


EVERY = (
    "SGD",
    "Adam",
    "AdamW",
    "Adagrad",
    "Adadelta",
    "Adamax",
    "NAdam",
    "RAdam",
    "RMSprop",
    "Rprop",
    "ASGD",
)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*EVERY, "Adafactor"])
def test_every_optimizer_of_torch_goes_on_after_surgery(kind):
    net, optimizer = trained(lambda net: getattr(torch.optim, kind)(net.parameters(), lr=1e-3))
    weight = net.body[1].first[0].weight
    factors = {
        key: value.clone()
        for key, value in optimizer.state[weight].items()
        if isinstance(value, torch.Tensor) and value.ndim
    }
    plan = secateur.plan(secateur.trace(net, images()), sparsity=0.5)
    secateur.apply(net, plan, optimizer=optimizer, verify=False)
    removed = plan.removed()
    keep = [[i for i in range(8) if i not in removed["body.1.first.0.weight", dim]] for dim in (0, 1)]
    for key, whole in factors.items():
        assert torch.equal(optimizer.state[weight][key], whole[keep[0]][:, keep[1]])
    net.train()(images(4)).square().sum().backward()
    optimizer.step()


def test_an_optimizer_that_mixes_all_parameters_is_refused_before_anything_is_cut():
    net = build(["residual"], "batch", "relu", "flatten")
    optimizer = torch.optim.LBFGS(net.parameters())

    def closure():
        optimizer.zero_grad()
        loss = net(images(4)).square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    plan = secateur.plan(secateur.trace(net, images()), sparsity=0.5)
    with pytest.raises(UserError, match="LBFGS is not shaped like its parameter") as caught:
        secateur.apply(net, plan, optimizer=optimizer, verify=False)
    assert "after pruning" in caught.value.hint
    assert net.body[0][0].out_channels == 8


def test_torchs_moving_average_goes_on_after_surgery():
    net, _ = trained(OPTIMIZERS["momentum"])
    average = torch.optim.swa_utils.AveragedModel(net)
    plan = secateur.plan(secateur.trace(net, images()), sparsity=0.5)
    secateur.apply(net, plan, copies=[average.module], verify=False)
    average.update_parameters(net)
    assert torch.equal(average.module.eval()(images()), net.eval()(images()))
    assert average.module.body[0][0].out_channels == 4


def test_an_optimizer_of_another_model_is_refused():
    net, other = (nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval() for _ in range(2))
    plan = secateur.plan(secateur.trace(net, torch.rand(1, 3)), sparsity=0.5)
    with pytest.raises(UserError, match="SGD holds no parameter of this model"):
        secateur.apply(net, plan, optimizer=torch.optim.SGD(other.parameters(), 0.1))
    assert net[0].weight.shape == (4, 3)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"criterion": lambda group, model: None}, "one finite score per channel"),
        ({"criterion": lambda group, model: [1.0] * group.size}, "one finite score per channel"),
        ({"rates": [("0", 0.5)]}, "rates are"),
    ],
)
def test_what_is_no_score_and_no_rate_is_said(options, said):
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    with pytest.raises(UserError, match=said):
        secateur.prune(net, torch.rand(1, 3), **options)
