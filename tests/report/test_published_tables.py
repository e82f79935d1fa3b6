"""Published tables come out of the published records, and do not flatter networks that know nothing."""

import csv
import math
import tarfile
from itertools import zip_longest
from pathlib import Path

import pytest

from secateur.report import report

RESULTS = Path(__file__).parents[2] / "results"
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


def columns(path):
    """The values of a table by column."""
    head, *lines = csv.reader(path.read_text(encoding="utf-8").splitlines())
    return {name: [line[i] for line in lines] for i, name in enumerate(head)}


# Logarithms and their inverse are off by a few rounding errors, by which ones depends on the processor; sums
# of hundreds of them differ by no more than this.
ROUNDING = 64 * 2.0**-52


def same(one, other):
    """Whether two entries are the same text, or the same number up to rounding."""
    try:
        numbers = float(one), float(other)
    except (TypeError, ValueError):
        return one == other
    return one == other or math.isclose(*numbers, rel_tol=ROUNDING, abs_tol=0.0)


def differences(one, other):
    """What differs between the columns of one table and those of the same name of another."""
    return {
        (name, row): (was, now)
        for name, values in one.items()
        for row, (was, now) in enumerate(zip_longest(values, other.get(name, ())))
        if not same(was, now)
    }


@pytest.mark.slow
def test_the_published_tables_are_those_of_the_published_records_up_to_rounding(tmp_path, undrawn):
    published = RESULTS / "cifar10-seeds"
    with tarfile.open(published / "records.tar.xz") as archive:
        archive.extractall(tmp_path / "run", filter="data")
    made = report(tmp_path / "run").index.parent / "tables"
    tables = sorted((published / "tables").glob("*.csv"))
    assert len(tables) > 4
    for table in tables:
        # A version may show more than the one that made the published files.
        assert differences(columns(table), columns(made / table.name)) == {}, table.name


def test_a_digit_that_no_rounding_changes_is_a_difference():
    was = {"left": ["0.9721541745180412", ""], "grade": ["A", "C"]}
    assert differences(was, {**was, "left": ["0.9721541745180413", ""], "more": ["1", "2"]}) == {}
    for left in (["0.9721541745190412", ""], ["0.9721541745180412", "0.5"], ["", ""], ["0.9721541745180412"]):
        assert differences(was, {**was, "left": left})
    assert differences(was, {"left": was["left"]})
    assert differences(was, {**was, "grade": ["A", "B"]}) == {("grade", 1): ("C", "B")}
