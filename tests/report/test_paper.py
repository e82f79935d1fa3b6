"""The LaTeX tables: eight columns, balanced, and bold only where the paired tests decide."""

import re

import pytest

from report.synthetic import Grid, write
from secateur.report import paper
from secateur.report.aggregate import GridPoint, aggregate
from secateur.report.load import load
from secateur.report.paired_changes import changes
from secateur.report.paired_tests import criteria_differences
from secateur.report.paper import paper_tables

HOSTILE = r"a_b & 50% \end{table} {$#"


@pytest.fixture(scope="module")
def tables(grid, change):
    return dict(paper_tables(grid, change))


def body(text):
    """The cells of every row between the rules."""
    inside = text[text.rindex(r"\midrule") : text.rindex(r"\bottomrule")]
    lines = [line.removeprefix(r"\addlinespace").strip() for line in inside.splitlines()]
    return [re.split(r"(?<!\\)&", line.removesuffix(r" \\")) for line in lines if line.endswith(r"\\")]


def check_that_latex_is_sound(text):
    bare = re.sub(r"\\[\\{}%&#$_]", "", text)
    depth = 0
    for character in bare:
        depth += {"{": 1, "}": -1}.get(character, 0)
        assert depth >= 0
    assert depth == 0
    assert re.findall(r"\\begin\{(\w+)\}", bare) == re.findall(r"\\end\{(\w+)\}", bare)[::-1]
    (columns,) = re.findall(r"\\begin\{(?:tabular|longtable)\}\{@\{\}([lr]+)@\{\}\}", text)
    assert len(columns) == 8
    assert {len(row) for row in body(text)} == {8}
    for word in (r"\toprule", r"\midrule", r"\bottomrule", r"\caption{", r"\label{tab:", "(\\%)"):
        assert word in text


def test_every_table_is_sound_and_explains_itself(tables):
    assert list(tables) == ["paper-ddn-standard.tex", "paper-fmn-linf-standard.tex"]
    for text in tables.values():
        check_that_latex_is_sound(text)
        assert r"\begin{table}" in text
        for word in ("attacked images", "95 \\% intervals", "upper bound", "Holm", "both networks"):
            assert word in " ".join(text.split())


@pytest.mark.parametrize(
    "broken", [lambda t: t.replace("{table}", "{table", 1), lambda t: t.replace(" & ", " ", 9)]
)
def test_a_broken_table_is_caught(tables, broken):
    with pytest.raises((AssertionError, ValueError)):
        check_that_latex_is_sound(broken(tables["paper-ddn-standard.tex"]))


def study(tmp_path, **settings):
    options = {
        "models": {"m": False},
        "attacks": {"ddn": 2.0},
        "sparsities": (0.0, 0.8),
        "failed": (),
        "grade_c": (),
    }
    grid = aggregate(load(write(tmp_path / "run", Grid(**options | settings))))
    return grid, changes(grid)


def bold_rows(text):
    return [row[1].strip() for row in body(text) if r"\textbf" in "".join(row)]


def check_that_bold_is_decided(grid, change, text):
    """Bold is in a row if and only if the comparison of the criteria says better or worse there."""
    verdicts = {each.verdict for _, each in criteria_differences(grid) if each.where.arm == "standard"}
    assert bool(bold_rows(text)) == bool(verdicts & {"better", "worse"})


def test_the_better_criterion_is_bold(tmp_path):
    grid, change = study(tmp_path)
    ((_, text),) = paper_tables(grid, change)
    check_that_bold_is_decided(grid, change, text)
    assert bold_rows(text) == ["l1"]


def even(cell, science):
    """Both criteria give the same network, image by image."""
    if cell["stage"] != "attack" or not cell["axes"]["sparsity"]:
        return science
    n = science["n"]
    distances = {norm: [0.1 + 0.001 * i for i in range(n)] for norm in science["distances"]}
    return science | {"outcome": ["found"] * n, "distances": distances}


def test_nothing_is_bold_where_nothing_is_decided(tmp_path):
    grid, change = study(tmp_path, edit=even)
    ((_, text),) = paper_tables(grid, change)
    check_that_bold_is_decided(grid, change, text)
    assert bold_rows(text) == []


def test_bold_for_the_larger_number_alone_is_caught(tmp_path, monkeypatch):
    def larger(grid, change, where):
        return bool(where.criterion), bool(where.criterion)

    grid, change = study(tmp_path, edit=even)
    monkeypatch.setattr(paper, "best", larger)
    ((_, text),) = paper_tables(grid, change)
    with pytest.raises(AssertionError):
        check_that_bold_is_decided(grid, change, text)


def test_words_stand_in_place_of_numbers_that_mean_nothing(tmp_path):
    def edit(cell, science):
        lost = cell["axes"]["criterion"] == "l1" and cell["stage"] != "attack"
        return science | {"collapsed": True} if lost else science

    grid, change = study(tmp_path, edit=edit)
    ((_, text),) = paper_tables(grid, change)
    (row,) = [row for row in body(text) if row[1].strip() == "l1"]
    assert [row[5].strip(), row[6].strip()] == ["collapsed", "collapsed"]
    assert not [row for row in body(text) if r"\textbf" in "".join(row)]


def test_hostile_names_stay_text_and_failed_cells_are_rows(tmp_path):
    failed = (("attack", HOSTILE, 0, "l1", 0.8, "standard", "ddn"),)
    grid, change = study(tmp_path, models={HOSTILE: False}, seeds=(0,), failed=failed, name=HOSTILE)
    ((_, text),) = paper_tables(grid, change)
    check_that_latex_is_sound(text)
    (row,) = [row for row in body(text) if row[1].strip() == "l1"]
    assert row[6].strip() == "failed"


def test_a_long_table_breaks_over_pages(grid, change, monkeypatch):
    monkeypatch.setattr(paper, "LONGEST", 3)
    for _, text in paper_tables(grid, change):
        assert r"\begin{longtable}" in text
        assert text.count(r"\toprule") == 2
        bottom = text.index(r"\bottomrule")
        assert text.index(r"\endhead") < bottom < text.index(r"\endfoot") < text.index(r"\end{longtable}")


def test_unreliable_numbers_have_a_dagger(grid, change, tables):
    assert grid.points[GridPoint("plain", "l1", 0.6, "standard", "ddn")].checked == "C"
    rows = [row for row in body(tables["paper-ddn-standard.tex"]) if "dagger" in row[5]]
    assert len(rows) >= 1
    assert "Dagger" in tables["paper-ddn-standard.tex"]
