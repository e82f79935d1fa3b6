"""The gate: limits on what may change between two studies."""

import dataclasses
import math

import pytest

from report.synthetic import Grid, write
from report.test_robustness import SMALL, fixed
from secateur.errors import UserError
from secateur.report import compare, violations
from secateur.report.aggregate import GridPoint


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
    with pytest.raises(UserError, match="invalid limit"):
        violations(comparison, [limit])


def test_the_gate_reads_robust_accuracy_at_stated_and_at_named_budgets(comparison):
    broken = violations(comparison, ["robust<-0.05"])
    assert any(
        sentence.startswith("robust, l1 0.8, standard, ddn: robust changed by -") for sentence in broken
    )
    (found,) = [each for each in violations(comparison, ["robust@0.5<-0.05"]) if "l1 0.8, standard" in each]
    pruned = GridPoint("robust", "l1", 0.8, "standard", "ddn")
    (each,) = [each for each in comparison.differences if each.where == pruned]
    (share,) = [shares for shares in each.against.robust if shares.eps == 0.5]
    assert f"robust@0.5 changed by {share.change:+.4g}" in found
    assert violations(comparison, ["robust@l2:0.5<-0.05"])
    assert any("robust@1/2 changed" in sentence for sentence in violations(comparison, ["robust@1/2<-5%"]))
    judged = [
        each for each in violations(comparison, ["robust@0.33<-0.99"]) if "cannot be compared" not in each
    ]
    assert judged == []


def test_a_budget_for_a_norm_that_no_attack_has_is_refused(comparison):
    with pytest.raises(UserError, match="which no attack has"):
        violations(comparison, ["robust@linf:8/255<-0.05"])


@pytest.mark.parametrize("limit", ["robust@<-1", "robust@8/0<-1", "robust@l3:1<-1", "median@0.5<-1"])
def test_a_budget_that_cannot_be_read_is_refused(comparison, limit):
    with pytest.raises(UserError, match="invalid limit"):
        violations(comparison, [limit])


def test_robust_accuracy_is_judged_where_too_few_images_are_common(comparison):
    few = [each for each in comparison.differences if each.verdict == "too few images"]
    assert few
    assert any("cannot be compared" in sentence for sentence in violations(comparison, ["median<-99%"]))
    assert not any("cannot be compared" in sentence for sentence in violations(comparison, ["robust<-0.99"]))


def test_a_limit_that_cannot_be_judged_gives_its_own_reason(comparison):
    """Few common images do not stand in the way of robust accuracy; sizes are in the images' units."""
    few = next(each for each in comparison.differences if each.verdict == "too few images")
    after = dataclasses.replace(few.after, checked="C")
    doubtful = dataclasses.replace(comparison, differences=(dataclasses.replace(few, after=after),))
    (said,) = violations(dataclasses.replace(doubtful, only_first=()), ["robust<-0.99"])
    assert said.endswith("robust cannot be compared (unreliable)")


def test_a_size_that_was_not_tried_is_answered_with_those_that_were(tmp_path):
    grid = Grid(**SMALL | {"attacks": {"pgd": math.inf}, "edit": fixed([2 / 255, 8 / 255], [10, 20])})
    folders = [write(tmp_path / name, grid) for name in ("a", "b")]
    comparison = dataclasses.replace(compare(*folders), levels=256)
    said = violations(comparison, ["robust@7/255<-0.05"])
    assert said
    assert all(sentence.endswith("(this attack tried only 2/255, 8/255)") for sentence in said)
