"""A study with a criterion on adversarial images, and arms that recalibrate and distil, runs as a whole."""

import json

import pytest

import secateur

STUDY = """
name: arms
seed: 0
data: {spec: digits}
models:
  plain: {arch: resnet-tiny, settings: {widths: [6, 8]}, recipe: {epochs: 3, batch_size: 64}}
criteria: [robust_taylor]
sparsities: [0.5]
finetune:
  bn: {epochs: 0, recalibrate: true}
  standard: {epochs: 1, batch_size: 64, learning_rate: 0.05}
  distilled: {epochs: 1, batch_size: 64, learning_rate: 0.05, distillation: {weight: 1.0}}
seeds: [0]
images: 4
attacks: {ddn: {attack: ddn, steps: 2}}
"""


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("arms")
    (folder / "arms.yaml").write_text(STUDY)
    secateur.run(folder / "arms.yaml", out=folder / "run")
    return [json.loads(path.read_text()) for path in (folder / "run" / "cells").rglob("record.json")]


def pruned(records, arm):
    (record,) = [
        record
        for record in records
        if record["stage"] == "tune" and record["axes"]["arm"] == arm and record["axes"]["sparsity"] == 0.5
    ]
    return record


@pytest.mark.slow
def test_every_cell_is_finished(records):
    assert {record["status"] for record in records} == {"ok"}
    assert {record["axes"]["criterion"] for record in records} == {None, "robust_taylor"}


@pytest.mark.slow
def test_recalibration_changes_statistics_and_trains_nothing(records):
    recalibrated = pruned(records, "bn")
    (before,) = [record for record in records if record["stage"] == "prune"]
    assert recalibrated["science"]["history"] == []
    assert recalibrated["science"]["weights_hash"] != before["science"]["weights_hash"]
    assert recalibrated["science"]["parameters"] == before["science"]["parameters"]


@pytest.mark.slow
def test_distillation_learns_something_else_than_the_labels(records):
    standard, distilled = (pruned(records, arm)["science"] for arm in ("standard", "distilled"))
    assert distilled["history"][0]["loss"] != standard["history"][0]["loss"]
    assert distilled["weights_hash"] != standard["weights_hash"]
