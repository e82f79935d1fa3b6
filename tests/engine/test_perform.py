import errno
import os

import pytest
from safetensors import SafetensorError

from secateur.config import study_from_json
from secateur.engine.perform import (
    Stopped,
    _environment,
    commit_failure,
    load_execute,
    open_run,
    perform,
)
from secateur.errors import ExitCode, UserError
from secateur.store import Parts, Store
from toy.numbers import numbers_of, record_of
from toy.study import small_plan

CELL = small_plan().cells[0]


@pytest.fixture
def store(tmp_path):
    return Store.create(tmp_path / "run", small_plan().to_json())


def carry_out(store, execute, **settings):
    return perform(store, study_from_json(store.study["config"]), CELL, execute, **settings)


def test_a_cell_that_is_done_is_not_done_again(store):
    assert carry_out(store, lambda *a, on_progress: Parts(numbers_of("train", value=1))) == "ok"
    assert carry_out(store, None) == "ok"
    assert store.record(CELL.id).science == numbers_of("train", value=1)


def test_a_run_folder_holds_everything_that_a_worker_needs(store):
    again, study, cells = open_run(str(store.root))
    assert study.attacks["ddn"].steps == 10
    assert [cell.to_json() for cell in cells.values()] == [cell.to_json() for cell in small_plan().cells]
    assert again.root == store.root


def test_whatever_a_stage_raises_is_recorded(store):
    def execute(*args, on_progress):
        raise KeyError("surprise")

    assert carry_out(store, execute) == "failed"
    error = store.record(CELL.id).error
    assert error.sentence == "KeyError: 'surprise'"
    assert 'raise KeyError("surprise")' in error.traceback


def test_a_users_mistake_is_recorded_in_its_own_words(store):
    def execute(*args, on_progress):
        raise UserError("the training diverged", hint="lower the learning rate")

    assert carry_out(store, execute) == "failed"
    assert store.record(CELL.id).reason == "the training diverged (lower the learning rate)"


def test_numbers_that_are_not_finite_fail_the_cell(store):
    numbers = numbers_of("train", value=float("nan"))
    assert carry_out(store, lambda *a, on_progress: Parts(numbers)) == "failed"
    assert "NaN" in store.record(CELL.id).reason


@pytest.mark.parametrize(
    "error",
    [
        UserError("no such device", code=ExitCode.ENVIRONMENT),
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    ],
)
def test_trouble_of_the_machine_leaves_no_record(store, error):
    def execute(*args, on_progress):
        raise error

    with pytest.raises(UserError) as caught:
        carry_out(store, execute)
    assert caught.value.code == ExitCode.ENVIRONMENT
    assert store.record(CELL.id) is None


def hidden(text):
    raise SafetensorError(text)


def wrapped(error):
    try:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), "weights.safetensors")
    except OSError as cause:
        raise error from cause


@pytest.mark.parametrize(
    "fail",
    [
        lambda: wrapped(UserError("cannot write to 'network'", hint="choose another folder")),
        lambda: wrapped(RuntimeError("nothing was saved")),
        # As safetensors says it, without a number that a program could read.
        lambda: hidden("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_trouble_of_the_disk_is_seen_through_the_errors_that_hide_it(store, fail):
    def execute(*args, on_progress):
        fail()

    with pytest.raises(UserError) as caught:
        carry_out(store, execute)
    assert caught.value.code == ExitCode.ENVIRONMENT
    assert store.record(CELL.id) is None


def test_a_run_folder_that_is_taken_away_is_no_failure_of_the_cell(store):
    def execute(*args, on_progress):
        store.root.rename(store.root.with_name("elsewhere"))
        raise FileNotFoundError(errno.ENOENT, "gone", "weights.safetensors")

    with pytest.raises(UserError, match="is gone") as caught:
        carry_out(store, execute)
    assert caught.value.code == ExitCode.ENVIRONMENT


def test_a_missing_file_is_the_cells_own_failure(store):
    def execute(*args, on_progress):
        raise FileNotFoundError(errno.ENOENT, "gone", "x")

    assert carry_out(store, execute) == "failed"


def test_an_early_end_leaves_no_record_even_if_the_stage_catches_exceptions(store):
    def stop(done, total):
        raise Stopped

    def execute(study, cell, store, *, on_progress):
        try:
            on_progress(1, 2)
        except Exception:
            return Parts(numbers_of("train"))
        return Parts(numbers_of("train"))

    with pytest.raises(Stopped):
        carry_out(store, execute, on_progress=stop)
    assert store.record(CELL.id) is None


def test_a_failure_under_the_feet_of_a_faster_runner_counts_as_done(store):
    def execute(*args, on_progress):
        Store.open(store.root).commit(record_of(CELL))
        raise FileNotFoundError("the other one has cleared the scratch folder")

    assert carry_out(store, execute) == "ok"
    assert store.committed(CELL.id)


def test_a_failure_can_be_recorded_from_outside(store):
    commit_failure(store, CELL, "skipped", seconds=2)
    assert not store.record(CELL.id).ok
    assert store.record(CELL.id).timing.seconds >= 2


def test_the_stages_own_timings_are_kept(store):
    parts = Parts(numbers_of("train"), timing={"times": [1.0], "seconds": 99})
    carry_out(store, lambda *a, on_progress: parts)
    timing = store.record(CELL.id).timing
    assert timing.times == [1]
    assert timing.seconds < 99


def test_a_stage_function_is_named_by_module_and_attribute():
    assert load_execute("os.path:join") is os.path.join


def test_what_is_the_same_for_every_cell_is_looked_up_once(store, monkeypatch):
    asked = []
    _environment.cache_clear()
    monkeypatch.setattr("secateur.engine.perform.version", lambda package: asked.append(package) or "1")
    try:
        for _ in range(2):
            commit_failure(store, CELL, "no reason")
    finally:
        _environment.cache_clear()
    assert len(asked) == len(set(asked)) > 0
