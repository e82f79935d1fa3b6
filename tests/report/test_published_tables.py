"""What the published tables say of networks that classify next to nothing."""

import csv
from pathlib import Path

TABLES = sorted((Path(__file__).parents[2] / "results").glob("*/tables/summary.csv"))


def rows():
    return [row for path in TABLES for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines())]


def test_no_published_network_below_a_quarter_of_accuracy_is_given_a_share_or_a_good_grade():
    assert TABLES
    poor = [row for row in rows() if float(row["test_accuracy"]) < 0.25]
    assert poor
    assert {row["left"] for row in poor} == {""}
    assert {row["grade"] for row in poor} <= {"C", "X"}


def test_every_published_share_says_on_how_many_images():
    stated = [row for row in rows() if row["left"]]
    assert stated
    assert all(float(row["left_images"]) >= 30 for row in stated)
