import dataclasses
import html

import pytest

from report.synthetic import Grid, write
from secateur.errors import UserError
from secateur.report import compare, violations, write_comparison
from secateur.report import comparison as comparing
from secateur.report.aggregate import Place
from secateur.report.page import render_comparison

SETTINGS = {"models": {"robust": True}, "criteria": ("l1",), "attacks": {"ddn": 2.0}, "failed": ()}
PRUNED = Place("robust", "l1", 0.8, "standard", "ddn")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("compared")
    weaker = Grid(name="after", weakening=1.5, config={"pruning": {"scope": "global"}}, **SETTINGS)
    fewer = dataclasses.replace(weaker, name="fewer", sparsities=(0.0, 0.4), seeds=(0,))
    return {
        "before": write(root / "before", Grid(name="before", **SETTINGS)),
        "after": write(root / "after", weaker),
        "fewer": write(root / "fewer", fewer),
    }


@pytest.fixture(scope="module")
def comparison(folders):
    return compare(folders["before"], folders["after"])


def at(comparison, place):
    (found,) = [each for each in comparison.differences if each.place == place]
    return found


def test_a_study_compared_with_itself_shows_no_difference_anywhere(folders):
    comparison = compare(folders["before"], folders["before"])
    assert {each.verdict for each in comparison.differences} == {"equivalent", "too few images"}
    assert all(each.against.left.ratio == 1 for each in comparison.differences)
    assert all(each.p in (None, 1.0) for each in comparison.differences)
    assert comparison.settings == ()


def test_a_weaker_network_is_found_and_an_equal_one_is_not(comparison):
    assert at(comparison, PRUNED).verdict == "worse"
    assert at(comparison, PRUNED).against.left.ratio < 0.8
    assert at(comparison, Place("robust", "", 0.0, "none", "ddn")).verdict == "equivalent"


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

    other = write(tmp_path / "other", Grid(name="other", edit=edit, **SETTINGS))
    comparison = compare(folders["before"], other)
    assert {each.verdict for each in comparison.differences} == {"other images"}
    assert violations(comparison, ["median<-5%"])


def test_an_unreliable_side_forbids_a_verdict(folders, tmp_path):
    bad = (("robust", "l1", 0.8, "standard", "ddn"),)
    unsure = write(tmp_path / "unsure", Grid(name="unsure", grade_c=bad, weakening=1.5, **SETTINGS))
    assert at(compare(folders["before"], unsure), PRUNED).verdict == "unreliable"


def test_studies_without_a_common_network_are_refused(folders, tmp_path):
    settings = {**SETTINGS, "models": {"else": False}}
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


def test_the_gate_names_every_broken_limit(comparison):
    broken = violations(comparison, ["median<-5%"])
    assert any(
        sentence.startswith("robust, l1 0.8, standard, ddn: median changed by -") for sentence in broken
    )
    assert not any("dense, none" in sentence for sentence in broken)
    assert all("too few images" in sentence for sentence in violations(comparison, ["median<-99%"]))
    assert violations(comparison, ["accuracy<-0.5"]) == []
    assert violations(comparison, ["accuracy>-1"]) != []


def test_the_gate_does_not_pass_what_has_no_result(folders):
    broken = violations(compare(folders["before"], folders["fewer"]), ["accuracy<-0.9"])
    assert len(broken) == len(compare(folders["before"], folders["fewer"]).only_first)
    assert all("no result in fewer" in sentence for sentence in broken)


@pytest.mark.parametrize("limit", ["", "median", "l2<-5%", "median<=5", "median<nan", "median<-5%; rm"])
def test_a_limit_that_cannot_be_read_is_refused(comparison, limit):
    with pytest.raises(UserError, match="is no limit"):
        violations(comparison, [limit])


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
