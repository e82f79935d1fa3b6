"""Criteria that look at images against a naive loop over channels."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import secateur
from pruning.channels import close, layers, scores, seeded
from secateur.errors import UserError
from secateur.pruning import criteria_data, filter_matrix
from secateur.pruning.calibration_stats import CalibrationStats
from secateur.pruning.criteria_data import activation, hessian, taylor
from secateur.registry import CRITERIA


def parameter_gradients(model, x, y):
    model.eval()
    loss = F.cross_entropy(model(x), y)
    return dict(
        zip(dict(model.named_parameters()), torch.autograd.grad(loss, list(model.parameters())), strict=True)
    )


def test_taylor_is_the_squared_first_order_change(case):
    gradients = parameter_gradients(case.model, case.x, case.y)
    expected = [
        [
            (gradients[f"conv{i}.weight"][c] * conv.weight[c]).sum().square().item()
            for c in range(len(conv.weight))
        ]
        for i, (conv, _) in enumerate(layers(case.model), 1)
    ]
    close(scores(taylor, case, calibration=case.calibration), expected)


def test_taylor_predicts_the_change_of_the_loss_for_a_small_step(case):
    """Shrinking one filter by a thousandth changes the loss by a thousandth of the criterion's root."""
    model = case.model.double().eval()
    x, y = case.x.double(), case.y
    found = taylor(case.graph.groups[0], model, calibration=CalibrationStats(model, x, y))
    for channel in range(5):
        before = F.cross_entropy(model(x), y).item()
        kept = model.conv1.weight[channel].detach().clone()
        with torch.no_grad():
            model.conv1.weight[channel] *= 1 - 1e-5
            change = F.cross_entropy(model(x), y).item() - before
            model.conv1.weight[channel] = kept
        assert (change / 1e-5) ** 2 == pytest.approx(found[channel].item(), rel=1e-2, abs=1e-10)


def test_hessian_sums_the_gradients_of_single_images(case):
    squares = {name: torch.zeros_like(p) for name, p in case.model.named_parameters()}
    for index in range(12):
        single = parameter_gradients(case.model, case.x[index, None], case.y[index, None])
        for name, gradient in single.items():
            squares[name] += gradient.square() / 12
    expected = [
        [
            (squares[f"conv{i}.weight"][c] * conv.weight[c].square()).sum().item() / 2
            for c in range(len(conv.weight))
        ]
        for i, (conv, _) in enumerate(layers(case.model), 1)
    ]
    close(scores(hessian, case, calibration=case.calibration), expected)


def test_activation_is_the_mean_after_batch_normalisation(case):
    model = case.model.eval()
    with torch.no_grad():
        first = model.bn1(model.conv1(case.x))
        second = model.bn2(model.conv2(first.relu()))
    expected = [out.abs().mean((0, 2, 3)).tolist() for out in (first, second)]
    close(scores(activation, case, calibration=case.calibration), expected)


def test_without_normalisation_the_producing_layer_is_read():
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 6), nn.ReLU(), nn.Linear(6, 3))
    x, y = torch.rand(9, 1, 4, 4, generator=seeded()), torch.zeros(9, dtype=torch.int64)
    (group,) = secateur.trace(model, x[:2]).groups
    found = activation(group, model, calibration=CalibrationStats(model, x, y, batch_size=4))
    with torch.no_grad():
        expected = model[1](x.flatten(1)).abs().mean(0)
    assert torch.allclose(found, expected.double(), rtol=1e-5)


@pytest.mark.parametrize(
    ("module", "name", "broken", "check"),
    [
        (
            criteria_data,
            "sum_per_channel",
            lambda member, values, size: filter_matrix.sum_per_channel(member, values.abs(), size),
            test_taylor_is_the_squared_first_order_change,
        ),
        (
            CalibrationStats,
            "fisher",
            property(lambda self: {k: g.square() for k, g in self.gradients.items()}),
            test_hessian_sums_the_gradients_of_single_images,
        ),
        (criteria_data, "_BatchNorm", nn.LayerNorm, test_activation_is_the_mean_after_batch_normalisation),
    ],
    ids=["absolute products", "square of the mean", "before normalisation"],
)
def test_a_broken_criterion_would_be_noticed(case, monkeypatch, module, name, broken, check):
    monkeypatch.setattr(module, name, broken)
    with pytest.raises(AssertionError):
        check(case)


def test_looking_at_images_leaves_the_network_as_it_was(case):
    case.model.train().requires_grad_(False)
    before = secateur.models.weights_hash(case.model)
    for score in (taylor, hessian, activation):
        assert all(
            bool(torch.isfinite(found).all()) for found in scores(score, case, calibration=case.calibration)
        )
    assert secateur.models.weights_hash(case.model) == before
    assert case.model.training
    assert not any(parameter.requires_grad for parameter in case.model.parameters())
    assert not any(module._forward_hooks for module in case.model.modules())


def test_evidence_does_not_depend_on_the_batch_size(case):
    whole = CalibrationStats(case.model, case.x, case.y, batch_size=12)
    for name, gradient in whole.gradients.items():
        assert torch.allclose(case.calibration.gradients[name], gradient, atol=1e-6), name
    for name, found in whole.activations.items():
        assert torch.allclose(case.calibration.activations[name], found, rtol=1e-5), name


@pytest.mark.parametrize("criterion", ["taylor", "hessian", "activation"])
def test_a_criterion_on_data_asks_for_images_and_gets_them(case, criterion):
    with pytest.raises(UserError, match=rf"the criterion {criterion} needs a calibration batch .*batch="):
        secateur.plan(case.graph, criterion=criterion)
    with pytest.raises(UserError, match="12 images and 3 labels"):
        secateur.plan(case.graph, criterion=criterion, batch=(case.x, case.y[:3]))
    plan = secateur.plan(case.graph, criterion=criterion, batch=(case.x, case.y))
    assert plan.criterion == criterion
    report = secateur.apply(case.model, plan)
    assert report.max_error < 1e-10


def test_a_function_of_ones_own_gets_evidence_if_it_asks(case):
    def largest_gradient(group, model, *, generator, reduction, calibration):
        member = next(member for member in group.members if member.role == "out")
        gradient = calibration.gradients[member.tensor].abs().flatten(1).amax(1)
        return gradient.double()

    plan = secateur.plan(case.graph, criterion=largest_gradient, batch=(case.x, case.y))
    assert plan.criterion == "largest_gradient"


CHANNELS = [entry.name for entry in CRITERIA.entries() if entry.facts.get("kind") != "weights"]


@pytest.mark.slow
@pytest.mark.parametrize("name", CHANNELS)
def test_every_registered_criterion_prunes_a_residual_network_with_proof(name):
    model = secateur.models.build("resnet-tiny", widths=(6, 8))
    secateur.models.initialise(model, seeded())
    x, y = torch.rand(8, 1, 8, 8, generator=seeded()), torch.arange(8)
    report = secateur.prune(model, x[:2], criterion=name, sparsity=0.5, batch=(x, y))
    assert report.max_error < 1e-10
    assert report.sparsity_achieved == pytest.approx(0.5)
