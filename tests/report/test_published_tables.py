"""Published tables come out of the published records, and do not flatter networks that know nothing."""

import csv
import tarfile
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


@pytest.mark.slow
def test_the_published_tables_are_those_of_the_published_records_to_the_last_digit(tmp_path, undrawn):
    published = RESULTS / "cifar10-seeds"
    with tarfile.open(published / "records.tar.xz") as archive:
        archive.extractall(tmp_path / "run", filter="data")
    made = report(tmp_path / "run").index.parent / "tables"
    tables = sorted((published / "tables").glob("*.csv"))
    assert len(tables) > 4
    for table in tables:
        # A version may show more than the one that made the published files.
        now = columns(made / table.name)
        assert {name: now.get(name) for name in columns(table)} == columns(table), table.name
