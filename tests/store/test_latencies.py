"""latency.json: what was measured comes back as it was; what cannot be believed is refused in a sentence."""

import json

import pytest

from secateur.config import Cell
from secateur.errors import ExitCode, UserError
from secateur.store import (
    LATENCIES,
    Conditions,
    Latencies,
    Measured,
    Spread,
    architecture_cell,
    dense_cell,
    read_latencies,
    write_latencies,
)

ID, DENSE = "a" * 32, "d" * 32
MEASURED = Latencies(
    Conditions(1, 2, "cpu", "A Processor", "2.13.0"),
    {
        ID: Measured(
            cell=ID,
            weights="w",
            dense=DENSE,
            dense_weights="v",
            seconds=Spread(0.001, 0.002, 0.003),
            dense_seconds=Spread(0.003, 0.004, 0.005),
            share=Spread(0.4, 0.5, 0.6),
            turns=12,
            peak_bytes=1000,
            dense_peak_bytes=4000,
        )
    },
)


def cell(id_, stage, parent):
    return Cell(id_, stage, parent, {}, "pruned", {})


def test_what_was_measured_comes_back_as_it_was(tmp_path):
    assert read_latencies(tmp_path) is None
    write_latencies(tmp_path, MEASURED)
    assert read_latencies(tmp_path) == MEASURED
    assert [path.name for path in tmp_path.iterdir()] == [LATENCIES]


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.pop("rows"),
        lambda data: data.pop("schema_version"),
        lambda data: data["conditions"].pop("batch"),
        lambda data: data["rows"][ID].pop("share"),
        lambda data: data["rows"][ID]["share"].update(low=0.9),
        lambda data: data["rows"][ID]["seconds"].update(low=0.0),
        lambda data: data["rows"][ID].update(dense="../../etc"),
        lambda data: data["rows"].update({"../cells": data["rows"][ID]}),
        lambda data: data.update(rows=[]),
    ],
    ids=["rows", "schema", "conditions", "share", "quartiles", "no time", "dense", "cell", "list"],
)
def test_a_file_that_makes_no_sense_is_refused_in_one_sentence(tmp_path, change):
    write_latencies(tmp_path, MEASURED)
    path = tmp_path / LATENCIES
    data = json.loads(path.read_text())
    del data["self_hash"]  # as in a file of an older version
    change(data)
    path.write_text(json.dumps(data))
    with pytest.raises(UserError, match="is damaged") as refused:
        read_latencies(tmp_path)
    assert refused.value.code is ExitCode.BAD_INPUT
    assert "\n" not in refused.value.message


def test_a_changed_number_is_noticed_and_a_file_of_an_older_version_is_read(tmp_path):
    write_latencies(tmp_path, MEASURED)
    path = tmp_path / LATENCIES
    text = path.read_text()
    path.write_text(text.replace('"turns": 12', '"turns": 13'))
    with pytest.raises(UserError, match="was edited"):
        read_latencies(tmp_path)
    path.write_text(json.dumps({key: value for key, value in json.loads(text).items() if key != "self_hash"}))
    assert read_latencies(tmp_path) == MEASURED


def test_a_truncated_file_is_refused_and_one_of_a_newer_version_too(tmp_path):
    (tmp_path / LATENCIES).write_text('{"schema_')
    with pytest.raises(UserError, match="is damaged"):
        read_latencies(tmp_path)
    (tmp_path / LATENCIES).write_text('{"schema_version": 99}')
    with pytest.raises(UserError, match="newer") as refused:
        read_latencies(tmp_path)
    assert refused.value.code is ExitCode.FOREIGN_FOLDER


def check_that_fine_tuning_changes_no_architecture():
    chain = [
        cell("t", "train", None),
        cell("p", "prune", "t"),
        cell("f", "tune", "p"),
        cell("q", "prune", "f"),
        cell("g", "tune", "q"),
        cell("c", "tune", "t"),
        cell("e", "tune", "c"),
    ]
    cells = {each.id: each for each in chain}
    own = {id_: architecture_cell(cells, each).id for id_, each in cells.items()}
    assert own == {"t": "t", "p": "p", "f": "p", "q": "q", "g": "q", "c": "t", "e": "t"}
    assert {dense_cell(cells, each).id for each in chain} == {"t"}


def test_a_network_has_the_architecture_of_what_it_was_tuned_from_also_in_rounds():
    check_that_fine_tuning_changes_no_architecture()


def test_taking_the_dense_network_for_it_is_caught(monkeypatch):
    monkeypatch.setitem(globals(), "architecture_cell", dense_cell)
    with pytest.raises(AssertionError):
        check_that_fine_tuning_changes_no_architecture()
