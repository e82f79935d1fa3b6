"""Single weights masked: exactly as many as asked for, the smallest, and zero they stay."""

from functools import partial

import pytest
import torch
from torch import nn

import secateur
from secateur import models, pruning
from secateur.data import Dataset
from secateur.errors import UserError
from secateur.recipes import Adversary, Recipe
from secateur.registry import CRITERIA
from secateur.train import train


def two_layers():
    net = nn.Sequential(nn.Linear(4, 2, bias=False), nn.Linear(2, 2))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0, -2.0, 3.0, -4.0], [5.0, -6.0, 7.0, -8.0]]))
        net[1].weight.copy_(torch.tensor([[0.1, -0.2], [0.3, -0.4]]))
        net[1].bias.copy_(torch.tensor([0.0, 1.0]))
    return net


def zeros(model):
    return {name: (p == 0) for name, p in model.named_parameters() if p.ndim > 1}


def digits_like(n=40):
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(n, 1, 8, 8, generator=generator), torch.arange(n) % 10
    return Dataset("toy", x, y, tuple(str(i) for i in range(10)), None)


def test_the_smallest_weights_of_every_layer_go():
    net = two_layers()
    report = pruning.mask(net, sparsity=0.5)
    assert net[0].weight.tolist() == [[0, 0, 0, 0], [5, -6, 7, -8]]
    assert net[1].weight.tolist() == [[0, 0], [pytest.approx(0.3), pytest.approx(-0.4)]]
    assert net[1].bias.tolist() == [0, 1]
    assert (report.weights, report.zeros, report.parameters, report.parameters_nonzero) == (12, 6, 14, 8)
    assert report.layers == {"0": 0.5, "1": 0.5}
    assert report.sparsity_achieved == 0.5
    assert pruning.count_nonzero(net) == 8


def test_under_global_scope_layers_compete_and_an_empty_one_is_named():
    net = two_layers()
    report = pruning.mask(net, sparsity=0.5, scope="global")
    assert net[0].weight.tolist() == [[0, 0, 3, -4], [5, -6, 7, -8]]
    assert net[1].weight.abs().sum() == 0
    assert report.notes == ("1 has no weight left",)


@pytest.mark.parametrize("scope", ["local", "global"])
@pytest.mark.parametrize("criterion", ["weight_magnitude", "weight_random"])
def test_rounds_end_where_one_shot_does_and_bring_no_weight_back(criterion, scope):
    at_once, in_rounds = models.build("resnet-tiny"), models.build("resnet-tiny")
    wanted = pruning.mask(at_once, criterion=criterion, scope=scope, sparsity=0.9)
    gone = {}
    for number, sparsity in enumerate((0.3, 0.6, 0.9)):
        report = pruning.mask(in_rounds, criterion=criterion, scope=scope, sparsity=sparsity, seed=number)
        now = zeros(in_rounds)
        assert all(bool((now[name] | ~before).all()) for name, before in gone.items())
        gone = now
    assert (report.zeros, report.weights) == (wanted.zeros, wanted.weights)
    if scope == "local":
        assert report.layers == wanted.layers


def test_random_masks_come_from_the_seed_alone():
    nets = [models.build("resnet-tiny") for _ in range(3)]
    for net, seed in zip(nets, (0, 0, 1), strict=True):
        torch.manual_seed(seed + 17)
        pruning.mask(net, criterion="weight_random", seed=seed)
    first, second, other = (models.weights_hash(net) for net in nets)
    assert first == second != other
    assert not torch.equal(zeros(nets[0])["conv1.weight"], zeros(nets[2])["conv1.weight"])


RECIPES = {
    "plain": Recipe(epochs=2, batch_size=20, learning_rate=0.1),
    "adversarial": Recipe(
        epochs=1, batch_size=20, learning_rate=0.1, adversary=Adversary(epsilon=0.1, step_size=0.1, steps=1)
    ),
    "averaged": Recipe(epochs=2, batch_size=20, learning_rate=0.1, ema=0.9),
}


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_masked_weights_stay_zero_while_the_others_are_trained(recipe):
    net, data = models.build("resnet-tiny"), digits_like()
    pruning.mask(net, sparsity=0.8)
    names, before, gone = list(net.state_dict()), models.weights_hash(net), zeros(net)
    with pruning.reapply_masks(net):
        train(net, data, data, RECIPES[recipe], seed=0)
    assert models.weights_hash(net) != before
    assert all(torch.equal(gone[name], now) for name, now in zeros(net).items())
    assert sorted(net.state_dict()) == sorted(names)


def test_without_being_held_masks_are_lost():
    net, data = models.build("resnet-tiny"), digits_like()
    report = pruning.mask(net, sparsity=0.8)
    train(net, data, data, RECIPES["plain"], seed=0)
    assert pruning.count_nonzero(net) > report.parameters_nonzero


def test_a_masked_network_is_saved_and_attacked_like_any_other(tmp_path):
    net, data = models.build("resnet-tiny").eval(), digits_like(6)
    report = pruning.mask(net, sparsity=0.5)
    secateur.save(net, tmp_path / "net")
    again = secateur.load(tmp_path / "net", partial(models.build, "resnet-tiny")).eval()
    assert pruning.count_nonzero(again) == report.parameters_nonzero
    assert secateur.attack(again, data, "ddn", steps=3).result.adv.shape == data.x.shape


def test_kept_modules_stay_whole():
    net = two_layers()
    report = pruning.mask(net, sparsity=0.5, keep=["1"])
    assert report.layers == {"0": 0.5}
    assert (net[1].weight != 0).all()


def test_ones_own_criterion_is_one_function():
    net = two_layers()
    pruning.mask(net, criterion=lambda weight, generator: -weight.abs(), sparsity=0.5)
    assert net[0].weight.tolist() == [[1, -2, 3, -4], [0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"sparsity": 1.0}, "sparsity must be in"),
        ({"scope": "wide"}, "unknown scope 'wide'"),
        ({"keep": ["2"]}, "'2' is not a module"),
        ({"keep": "1"}, "must be a list"),
        ({"criterion": "l1"}, "scores channels, not single weights"),
        ({"criterion": lambda weight, generator: weight[0]}, "one finite score per weight of 0"),
    ],
)
def test_what_cannot_be_masked_is_refused(arguments, sentence):
    with pytest.raises(UserError, match=sentence):
        pruning.mask(two_layers(), **arguments)


def test_a_network_without_layers_is_refused():
    with pytest.raises(UserError, match="no convolution or linear layer"):
        pruning.mask(nn.Sequential(nn.ReLU()))


def test_removing_channels_by_a_criterion_of_weights_is_refused():
    graph = secateur.trace(models.build("resnet-tiny").eval(), torch.rand(1, 1, 8, 8))
    names = [entry.name for entry in CRITERIA.entries() if entry.facts.get("kind") == "weights"]
    assert names == ["weight_magnitude", "weight_random"]
    for name in names:
        with pytest.raises(UserError, match="scores single weights, not channels"):
            pruning.plan(graph, criterion=name)
