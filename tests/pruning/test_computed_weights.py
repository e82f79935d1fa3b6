"""Weights that modules compute from other tensors: criteria judge what the layers multiply by."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

import secateur
from secateur.pruning import filters

LENGTH = 24
pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated:FutureWarning")


def plain():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv1d(3, 8, 3),
        nn.ReLU(),
        nn.Conv1d(8, 6, 3),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(6, 4),
    )


def lengthened(model, names):
    """Directions of other lengths, which change no weight."""
    for name, parameter in model.named_parameters():
        if name.endswith(names):
            sizes = torch.linspace(0.1, 3, len(parameter)).pow(-2)
            parameter.data.mul_(sizes.reshape(-1, *(1,) * (parameter.ndim - 1)))
    return model


def masked(model):
    for number, layer in enumerate((model[0], model[2])):
        mask = torch.ones_like(layer.weight)
        mask[number::2] = 0
        mask[:, 0] = 0
        prune.custom_from_mask(layer, "weight", mask)
    return model


class Doubled(nn.Module):
    def forward(self, weight):
        return 2 * weight


class Gained(nn.Module):
    """A parametrisation with a parameter of its own, of fewer dimensions than the weight."""

    def __init__(self, count):
        super().__init__()
        self.gain = nn.Parameter(torch.linspace(3, 0.1, count))

    def forward(self, weight):
        return weight * self.gain[:, None, None]


def changed(model, how):
    """The model with weights that are computed in the way named."""
    for layer in (model[0], model[2]):
        if how == "weight_norm":
            parametrizations.weight_norm(layer)
        elif how == "old weight_norm":
            nn.utils.weight_norm(layer)
        elif how == "spectral_norm":
            parametrizations.spectral_norm(layer)
        elif how == "old spectral_norm":
            nn.utils.spectral_norm(layer)
        elif how == "own":
            parametrize.register_parametrization(layer, "weight", Doubled())
            parametrize.register_parametrization(layer, "weight", Gained(layer.out_channels))
        elif how == "norm of a doubled weight":
            parametrize.register_parametrization(layer, "weight", Doubled())
            parametrizations.spectral_norm(layer)
        elif how == "masked directions":
            nn.utils.weight_norm(layer)
            prune.l1_unstructured(layer, "weight_v", 0.5)
            layer._forward_pre_hooks.move_to_end(next(iter(layer._forward_pre_hooks)))
    if how == "mask":
        masked(model)
    return lengthened(model, ("original1", "weight_v"))


WAYS = [
    *("weight_norm", "old weight_norm", "spectral_norm", "old spectral_norm", "mask", "own"),
    *("norm of a doubled weight", "masked directions"),
]


def batch():
    generator = torch.Generator().manual_seed(1)
    return torch.rand(6, 3, LENGTH, generator=generator), torch.tensor([0, 1, 2, 3, 0, 1])


def pair(how):
    """A model with computed weights, and a plain one of the same function."""
    model = changed(plain(), how).eval()
    same = plain().eval()
    model(batch()[0])
    for mine, theirs in zip(same, model, strict=True):
        if isinstance(mine, (nn.Conv1d, nn.Linear)):
            mine.load_state_dict({"weight": theirs.weight.detach(), "bias": theirs.bias.detach()})
    return model, same


def removed(model, **options):
    plan = secateur.plan(secateur.trace(model, batch()[0][:2]), batch=batch(), **options)
    return gone(plan)


def gone(plan):
    """The filters that each group loses."""
    return [next(part.removed for part in cut.slices if part.tensor.endswith("bias")) for cut in plan.cuts]


@pytest.mark.slow
@pytest.mark.parametrize("how", WAYS)
def test_criteria_judge_the_weight_that_is_computed(how):
    model, same = pair(how)
    for criterion in ("l1", "l2", "lamp", "fpgm", "group_norm", "taylor", "hessian", "activation"):
        assert removed(model, criterion=criterion) == removed(same, criterion=criterion), criterion


@pytest.mark.parametrize("how", ["weight_norm", "mask", "spectral_norm"])
def test_one_row_per_filter_whatever_it_is_computed_from(how):
    model, same = pair(how)
    mine, theirs = (secateur.trace(one, batch()[0][:2]).groups for one in (model, same))
    for group, other in zip(mine, theirs, strict=True):
        assert torch.allclose(filters(group, model), filters(other, same), rtol=1e-5)


def test_greedy_selection_meets_directions_of_zeros():
    model, _ = pair("weight_norm")
    assert len(removed(model, criterion="l2", selection="greedy")) == 2


@pytest.mark.slow
@pytest.mark.parametrize("how", WAYS)
def test_computed_weights_are_pruned_and_proved(how):
    model, _ = pair(how)
    report = secateur.prune(model, batch()[0][:2], sparsity=0.5)
    assert (report.verified, report.groups_pruned) == (True, 2)
    assert (model[0].out_channels, model[2].out_channels) == (4, 3)
    # At once, before any run: no hook has left a weight of the old size, or one that no copy can hold.
    assert copy.deepcopy(model)[2].weight.shape == (3, 4, 3)
    assert model.train()(batch()[0]).shape == (6, 4)


@pytest.mark.parametrize("how", ["spectral_norm", "old spectral_norm", "norm of a doubled weight"])
def test_a_spectral_norm_keeps_the_weights_that_are_left(how):
    model, _ = pair(how)
    before = {number: model[number].weight.detach().clone() for number in (0, 2)}
    plan = secateur.plan(secateur.trace(model, batch()[0][:2]), sparsity=0.5)
    report = secateur.apply(model, plan)
    first, second = (
        [index for index in range(count) if index not in own]
        for count, own in zip((8, 6), gone(plan), strict=True)
    )
    model(batch()[0])
    assert torch.allclose(model[0].weight, before[0][first], rtol=1e-5)
    assert torch.allclose(model[2].weight, before[2][second][:, first], rtol=1e-5)
    assert report.changed_by_design == ()
    for _ in range(40):
        model.train()(batch()[0])
    # Training finds the norm of the weight that is left.
    assert torch.linalg.matrix_norm(model[2].weight.flatten(1), 2).item() == pytest.approx(1, abs=1e-3)


def test_filters_that_are_orthogonal_to_each_other_stay_together():
    model = plain().eval()
    parametrizations.orthogonal(model[2])
    graph = secateur.trace(model, batch()[0][:2])
    assert [group.name for group in graph.groups] == ["0.weight[0]"]
    assert "belongs to an orthogonal weight, whose rows all depend on each other (tril" in graph.explain()
    report = secateur.apply(model, secateur.plan(graph))
    assert report.verified
    assert "2.weight is orthogonal" in "".join(report.notes)
    assert "orthogonal no longer" in "".join(report.notes)


class Tokens(nn.Module):
    def __init__(self, inner):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.inner, self.last = nn.Linear(5, 8), inner, nn.Linear(8, 3)

    def forward(self, x):
        h = self.first(x)
        return self.last((self.inner(h, h, h) if isinstance(self.inner, ATTENTION) else self.inner(h))[0])


ATTENTION = nn.MultiheadAttention


def computing(module, how, name):
    if how == "mask":
        return prune.l1_unstructured(module, name, 0.3)
    if how == "weight_norm":
        return parametrizations.weight_norm(module, name)
    return parametrizations.spectral_norm(module, name)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["mask", "weight_norm", "spectral_norm"])
@pytest.mark.parametrize("kind", ["attention", "GRU"])
def test_weights_of_attention_and_recurrence_may_be_computed(kind, how):
    model = Tokens(ATTENTION(8, 2) if kind == "attention" else nn.GRU(8, 8))
    for name in ["in_proj_weight"] if kind == "attention" else ["weight_ih_l0", "weight_hh_l0"]:
        computing(model.inner, how, name)
    report = secateur.prune(model.eval(), torch.rand(2, 4, 5), sparsity=0.5)
    assert (report.verified, report.notes) == (True, ())
    assert model.last.in_features == 4
    assert model.train()(torch.rand(2, 4, 5)).shape == (2, 4, 3)


def test_labels_that_do_not_fit_the_outputs_are_one_sentence():
    model = nn.Sequential(nn.Linear(5, 8), nn.Linear(8, 3)).eval()
    graph = secateur.trace(model, torch.rand(2, 4, 5))
    with pytest.raises(secateur.UserError, match=r"outputs of shape \(2, 4, 3\) and labels of shape \(2,\)"):
        secateur.plan(graph, criterion="taylor", batch=(torch.rand(2, 4, 5), torch.zeros(2).long()))
