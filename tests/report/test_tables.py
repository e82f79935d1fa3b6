import csv
import io
import math
from itertools import pairwise

import pytest

from report.synthetic import Grid, write
from report.test_aggregate import RESULTS
from secateur.report import formatting
from secateur.report.aggregate import aggregate
from secateur.report.formatting import Column, Table, to_csv, to_latex, to_markdown
from secateur.report.load import load
from secateur.report.paired_changes import changes
from secateur.report.summary import summary
from secateur.report.tables import holes, networks, per_seed, security_curves


def records(table):
    return list(csv.DictReader(io.StringIO(to_csv(table))))


def only(rows, **wanted):
    (found,) = [row for row in rows if all(row[key] == value for key, value in wanted.items())]
    return found


def test_the_summary_holds_the_numbers_computed_by_hand(tiny):
    grid = aggregate(load(tiny(RESULTS)))
    row = only(records(summary(grid, changes(grid))), sparsity="0.5", arm="standard")
    assert (row["correct"], row["found"], row["images"], row["seeds"]) == ("4", "3", "5", "1")
    assert (row["median"], row["median_all"], row["median_correct_linf"]) == ("2.0", "1.5", "2.0")
    assert (row["left"], row["left_of_tuned"], row["grade"]) == ("", "", "C")
    assert "too few images: 3 that both networks get right" in row["reasons"]
    assert float(row["asr"]) == 0.75
    assert (row["median_low"], row["median_high"]) == ("", "")


def test_a_median_that_was_not_reached_is_infinite_everywhere(tiny):
    lost = [("found", 1.0), ("not_found", None), ("not_found", 0.0), ("not_found", None)]
    results = {where: images[:4] for where, images in RESULTS.items()} | {(0.5, "standard", 0): lost}
    grid = aggregate(load(tiny(results)))
    table = summary(grid, changes(grid))
    row = only(records(table), sparsity="0.5", arm="standard")
    assert (row["median"], row["median_all"]) == ("inf", "inf")
    assert "∞" in to_markdown(table.select(["median"]))
    assert r"$\infty$" in to_latex(table.select(["median"]))


@pytest.mark.slow
def test_a_failed_place_is_a_row_of_grade_x_with_its_reason(tmp_path, grid, change):
    rows = records(summary(grid, change))
    partial = only(rows, model="robust", criterion="random", sparsity="0.8", arm="standard", attack="ddn")
    assert (partial["seeds"], partial["seeds_planned"]) == ("1", "2")
    failed = (("prune", "plain", 0, "l1", 0.4, None, None),)
    whole = aggregate(load(write(tmp_path / "run", Grid(models={"plain": False}, seeds=(0,), failed=failed))))
    rows = [row for row in records(summary(whole, changes(whole))) if row["grade"] == "X"]
    assert len(rows) == 4
    assert all(row["median"] == "" and "no result" in row["reasons"] for row in rows)
    assert len(records(holes(whole))) == 1 + 1 + 4


def test_every_attack_and_network_has_a_row_of_its_own(study, grid):
    rows = records(per_seed(grid))
    assert len(rows) == len(study.attacks)
    for row in rows:
        counted = int(row["already_wrong"]) + int(row["found"]) + int(row["not_found"])
        assert counted == int(row["images"]) == 100
    assert len(records(networks(grid))) == len(study.networks)


def test_security_curves_fall_and_stay_within_their_intervals(grid):
    rows = [row for row in records(security_curves(grid)) if row["model"] == "plain"]
    assert rows
    for before, after in pairwise(rows):
        if float(after["epsilon"]) > 0:
            assert float(after["robust_accuracy"]) <= float(before["robust_accuracy"])
        assert float(after["low"]) <= float(after["robust_accuracy"]) <= float(after["high"])


HOSTILE = ["=cmd()", "+1", "-1", "@sum", "\tx", "<script>alert(1)</script>", r"$\frac{$", "a|b", 'x,y\n"z"']
TABLE = Table("t", "t", (Column("name", "name", "text"), Column("d", "d")), tuple((h, -1.5) for h in HOSTILE))


def check_that_no_text_is_a_formula():
    for row, (name, _) in zip(
        csv.reader(io.StringIO(to_csv(TABLE))), [("name", ""), *TABLE.values], strict=True
    ):
        assert not row[0].startswith(("=", "+", "-", "@", "\t", "\r"))
        assert row[0].lstrip("'") == name
        assert row[1] in ("d", "-1.5")


def test_no_text_is_a_formula_to_a_spreadsheet_and_numbers_stay_numbers():
    check_that_no_text_is_a_formula()


def test_a_csv_that_passes_formulas_on_is_caught(monkeypatch):
    monkeypatch.setattr(formatting, "_csv_value", lambda value: str(value))
    with pytest.raises(AssertionError):
        check_that_no_text_is_a_formula()


def test_hostile_names_break_neither_markdown_nor_latex():
    lines = to_markdown(TABLE).splitlines()
    assert len(lines) == 2 + len(HOSTILE)
    assert all(line.replace(r"\|", "").count("|") == 3 for line in lines)
    assert "<script>" not in to_markdown(TABLE)
    latex = to_latex(TABLE)
    assert r"\$\textbackslash{}frac\{\$" in latex
    assert latex.count(r"\\") == 1 + len(HOSTILE)


def test_a_number_that_is_none_is_empty_in_files_and_a_dash_for_people():
    table = Table("t", "t", (Column("d", "d"),), ((None,), (math.nan,), (math.inf,), (0.34,)))
    assert to_csv(table).split("\n") == ["d", '""', '""', "inf", "0.34", ""]
    assert [row[0] for row in table.rows] == ["–", "–", "∞", "0.340"]
