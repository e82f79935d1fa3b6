"""The tables of docs/ agree with the code."""

import json
import re
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from secateur.budgets import L0_PIXELS
from secateur.models import build
from secateur.recipes import Penalty, table
from secateur.registry import ATTACKS, CHECKPOINTS, CRITERIA, DATASETS, MODELS, RATES

DOCS = Path(__file__).parent.parent / "docs"


def rows(page):
    lines = (DOCS / page).read_text(encoding="utf-8").splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `")]


def names(cell):
    return re.findall(r"`([^`]+)`", cell)


@pytest.mark.slow
@pytest.mark.parametrize("name", [entry.name for entry in MODELS.entries()])
def test_every_model_is_listed_with_its_size(name):
    (row,) = [row for row in rows("models.md") if names(row[0]) == [name]]
    parameters = sum(parameter.numel() for parameter in build(name).parameters())
    assert row[2] == f"{parameters:,}"


def test_every_published_network_is_listed_with_its_accuracies():
    listed = {
        name: row for row in rows("models.md") for name in names(row[0]) if "/" in name or ":digits" in name
    }
    assert set(listed) == {entry.name for entry in CHECKPOINTS.entries()}
    for entry in CHECKPOINTS.entries():
        row = listed[entry.name]
        assert row[2] == ("yes" if entry.facts["robust"] else "no")
        assert [row[3], row[4]] == [
            f"{entry.facts['clean_accuracy']:.2f}",
            f"{entry.facts['robust_accuracy']:.2f}",
        ]


@pytest.mark.parametrize("name", ATTACKS.names())
def test_every_attack_is_listed_with_its_kind_norms_and_paper(name):
    (row,) = [row for row in rows("attacking.md") if names(row[0])[0] == name]
    facts, spelled = ATTACKS.entry(name).facts, {0.0: "L0", 1.0: "L1", 2.0: "L2", float("inf"): "L∞"}
    spelled[L0_PIXELS] = "L0-pixels"
    kind = {"minimum-norm": "minimum norm", "fixed-eps": "fixed ε"}[facts["kind"]]
    assert row[1:4] == [kind, ", ".join(spelled[norm] for norm in facts["norms"]), facts["cost"]]
    assert facts.get("paper", "") in row[4]


def test_every_dataset_is_listed():
    listed = {names(row[0])[0].partition(":")[0] for row in rows("data.md")}
    assert listed == {entry.name for entry in DATASETS.entries()}


def test_every_criterion_is_listed():
    listed = {names(row[0])[0] for row in rows("criteria.md")}
    assert listed == {entry.name for entry in (*CRITERIA.entries(), *RATES.entries())}


@pytest.mark.parametrize("name", RATES.names())
def test_published_rates_are_listed_with_their_sizes(name):
    (row,) = [row for row in rows("criteria.md") if names(row[0])[0] == name]
    facts = RATES.entry(name).facts
    assert [row[1], row[3]] == [f"{facts['parameters']:,}", f"{facts['macs']:,}"]


def test_the_settings_of_a_recipe_are_listed_as_they_are_defined():
    page = (DOCS / "training.md").read_text(encoding="utf-8")
    assert table() in page, "replace the table by the output of python -m secateur.recipes"
    listed = {name for row in rows("training.md") for name in names(row[0])}
    assert set(get_args(get_type_hints(Penalty)["kind"])) <= listed


def test_the_repeated_experiment_is_told_as_it_was_recorded():
    results = json.loads((DOCS.parent / "results" / "li2017" / "resnet56.json").read_text(encoding="utf-8"))
    page = (DOCS / "criteria.md").read_text(encoding="utf-8")
    pairs = {"dense": "dense_tuned", "untuned": "pruned"}
    cells = {(cell["role"], cell["rates"]): cell for cell in results["cells"]}
    for (role, rates), cell in cells.items():
        if role in pairs:
            name = "unpruned" if rates is None else rates[-1].upper()
            before, after = (c["accuracy"]["test"] for c in (cell, cells[pairs[role], rates]))
            size = f"{cell['parameters']:,} | {cell['macs']:,}"
            assert f"| {name} | {size} | {before:.2%} | {after:.2%} |".replace("%", " %") in page
        if rates is not None:
            facts = RATES.entry(rates).facts
            assert (cell["parameters"], cell["macs"]) == (facts["parameters"], facts["macs"])
