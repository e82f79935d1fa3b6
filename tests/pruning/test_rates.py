"""The networks that Li et al. 2017 pruned, to the parameter and the multiply-add (Table 1)."""

import numpy as np
import pytest
import torch

import secateur
from secateur import models, pruning
from secateur.errors import UserError
from secateur.registry import RATES

# Table 1 of the paper: multiply-adds and their reduction, parameters and theirs.
PUBLISHED = {
    "li2017:vgg16-a": ("2.06e+08", 0.342, "5.4e+06", 0.640),
    "li2017:resnet56-a": ("1.12e+08", 0.104, "7.7e+05", 0.094),
    "li2017:resnet56-b": ("9.09e+07", 0.276, "7.4e+05", 0.137),
    "li2017:resnet110-a": ("2.13e+08", 0.159, "1.7e+06", 0.023),
    "li2017:resnet110-b": ("1.55e+08", 0.386, "1.2e+06", 0.324),
}


def dense(name):
    facts = RATES.entry(name).facts
    return models.build(facts["arch"], **facts["settings"]).eval()


@pytest.mark.slow
@pytest.mark.parametrize("name", RATES.names())
def test_published_rates_give_the_published_network(name):
    facts = RATES.entry(name).facts
    graph = secateur.trace(dense(name), torch.rand(1, 3, 32, 32))
    report = pruning.apply(graph.model, pruning.plan(graph, rates=name), verify=False)
    assert (report.parameters_after, report.macs_after) == (facts["parameters"], facts["macs"])
    macs, fewer_macs, parameters, fewer_parameters = PUBLISHED[name]
    assert f"{report.macs_after:.3g}" == f"{float(macs):.3g}"
    assert f"{report.parameters_after:.2g}" == f"{float(parameters):.2g}"
    assert 1 - report.macs_after / report.macs_before == pytest.approx(fewer_macs, abs=6e-4)
    assert 1 - report.parameters_after / report.parameters_before == pytest.approx(fewer_parameters, abs=6e-4)


def test_published_rates_leave_nothing_to_the_sparsity():
    graph = secateur.trace(dense("li2017:resnet56-a"), torch.rand(1, 3, 32, 32))
    plans = [pruning.plan(graph, sparsity=sparsity, rates="li2017:resnet56-a") for sparsity in (0.0, 0.9)]
    assert plans[0].cuts == plans[1].cuts


def test_a_wrong_rule_does_not_give_the_published_network(monkeypatch):
    monkeypatch.setattr("secateur.pruning.rates.resnet56_a", lambda: {"layer1.0.bn1": 0.1, "layer2": 0.0})
    monkeypatch.setattr(RATES, "_objects", {})
    graph = secateur.trace(dense("li2017:resnet56-a"), torch.rand(1, 3, 32, 32))
    report = pruning.apply(
        graph.model, pruning.plan(graph, sparsity=0.0, rates="li2017:resnet56-a"), verify=False
    )
    assert report.parameters_after != RATES.entry("li2017:resnet56-a").facts["parameters"]


def test_unknown_rates_are_refused_with_the_nearest_name():
    graph = secateur.trace(models.build("resnet-tiny").eval(), torch.rand(1, 1, 8, 8))
    with pytest.raises(UserError, match="unknown rates 'li2017:resnet56'") as refused:
        pruning.plan(graph, rates="li2017:resnet56")
    assert "li2017:resnet56-" in refused.value.hint


@pytest.mark.parametrize("wrong", [1, -0.1, float("nan"), 10**400])
def test_a_wrong_fraction_is_named(wrong):
    graph = secateur.trace(models.build("smallcnn", in_channels=1).eval(), torch.rand(1, 1, 28, 28))
    with pytest.raises(UserError, match=r"the rate of feature_extractor.conv2 must be in \[0, 1\)"):
        pruning.plan(graph, rates={"feature_extractor.conv2": wrong})
    with pytest.raises(UserError, match=r"max_sparsity must be in \[0, 1\)"):
        pruning.plan(graph, sparsity=0.5, max_sparsity=wrong)
    with pytest.raises(UserError, match=r"sparsity must be in \[0, 1\)"):
        pruning.plan(graph, sparsity=wrong)


def test_a_sparsity_of_numpy_is_its_decimal_form():
    # 0.3 in 32 bits is a little more than 0.3, and would remove one channel more of ten.
    graph = secateur.trace(models.build("smallcnn", in_channels=1).eval(), torch.rand(1, 1, 28, 28))
    expected = pruning.plan(graph, sparsity=0.3).to_json()
    for sparsity in (np.float32(0.3), np.float64(0.3), torch.tensor(0.3, dtype=torch.float64)):
        assert pruning.plan(graph, sparsity=sparsity).to_json() == expected
