"""The main job, end to end: real data, real stages, real processes."""

import json
import random
import shutil
import time

import pytest

from toy.study import science as records
from whole import STUDY, finish, kill, start

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    path = tmp_path_factory.mktemp("study") / "whole.yaml"
    path.write_text(STUDY)
    return path


@pytest.fixture(scope="module")
def uninterrupted(study, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "uninterrupted"
    code, said = finish(start(study, out, "--jobs", "2", drawn=True))
    assert code == 0, said
    return out


def test_a_study_leaves_one_sound_record_per_cell_and_a_report(uninterrupted):
    found = [json.loads(text) for text in records(uninterrupted).values()]
    assert {record["status"] for record in found} == {"ok"}
    stages = [record["stage"] for record in found]
    assert {stage: stages.count(stage) for stage in set(stages)} == {
        "train": 1,
        "prune": 2,
        "tune": 3,
        "attack": 12,
    }
    assert (uninterrupted / "report" / "index.html").stat().st_size > 10_000
    assert (uninterrupted / "report" / "index.html").read_text(encoding="utf-8").count("<figure ") > 4


def test_the_controls_stand_beside_the_pruned_networks(uninterrupted):
    roles = {json.loads(text)["role"] for text in records(uninterrupted).values()}
    assert roles == {"dense", "dense_tuned", "untuned", "pruned"}


def test_one_job_and_two_jobs_give_the_same_records(study, uninterrupted, tmp_path):
    code, said = finish(start(study, tmp_path / "one", "--jobs", "1"))
    assert code == 0, said
    assert records(tmp_path / "one") == records(uninterrupted)


def test_a_study_killed_at_three_random_moments_ends_with_the_same_records(study, uninterrupted, tmp_path):
    moments = random.Random()
    seed = moments.randrange(2**32)
    moments.seed(seed)
    out, killed = tmp_path / "killed", 0
    for _ in range(3):
        process = start(study, out, "--jobs", "2")
        time.sleep(moments.uniform(1.0, 5.0))
        # The last run may have been quick to do what the first ones had left.
        if process.poll() is None:
            kill(process)
            killed += 1
    code, said = finish(start(study, out, "--jobs", "2"))
    assert code == 0, (seed, said)
    assert killed, f"no run was long enough to be killed (seed {seed})"
    assert records(out) == records(uninterrupted), f"seed {seed}"


def test_a_second_run_has_nothing_left_to_do(study, uninterrupted):
    before = records(uninterrupted)
    code, said = finish(start(study, uninterrupted))
    assert code == 0
    assert "18 of 18 cells are done" in said
    assert records(uninterrupted) == before


def test_a_changed_number_in_one_record_is_noticed(uninterrupted, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(uninterrupted / "cells", copy / "cells")
    path = next(copy.glob("cells/*/*/record.json"))
    record = json.loads(path.read_text())
    record["science"]["accuracy"] = 0
    path.write_text(json.dumps(record))
    assert records(copy) != records(uninterrupted)
