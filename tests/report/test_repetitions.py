"""Seeds from which nothing is drawn are not shown as repetitions."""

import dataclasses

import pytest

from report.synthetic import Grid, write
from secateur.report.aggregate import aggregate
from secateur.report.cards import cards
from secateur.report.latency import in_networks
from secateur.report.load import load
from secateur.report.page import render
from secateur.report.paired_changes import changes
from secateur.report.repetitions import attacks_once, trainings
from secateur.report.summary import summary
from secateur.report.tables import networks, per_seed

SMALL = {"models": {"plain": False}, "criteria": ("l1",), "sparsities": (0.0, 0.4), "arms": ("none",)}


def same_weights(cell, science):
    """The numbers of a cell, with weights that depend on all but the seed."""
    axes = {name: value for name, value in cell["axes"].items() if name != "seed"}
    return science if cell["stage"] == "attack" else science | {"weights_hash": repr(axes)}


def grid_of(folder, **settings):
    settings = {**SMALL, "seeds": (0, 1, 2), "failed": (), "grade_c": (), **settings}
    return aggregate(load(write(folder, Grid(**settings))))


@pytest.fixture
def same(tmp_path):
    return grid_of(tmp_path / "same", edit=same_weights)


@pytest.fixture
def drawn(tmp_path):
    return grid_of(tmp_path / "drawn")


def columns(table):
    names = [head.key for head in table.heads]
    return [dict(zip(names, row, strict=True)) for row in table.values]


@pytest.mark.parametrize(("table", "count"), [(per_seed, 4), (networks, 2)])
def test_a_table_of_seeds_has_one_row_for_equal_networks(same, drawn, table, count):
    rows = columns(table(same))
    assert [(row["seed"], row["also_seeds"]) for row in rows] == [(0, "1, 2")] * count
    rows = columns(table(drawn))
    assert [row["also_seeds"] for row in rows] == [""] * (3 * count)
    assert sorted(row["seed"] for row in rows) == sorted([0, 1, 2] * count)


def test_an_attack_that_draws_has_a_row_for_every_seed(same):
    attacks = tuple(dataclasses.replace(attack, method="pgd") for attack in same.study.attacks)
    grid = dataclasses.replace(same, study=dataclasses.replace(same.study, attacks=attacks))
    assert [also for _, also in attacks_once(grid)] == [""] * 12


def test_a_card_names_every_network_once(same, drawn):
    for grid, count in ((same, 1), (drawn, 3)):
        (_, card), *_ = cards(grid, changes(grid))
        assert card.count("secateur.load(") == count
        assert all(len(trainings(point)) == count for point in grid.networks.values())


def test_the_page_says_that_its_seeds_change_nothing(same, drawn):
    said = []
    for grid in (same, drawn):
        change = changes(grid)
        said.append(render(grid, change, [], summary(grid, change), run_folder="run"))
    assert "3 seeds, from which nothing is drawn ·" in said[0]
    assert "3 seeds ·" in said[1]


def test_latencies_stand_beside_their_networks(same):
    assert len(in_networks(networks(same), same).values) == 2
