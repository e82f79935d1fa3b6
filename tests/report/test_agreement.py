"""Numbers that would say more than is known: budget 0 in the lead, intervals without width."""

import pytest

from report.surfaces import show
from report.synthetic import Grid, write
from report.test_robustness import SMALL, fixed, study
from secateur.report.comparison import compare
from secateur.report.gate import violations
from secateur.report.robustness import leading_budget, stated_budgets
from secateur.stats import wilson


def test_budget_0_leads_no_report_of_an_attack_that_always_succeeds(tmp_path):
    shown = study(tmp_path, fixed([0.0, 0.1], [0, 100]))
    assert leading_budget(shown.grid, "ddn").epsilon == 0.1
    assert shown.heads[-1].endswith("≤0.1")
    assert {row["robust_accuracy"] for row in shown.rows} == {"0.0"}
    assert {row["epsilon"] for row in shown.rows} == {"0.1"}
    assert {float(row["epsilon"]) for row in shown.robust} == {0.0, 0.1}


def test_budget_0_of_a_study_leads_only_where_it_is_alone(tmp_path):
    many = study(tmp_path / "many", config={"epsilons": {"l2": [0.0, 0.0001, 50.0]}})
    assert leading_budget(many.grid, "ddn").epsilon > 0
    alone = study(tmp_path / "alone", config={"epsilons": {"l2": [0.0]}})
    assert leading_budget(alone.grid, "ddn") == stated_budgets(alone.grid, "ddn")[0]


def test_three_trainings_that_agree_to_the_last_image_have_the_interval_over_images(tmp_path):
    shown = show(write(tmp_path / "run", Grid(**SMALL | {"seeds": (0, 1, 2), "edit": fixed([0.1], [100])})))
    low, high = wilson(0, 100)
    for row in shown.rows:
        assert row["trainings"] == "3"
        assert (float(row["robust_low"]), float(row["robust_high"])) == pytest.approx((low, high))
        assert row["interval_over"] == "images"
    assert all(float(row["high"]) == pytest.approx(high) for row in shown.robust)
    assert "over images; 100 images, 3 trainings" in shown.page


def test_a_report_of_half_a_study_states_the_budgets_of_the_whole(tmp_path):
    """An attack that has no result yet changes neither budgets nor the norm that they are for."""
    attacks = {"ddn": 2.0, "fmn-linf": float("inf")}
    absent = tuple(
        ("attack", "m", 0, criterion, sparsity, arm, "fmn-linf")
        for criterion, sparsity in ((None, 0.0), ("l1", 0.5))
        for arm in ("none", "standard")
    )
    by_norm = {"l2": [0.3, 0.6], "linf": [0.01, 0.02]}
    for name, given, expected in (
        ("by-norm", by_norm, {0.3, 0.6}),
        ("listed", [0.01, 0.02], {0.25, 0.5, 1.0}),
    ):
        config = {"epsilons": given}
        half = study(tmp_path / name, attacks=attacks, absent=absent, config=config)
        assert {row["attack"] for row in half.robust} == {"ddn"}
        assert {float(row["epsilon"]) for row in half.robust} == expected


def test_budget_0_is_no_part_of_mean_robust_accuracy(tmp_path):
    """Networks that fall at every size have a mean robust accuracy of 0, not of half their accuracy."""
    for name in ("first", "second"):
        write(tmp_path / name, Grid(**SMALL | {"edit": fixed([0.0, 0.1], [0, 100])}))
    compared = compare(tmp_path / "first", tmp_path / "second")
    assert {row[6] for row in compared.overview.rows} == {"0→0"}
    assert "the mean over" in compared.overview.title
    keys = [head.key for head in compared.table.heads]
    assert {row[keys.index("robust_before")] for row in compared.table.values} == {0.0}


def test_a_network_and_itself_do_not_show_that_any_difference_would_show(tmp_path):
    for name in ("first", "second"):
        write(tmp_path / name, Grid(**SMALL))
    compared = compare(tmp_path / "first", tmp_path / "second")
    assert {row[7] for row in compared.overview.rows} == {"100\N{NO-BREAK SPACE}%"}
    assert {row[8] for row in compared.overview.rows} == {"–"}


def test_the_found_rate_of_a_row_is_that_of_the_size_that_the_row_states(tmp_path):
    shown = study(tmp_path, fixed([0.1, 0.2, 0.4], [20, 50, 90]))
    for row in shown.rows:
        assert (row["epsilon"], row["found"], row["correct"]) == ("0.2", "50", "100")
        assert float(row["asr"]) == pytest.approx(1 - float(row["robust_accuracy"]))


def test_accuracies_are_compared_over_the_trainings_that_both_studies_have(tmp_path):
    """A second study of one seed is not worse because the first has luckier seeds beside it."""

    def edit(cell, science):
        if cell["stage"] == "attack":
            return science
        return science | {"accuracy": {"test": 0.90 if cell["axes"]["seed"] == 0 else 0.99}}

    write(tmp_path / "first", Grid(**SMALL | {"seeds": (0, 1, 2), "edit": edit}))
    write(tmp_path / "second", Grid(**SMALL | {"edit": edit}))
    compared = compare(tmp_path / "first", tmp_path / "second")
    assert [each.accuracy for each in compared.differences] == [(0.90, 0.90)] * 4
    assert violations(compared, ["accuracy<-0.01"]) == []
