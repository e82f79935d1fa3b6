"""Criteria on weights against a naive loop over channels."""

import numpy as np
import pytest
import torch
from torch import nn

import secateur
from pruning.channels import close, layers, scores
from secateur.errors import UserError
from secateur.pruning import criteria_weights
from secateur.pruning.criteria_weights import bn_scale, fpgm, group_norm, l2, lamp
from secateur.recipes import Penalty
from secateur.registry import CRITERIA
from secateur.train.losses import Penaliser


def naive_l2(case):
    return [
        [conv.weight[c].square().sum().sqrt().item() for c in range(len(conv.weight))]
        for conv, _ in layers(case.model)
    ]


def naive_group_norm(case):
    first, second = [], []
    model = case.model
    for c in range(5):
        parts = [model.conv1.weight[c], model.conv1.bias[c], model.bn1.weight[c], model.bn1.bias[c]]
        parts.append(model.conv2.weight[:, c])
        first.append(sum(part.square().sum().item() for part in parts) ** 0.5)
    for c in range(4):
        parts = [model.conv2.weight[c], model.conv2.bias[c], model.bn2.weight[c], model.bn2.bias[c]]
        parts.append(model.fc.weight[:, 4 * c : 4 * c + 4])
        second.append(sum(part.square().sum().item() for part in parts) ** 0.5)
    return [first, second]


def naive_bn_scale(case):
    return [bn.weight.abs().tolist() for _, bn in layers(case.model)]


def naive_fpgm(case):
    found = []
    for conv, _ in layers(case.model):
        filters = conv.weight.detach().double().flatten(1)
        found.append([sum((a - b).norm().item() for b in filters) for a in filters])
    return found


def naive_lamp(case):
    found = []
    for conv, _ in layers(case.model):
        sizes = conv.weight.detach().double().square().sum((1, 2, 3)).tolist()
        found.append([size / sum(other for other in sizes if other >= size) for size in sizes])
    return found


@pytest.mark.parametrize(
    ("score", "naive"),
    [
        (l2, naive_l2),
        (group_norm, naive_group_norm),
        (bn_scale, naive_bn_scale),
        (fpgm, naive_fpgm),
        (lamp, naive_lamp),
    ],
)
def test_a_criterion_on_weights_is_its_formula(case, score, naive):
    close(scores(score, case), naive(case))


def test_growing_reg_ranks_as_its_penalty_does(case):
    """It grows on the norm of everything that goes with a channel, so that is what it is pruned by."""
    close(scores(CRITERIA.get("growing_reg"), case), naive_group_norm(case))
    how = Penalty(kind="growing_reg", strength=0.0, growth=1.0)
    penaliser = Penaliser(case.model, how, case.x[:2])
    penaliser.grow()
    for weights, found in zip(penaliser.weights, scores(CRITERIA.get("growing_reg"), case), strict=True):
        assert torch.equal(weights.argsort(descending=True), found.argsort())


@pytest.mark.parametrize(
    ("name", "broken", "score", "naive"),
    [
        ("squared_norms", lambda member, model, size: torch.ones(size, dtype=torch.float64), l2, naive_l2),
        ("_shares", lambda found: found / found.sum(), lamp, naive_lamp),
    ],
    ids=["no weights", "share of all"],
)
def test_a_broken_criterion_would_be_noticed(case, monkeypatch, name, broken, score, naive):
    monkeypatch.setattr(criteria_weights, name, broken)
    with pytest.raises(AssertionError):
        test_a_criterion_on_weights_is_its_formula(case, score, naive)


def test_bn_scale_says_where_there_is_no_normalisation():
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 6), nn.ReLU(), nn.Linear(6, 3))
    graph = secateur.trace(model, torch.rand(2, 1, 4, 4))
    with pytest.raises(UserError, match=r"needs batch normalisation, but 1\.weight"):
        secateur.plan(graph, criterion="bn_scale")


def test_the_channels_that_go_are_those_of_the_smallest_score(case):
    order = np.argsort(naive_l2(case)[0])
    plan = secateur.plan(case.graph, criterion="l2", sparsity=0.4)
    removed = next(part.removed for part in plan.cuts[0].slices if part.tensor == "conv1.weight")
    assert sorted(removed) == sorted(order[:2].tolist())
