import dataclasses

import pytest

from report.synthetic import Grid, write
from secateur.report import paired_tests, report
from secateur.report.aggregate import aggregate
from secateur.report.load import load

SMALL = Grid(name="criteria", models={"robust": True}, attacks={"ddn": 2.0}, failed=(), grade_c=())


def rows(folder):
    table = paired_tests.criteria_table(aggregate(load(folder)))
    keys = [head.key for head in table.heads]
    return [dict(zip(keys, values, strict=True)) for values in table.values]


def halve_random(cell, science):
    """Adversarial examples of networks pruned at random lie half as far."""
    if cell["axes"]["criterion"] == "random" and "distances" in science:
        near = [None if d is None else d / 2 for d in science["distances"]["l2"]]
        science["distances"]["l2"] = near
    return science


@pytest.mark.slow
def test_the_later_criterion_is_seen_from_the_earlier_at_every_place_of_both(tmp_path):
    found = rows(write(tmp_path / "run", SMALL))
    assert {(row["against"], row["criterion"]) for row in found} == {("l1", "random")}
    assert [(row["sparsity"], row["arm"]) for row in found] == [
        (sparsity, arm) for sparsity in (0.2, 0.4, 0.6, 0.8) for arm in ("none", "standard")
    ]


@pytest.mark.slow
def test_a_criterion_that_leaves_half_is_nearer_everywhere(tmp_path):
    found = rows(write(tmp_path / "run", dataclasses.replace(SMALL, edit=halve_random)))
    even = rows(write(tmp_path / "even", SMALL))
    judged = [row for row in found if row["p"] is not None]
    assert len(judged) >= 6
    assert all(row["verdict"] == "worse" and row["p"] < 0.05 for row in judged)
    assert {row["verdict"] for row in found if row not in judged} <= {"too few images", "collapsed"}
    for halved, whole in zip(found, even, strict=True):
        assert halved["ratio"] == pytest.approx(whole["ratio"] / 2)


@pytest.mark.slow
def test_criteria_seen_the_wrong_way_round_are_caught(tmp_path, monkeypatch):
    folder = write(tmp_path / "run", dataclasses.replace(SMALL, edit=halve_random))
    right = paired_tests.difference
    monkeypatch.setattr(paired_tests, "difference", lambda where, a, b, **more: right(where, b, a, **more))
    assert not any(row["verdict"] == "worse" for row in rows(folder))


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_a_study_of_one_criterion_has_no_such_table(tmp_path):
    folder = write(tmp_path / "one", dataclasses.replace(SMALL, criteria=("l1",)))
    assert rows(folder) == []
    assert not any(path.name.startswith("criteria") for path in report(folder).tables)


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_the_criteria_are_among_the_tables_of_a_report(tmp_path):
    names = {path.name for path in report(write(tmp_path / "run", SMALL)).tables}
    assert {"criteria.md", "criteria.csv"} <= names
