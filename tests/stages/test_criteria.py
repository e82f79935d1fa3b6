"""Every criterion in one study, up to over-pruning, and what is asserted where records are made."""

import pytest
import torch

from secateur.config import parse_study
from secateur.engine.perform import perform
from secateur.registry import CRITERIA
from secateur.stages import execute, prune_stage
from secateur.store import Store
from secateur.study import plan
from whole import TINY, run_here

ALL = [entry.name for entry in CRITERIA.entries()]
MASKS = [entry.name for entry in CRITERIA.entries() if entry.facts.get("kind") == "weights"]
SETTINGS = [f"criteria=[{', '.join(ALL)}]", "sparsities=[0.5, 0.996]", "finetune={}", "attacks={}"]
RATES = """
name: rates
data: {spec: digits, sizes: [60, 20, 40]}
models: {net: {arch: resnet-tiny, recipe: {epochs: 0}}}
sparsities: [0.5]
images: 4
pruning: {rates: {layer2.0.bn1: 0.75, layer1: 0}}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return run_here(TINY, tmp_path_factory.mktemp("criteria") / "run", *SETTINGS)


def pruned(records, criterion):
    return [r["science"] for r in records if r["stage"] == "prune" and r["axes"]["criterion"] == criterion]


@pytest.mark.slow
@pytest.mark.parametrize("criterion", ALL)
def test_every_criterion_works_in_a_study_up_to_over_pruning(run, criterion):
    _, records = run
    assert {record["status"] for record in records} == {"ok"}
    found = pruned(records, criterion)
    counted = "parameters_nonzero" if criterion in MASKS else "parameters"
    counts = [found[0]["parameters_dense"], *(science[counted] for science in found)]
    assert counts == sorted(counts, reverse=True)
    assert len(set(counts)) == 3
    if criterion in MASKS:
        assert {science["parameters"] for science in found} == {found[0]["parameters_dense"]}
        assert [science["sparsity_achieved"] for science in found] == pytest.approx([0.5, 0.996], abs=0.01)
    else:
        assert all(science["proof"]["max_error"] <= 1e-10 for science in found)
        assert all("parameters_nonzero" not in science for science in found)


def test_a_network_at_chance_is_labelled(run):
    _, records = run
    left = [science for name in ALL for science in pruned(records, name)[-1:]]
    assert all(science["collapsed"] for science in left)
    assert all(science["accuracy"]["test"] < 0.25 for science in left)


def test_parameters_that_rise_with_sparsity_fail_the_cell(tmp_path, monkeypatch):
    """The broken variant: a criterion whose sparser networks stay whole."""
    laid = plan(parse_study(TINY, overrides=["sparsities=[0.3, 0.7]", "finetune={}", "attacks={}"]))
    store = Store.create(tmp_path / "run", laid.to_json())
    real = prune_stage.pruning.plan

    def reversed_sparsity(graph, **how):
        return real(graph, **{**how, "sparsity": 1 - how["sparsity"]})

    monkeypatch.setattr(prune_stage.pruning, "plan", reversed_sparsity)
    for cell in laid.cells:
        perform(store, laid.study, cell, execute)
    less, more = [record for record in store.records() if record.stage == "prune"]
    assert (less.status, more.status) == ("ok", "failed")
    assert "parameters rise with sparsity" in more.reason


@pytest.mark.slow
def test_rates_of_single_layers_reach_the_network(tmp_path):
    _, records = run_here(RATES, tmp_path / "run")
    assert [record["status"] for record in records] == ["ok", "ok"]
    _, other = run_here(RATES, tmp_path / "uniform", "pruning={}")
    assert records[1]["science"]["parameters"] != other[1]["science"]["parameters"]
    assert records[1]["id"] != other[1]["id"]


def test_a_criterion_of_one_s_own_gets_its_images_in_a_study(tmp_path, monkeypatch):
    """One function of three arguments, registered by name."""
    seen = []

    def score(group, model, batch):
        seen.append(tuple(len(part) for part in batch))
        return torch.arange(group.size)

    for kept in ("_entries", "_objects"):
        monkeypatch.setattr(CRITERIA, kept, dict(getattr(CRITERIA, kept)))
    CRITERIA.register("mine", score, "the first channels go", needs_batch=True)
    _, records = run_here(TINY, tmp_path / "run", "criteria=[mine]", "finetune={}", "attacks={}")
    assert {record["status"] for record in records} == {"ok"}
    assert set(seen) == {(200, 200)}, "all training images of so small a study"
