"""Limits as people write them, and how a measured number is judged by them."""

import numpy as np
import pytest

from secateur.decision.limits import RobustLimit, judged, limits_of, robust_limit
from secateur.decision.lines import share_line
from secateur.decision.verdict import judge
from secateur.errors import UserError


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("0.4@linf:8/255", RobustLimit(0.4, "linf", 8 / 255)),
        ("40%@linf:8/255", RobustLimit(0.4, "linf", 8 / 255)),
        ("0.4@8/255", RobustLimit(0.4, "linf", 8 / 255)),
        ("1@l2:0.5", RobustLimit(1.0, "l2", 0.5)),
        (".5@L2:1e-1", RobustLimit(0.5, "l2", 0.1)),
    ],
)
def test_a_robust_limit_names_share_norm_and_budget(text, wanted):
    assert robust_limit(text) == wanted


@pytest.mark.parametrize(
    "text", ["", "0.4", "0.4@", "140%@8/255", "0.4@8/0", "0.4@l3:1", "-1@8/255", "x@8/255"]
)
def test_what_is_no_robust_limit_is_refused_in_one_sentence(text):
    with pytest.raises(UserError, match=r"expected SHARE@NORM:SIZE .*for example"):
        robust_limit(text)


def test_shares_may_be_percentages_and_times_have_units():
    limits = limits_of(min_accuracy="90%", max_drop=0.01, max_latency="250us")
    assert (limits.min_accuracy, limits.max_drop) == (0.9, 0.01)
    assert limits.max_latency == pytest.approx(250e-6)
    assert limits.stated
    assert not limits_of().stated


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("min_accuracy", "90"),
        ("min_accuracy", "nan"),
        ("max_drop", -0.1),
        ("max_latency", "5"),
        ("max_latency", 0),
    ],
)
def test_impossible_limits_name_the_option(name, value):
    with pytest.raises(UserError, match=f"invalid {name} {value}"):
        limits_of(**{name: value})


@pytest.mark.parametrize(
    ("value", "interval", "state", "sure"),
    [
        (0.95, (0.92, 0.97), "kept", True),
        (0.91, (0.88, 0.94), "kept", False),
        (0.90, (0.90, 0.90), "kept", True),
        (0.89, (0.86, 0.92), "broken", False),
        (0.80, (0.75, 0.85), "broken", True),
    ],
)
def test_the_value_decides_and_the_interval_says_how_sure(value, interval, state, sure):
    found = judged("accuracy", value, least=0.9, interval=interval)
    assert (found.state, found.sure) == (state, sure)
    assert ("too few images to be sure" in found.sentence) == (not sure)


def test_the_most_that_is_allowed_is_judged_from_above():
    assert judged("latency", 0.004, most=0.005, unit=1e3, suffix=" ms").state == "kept"
    found = judged("latency", 0.006, most=0.005, unit=1e3, suffix=" ms")
    assert found.sentence == "broken: latency 6.0 ms, at most 5.0 ms asked"


def test_a_budget_is_written_as_in_the_lines_above_it():
    line = share_line(
        "robust linf 0.03137", "robust accuracy at L∞ 8/255", np.ones(100), np.repeat([1.0, 0.0], 50)
    )
    accuracy = share_line("accuracy", "accuracy", np.ones(100), np.ones(100))
    found = judge(
        limits_of(min_robust="0.4@linf:8/255"),
        [accuracy, line],
        robust_of={("linf", 8 / 255): (50, 100)},
        seconds=None,
    )
    assert found[0].sentence.startswith("kept: robust accuracy at L∞ 8/255 50.0 %, at least 40.0 % asked")


def test_a_limit_that_is_a_number_is_refused_in_one_sentence():
    with pytest.raises(UserError, match="expected SHARE@NORM:SIZE"):
        limits_of(min_robust=3)
    assert limits_of(min_robust=("0.4@8/255",)) == limits_of(min_robust="0.4@8/255")
