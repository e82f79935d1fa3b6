import dataclasses
import html

import pytest

from report.conftest import COMPARED
from report.synthetic import Grid, write
from report.test_robustness import SMALL
from secateur.errors import UserError
from secateur.report import compare, violations, write_comparison
from secateur.report import comparison as comparing
from secateur.report.aggregate import GridPoint
from secateur.report.page import render_comparison

PRUNED = GridPoint("robust", "l1", 0.8, "standard", "ddn")


def at(comparison, where):
    (found,) = [each for each in comparison.differences if each.where == where]
    return found


@pytest.mark.slow
def test_a_study_compared_with_itself_shows_no_difference_anywhere(folders):
    comparison = compare(folders["before"], folders["before"])
    assert {each.verdict for each in comparison.differences} == {"equivalent", "too few images"}
    assert all(each.against.left.ratio == 1 for each in comparison.differences)
    assert all(each.p in (None, 1.0) for each in comparison.differences)
    assert comparison.settings == ()


def test_the_tables_say_at_which_budgets_robust_accuracy_is(comparison):
    for table in (comparison.table, comparison.overview):
        assert table.title.endswith("robust accuracy is the mean over ddn L₂ ≤ 0.25, 0.5, 1")


def test_a_weaker_network_is_found_and_an_equal_one_is_not(comparison):
    assert at(comparison, PRUNED).verdict == "worse"
    assert at(comparison, PRUNED).against.left.ratio < 0.8
    assert at(comparison, GridPoint("robust", "", 0.0, "none", "ddn")).verdict == "equivalent"


def test_images_make_the_number_and_seeds_are_matched(comparison, folders):
    assert at(comparison, PRUNED).against.clean.n == 100
    assert at(comparison, PRUNED).against.trainings == 2
    fewer = compare(folders["before"], folders["fewer"])
    assert at(fewer, dataclasses.replace(PRUNED, sparsity=0.4)).against.trainings == 1


def test_only_what_both_have_is_compared_and_the_rest_is_named(folders):
    comparison = compare(folders["before"], folders["fewer"])
    assert PRUNED in comparison.only_first
    assert comparison.only_second == ()
    assert len(comparison.differences) == 4


def test_settings_that_differ_are_listed(comparison):
    assert ("pruning.scope", "not set", "global") in comparison.settings


def test_other_images_are_not_compared(folders, tmp_path):
    def edit(cell, science):
        if cell["stage"] == "attack":
            science["hashes"] = [f"{image}b" for image in science["hashes"]]
        return science

    other = write(tmp_path / "other", Grid(name="other", edit=edit, **COMPARED))
    comparison = compare(folders["before"], other)
    assert {each.verdict for each in comparison.differences} == {"other images"}
    assert violations(comparison, ["median<-5%"])


def test_an_unreliable_side_forbids_a_verdict(folders, tmp_path):
    bad = (("robust", "l1", 0.8, "standard", "ddn"),)
    unsure = write(tmp_path / "unsure", Grid(name="unsure", grade_c=bad, weakening=1.5, **COMPARED))
    assert at(compare(folders["before"], unsure), PRUNED).verdict == "unreliable"


def test_studies_without_a_common_network_are_refused(folders, tmp_path):
    settings = {**COMPARED, "models": {"else": False}}
    with pytest.raises(UserError, match="no attacked network in common"):
        compare(folders["before"], write(tmp_path / "else", Grid(name="else", **settings)))


def check_that_many_comparisons_are_adjusted_for():
    p = [(0.01, None), (0.04, 0.03), (None, None), (0.005, None)]
    stub = [dataclasses.replace(_stub(), p_left=left, p_robust=robust) for left, robust in p]
    found = [p and round(p, 9) for each in comparing.adjusted(stub) for p in (each.p_left, each.p_robust)]
    assert found == [0.03, None, 0.06, 0.06, None, None, 0.02, None]


def _stub():
    return comparing.Difference(PRUNED, "l2", None, None, None, (1.0, 1.0), "A")


def test_many_comparisons_are_adjusted_for():
    check_that_many_comparisons_are_adjusted_for()


def test_comparisons_without_adjustment_are_caught(monkeypatch):
    monkeypatch.setattr(comparing, "adjusted", lambda differences: differences)
    with pytest.raises(AssertionError):
        check_that_many_comparisons_are_adjusted_for()


def test_the_comparison_is_written_in_every_format(comparison, tmp_path):
    paths = write_comparison(comparison, tmp_path / "out")
    assert [path.suffix for path in paths] == [".html", ".csv", ".md", ".tex"]
    page = paths[0].read_text()
    assert "less robust against these attacks" in page
    assert "shown to differ by less" in page
    assert "default-src 'none'" in html.unescape(page)
    assert paths[1].read_text().count("\n") == 1 + len(comparison.differences)


def test_names_of_studies_are_text(comparison):
    hostile = dataclasses.replace(comparison, first="<script>alert(1)</script>")
    assert "<script>alert(1)" not in render_comparison(hostile)


def test_the_smallest_difference_that_could_be_shown_is_in_the_table(comparison):
    keys = [head.key for head in comparison.table.heads]
    rows = [dict(zip(keys, values, strict=True)) for values in comparison.table.values]
    (row,) = [row for row in rows if (row["sparsity"], row["arm"]) == (0.4, "standard")]
    assert 0 < row["detectable"] < 0.5
    assert 0 < row["robust_detectable"] < 0.2
    assert row["over"] == "images"


def differing(tmp_path, name, change):
    """A study whose pruned networks have other distances and outcomes."""

    def edit(cell, science):
        if cell["stage"] == "attack" and cell["axes"]["sparsity"] > 0:
            change(science)
        return science

    return write(tmp_path / name, Grid(name=name, edit=edit, **COMPARED))


def test_no_difference_is_said_only_where_it_was_shown(tmp_path, folders):
    def noisy(science):
        for i, value in enumerate(science["distances"]["l2"]):
            if value:
                science["distances"]["l2"][i] = value * (1.9 if i % 2 else 0.55)

    found = at(compare(folders["before"], differing(tmp_path, "noisy", noisy)), PRUNED)
    assert found.verdict == "undecided"
    assert found.sentence.startswith("undecided (the smallest detectable difference is ")


def test_distances_that_grow_while_images_are_lost_decide_nothing(tmp_path, folders):
    """The images nearest to the boundary are lost, the rest is a little farther: no gain."""

    def lose(science):
        values = science["distances"]["l2"]
        near = sorted([0, *(value for value in values if value)])[:31][-1]
        for i, value in enumerate(values):
            if value and value <= near:
                science["outcome"][i], values[i] = "already_wrong", 0.0
            elif value:
                values[i] = value * 1.01

    found = at(compare(folders["before"], differing(tmp_path, "lossy", lose)), PRUNED)
    assert found.against.left.ratio > 1
    assert found.p_left < 0.05
    assert found.against.accuracy_fell
    assert found.verdict in {"undecided", "worse"}


def test_what_cannot_be_judged_does_not_count_in_the_family(comparison):
    judged = [each for each in comparison.differences if each.judged]
    assert len(judged) < len(comparison.differences)
    smallest = min(p for each in judged for p in (each.p_left, each.p_robust) if p is not None)
    raw = min(p for each in judged for p in (each.against.left.p, each.against.overall.p) if p is not None)
    assert smallest == pytest.approx(min(2 * len(judged) * raw, 1))


def test_three_trainings_are_the_unit(tmp_path):
    settings = {**COMPARED, "seeds": (0, 1, 2, 3), "sparsities": (0.0, 0.8)}
    first = write(tmp_path / "first", Grid(name="first", **settings))

    def weaken(cell, science):
        if cell["stage"] == "attack" and cell["axes"]["sparsity"] > 0:
            left = 0.6 + 0.05 * cell["axes"]["seed"]
            science["distances"]["l2"] = [d and d * left for d in science["distances"]["l2"]]
        return science

    second = write(tmp_path / "second", Grid(name="second", edit=weaken, **settings))
    found = at(compare(first, second), PRUNED)
    assert found.unit == "trainings"
    assert found.against.left.ratios == pytest.approx((0.6, 0.65, 0.7, 0.75))
    assert found.against.left.over_trainings[1] < 1
    assert found.verdict == "worse"


def test_the_terminal_s_table_has_a_row_per_place_in_few_columns(comparison):
    table = comparison.overview
    assert table.columns == (
        *("verdict", "model", "pruned", "tuned", "attack", "acc.%", "robust%", "left", "least"),
    )
    assert len(table.rows) == len(comparison.differences)
    row = dict(
        zip(table.columns, next(r for r in table.rows if r[2:4] == ("l1 0.8", "standard")), strict=True)
    )
    assert row["verdict"] == "worse"
    assert row["left"].endswith("%")
    assert " common images" in table.title


def test_the_verdicts_of_a_comparison_are_whole_words_at_eighty_columns(folders, monkeypatch, capsys):
    from secateur.cli.output import print_table

    monkeypatch.setenv("COLUMNS", "80")
    for second in ("before", "after"):
        table = compare(folders["before"], folders[second]).overview
        print_table("title", table.columns, table.rows)
        lines = capsys.readouterr().out.splitlines()[3:]
        assert all(line.startswith(row[0]) for line, row in zip(lines, table.rows, strict=True))


def test_a_collapsed_network_has_no_robust_accuracy_in_the_terminal(tmp_path):
    def collapse(cell, science):
        return (
            science | {"collapsed": True} if cell["axes"]["sparsity"] and cell["stage"] == "tune" else science
        )

    for name in ("first", "second"):
        write(tmp_path / name, Grid(**SMALL | {"edit": collapse}))
    rows = compare(tmp_path / "first", tmp_path / "second").overview.rows
    assert {row[6] for row in rows if row[0] == "collapsed"} == {"–"}
    assert all("→" in row[6] for row in rows if row[0] != "collapsed")
