"""Measuring a study: which networks, against which, once; with a clock that counts multiply-adds."""

import json
import shutil

import pytest
from torch.utils.flop_counter import FlopCounterMode

from secateur.errors import ExitCode, UserError
from secateur.models import Latency
from secateur.report.aggregate import aggregate
from secateur.report.latency import latency_and_macs
from secateur.report.load import load
from secateur.store import LATENCIES, Store, read_latencies
from secateur.study import latency
from secateur.study.latency import measure_latencies
from whole import TINY, run_here

NANO = 1e-9


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A study with a masked and a structured criterion, fine-tuned."""
    out = tmp_path_factory.mktemp("latency") / "run"
    run_here(TINY, out, "criteria=[l1, weight_magnitude]")
    return out


@pytest.fixture
def folder(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


class Clock:
    """A nanosecond per multiply-add; may be interrupted after some measurements."""

    def __init__(self, lasts=99):
        self.lasts, self.measured = lasts, 0

    def __call__(self, calls, *, seconds, threads):
        if self.measured == self.lasts:
            raise KeyboardInterrupt
        self.measured += 1
        return [self.once(call, threads) for call in calls]

    def once(self, call, threads):
        with FlopCounterMode(display=False) as counter:
            call()
        time = counter.get_total_flops() / 2 * NANO
        return Latency(time, 0.9 * time, 1.1 * time, 40, threads, turns=(time,) * 10)


@pytest.fixture
def clock(monkeypatch):
    def use(clock):
        monkeypatch.setattr(latency, "time_calls", clock)
        return clock

    return use


def rows_of(folder):
    """What was measured, by the label of the cell."""
    labels = {cell.id: cell.label for cell in Store.open(folder).cells}
    return {labels[id_]: row for id_, row in read_latencies(folder).rows.items()}


def content(folder):
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file() and p.name != LATENCIES}


@pytest.mark.slow
def test_every_trained_and_pruned_network_is_measured_against_its_dense_one(folder, clock):
    before, clock = content(folder), clock(Clock())
    done = measure_latencies(folder, threads=1)
    rows = rows_of(folder)
    assert set(rows) == {"train net/0", "prune net/0 l1 0.5", "prune net/0 weight_magnitude 0.5"}
    assert (done.measured, done.kept, done.unfinished, done.without) == (3, 0, (), {})
    store = Store.open(folder)
    science = {cell.label: store.record(cell.id).to_json()["science"] for cell in store.cells}
    dense = science["train net/0"]["macs"]
    for label, row in rows.items():
        assert row.seconds.median == pytest.approx(science[label]["macs"] * NANO)
        assert row.dense_seconds.median == pytest.approx(dense * NANO)
        assert row.share.median == pytest.approx(science[label]["macs"] / dense)
        assert (row.weights, row.turns) == (science[label]["weights_hash"], 10)
    # Zeros take as long as other numbers do, and as much memory.
    masked, cut = rows["prune net/0 weight_magnitude 0.5"], rows["prune net/0 l1 0.5"]
    assert masked.share.median == 1
    assert masked.peak_bytes == masked.dense_peak_bytes > cut.peak_bytes > 0
    assert cut.share.median < 0.5
    assert content(folder) == before


@pytest.mark.slow
def test_in_rounds_the_last_pruning_stands_for_the_network(tmp_path, clock):
    clock(Clock())
    rounds = ("pruning.schedule=iterative", "pruning.rounds=2", "controls.untuned=false")
    store, _ = run_here(TINY, tmp_path / "run", *rounds)
    measure_latencies(store.root)
    assert set(rows_of(store.root)) == {"train net/0", "prune net/0 l1 0.5 standard round 2 towards 0.5"}
    grid = aggregate(load(store.root))
    promised = latency_and_macs(grid, "net", "l1", 0.5)
    assert promised.latency.share == pytest.approx(promised.macs)
    assert promised.macs < 0.5
    assert all(network.latency for network in grid.study.networks)


def test_a_batch_takes_as_often_as_long(folder, clock):
    clock(Clock())
    measure_latencies(folder)
    one = rows_of(folder)["train net/0"]
    measure_latencies(folder, batch=4, again=True)
    four = rows_of(folder)["train net/0"]
    assert four.seconds.median == pytest.approx(4 * one.seconds.median)
    assert four.peak_bytes > one.peak_bytes
    assert read_latencies(folder).conditions.batch == 4


def test_what_is_measured_is_kept_until_it_is_asked_for_again(folder, clock):
    first = clock(Clock())
    measure_latencies(folder)
    assert first.measured == 3
    second = clock(Clock())
    done = measure_latencies(folder)
    assert (second.measured, done.measured, done.kept) == (0, 0, 3)
    measure_latencies(folder, again=True)
    assert second.measured == 3


def test_an_interrupted_measurement_goes_on_where_it_was(folder, clock):
    clock(Clock(lasts=2))
    with pytest.raises(KeyboardInterrupt):
        measure_latencies(folder)
    assert len(rows_of(folder)) == 2
    rest = clock(Clock())
    told = []
    done = measure_latencies(folder, on_progress=lambda *progress: told.append(progress))
    assert (rest.measured, done.measured, done.kept) == (1, 1, 2)
    assert told == [(0, 1), (1, 1)]


def check_that_a_changed_network_is_measured_again(folder, clock):
    clock(Clock())
    measure_latencies(folder)
    path = folder / LATENCIES
    data = json.loads(path.read_text())
    del data["self_hash"]  # whoever changes it on purpose seals it again, or not at all
    victim = next(iter(data["rows"]))
    data["rows"][victim]["weights"] = "of another training"
    path.write_text(json.dumps(data))
    done = measure_latencies(folder)
    assert (done.measured, done.kept) == (1, 2)
    assert "another" not in path.read_text()


def test_a_network_with_other_weights_is_measured_again(folder, clock):
    check_that_a_changed_network_is_measured_again(folder, clock)


def test_rows_that_are_kept_whatever_the_weights_are_caught(folder, clock, monkeypatch):
    monkeypatch.setattr(latency, "_is_of", lambda row, store: True)
    with pytest.raises(AssertionError):
        check_that_a_changed_network_is_measured_again(folder, clock)


def test_rows_of_other_conditions_are_not_mixed(folder, clock):
    clock(Clock())
    measure_latencies(folder, threads=1)
    before = (folder / LATENCIES).read_bytes()
    with pytest.raises(
        UserError, match=r"batches of 1, 1 CPU thread, .* this would be batches of 8"
    ) as refused:
        measure_latencies(folder, threads=1, batch=8)
    assert "--again" in refused.value.command
    assert "again=True" in refused.value.hint
    assert refused.value.code is ExitCode.BAD_INPUT
    assert (folder / LATENCIES).read_bytes() == before


def test_no_images_are_needed(folder, clock, monkeypatch):
    def missing(*args, **kwargs):
        raise AssertionError("the images were asked for")

    clock(Clock())
    monkeypatch.setattr("secateur.data.load_splits", missing)
    monkeypatch.setattr("secateur.stages.networks.splits_of", missing)
    assert measure_latencies(folder).measured == 3


def test_networks_whose_weights_are_elsewhere_are_named_and_the_rest_is_measured(folder, clock):
    clock(Clock())
    store = Store.open(folder)
    victim = next(cell for cell in store.cells if cell.label == "prune net/0 l1 0.5")
    for name in store.record(victim.id).artefacts:
        (folder / "cells" / victim.id[:2] / victim.id / name).unlink()
    done = measure_latencies(folder)
    assert set(done.without) == {"prune net/0 l1 0.5"}
    why = done.without["prune net/0 l1 0.5"]
    assert why == "the weights of the network are not here, only the record"
    assert set(rows_of(folder)) == {"train net/0", "prune net/0 weight_magnitude 0.5"}


def test_records_alone_lose_nothing_that_was_measured(folder, clock):
    """As a published study is: the records and what was measured, no weights."""
    clock(Clock())
    measure_latencies(folder)
    for path in (folder / "cells").rglob("*"):
        if path.is_file() and path.name != "record.json":
            path.unlink()
    done = measure_latencies(folder)
    assert (done.measured, done.kept, done.without) == (0, 3, {})


def test_a_pruned_network_without_its_dense_one_is_named(folder, clock):
    clock(Clock())
    store = Store.open(folder)
    dense = next(cell for cell in store.cells if cell.stage == "train")
    shutil.rmtree(folder / "cells" / dense.id[:2] / dense.id)
    done = measure_latencies(folder)
    assert done.unfinished == ("train net/0",)
    assert set(done.without.values()) == {"its dense network is not finished"}
    assert done.measured == 0


def test_there_is_nothing_to_measure_before_a_network_is_finished(folder):
    shutil.rmtree(folder / "cells")
    with pytest.raises(UserError, match="nothing to measure yet") as refused:
        measure_latencies(folder)
    assert refused.value.code is ExitCode.BAD_INPUT
    assert not (folder / LATENCIES).exists()


@pytest.mark.parametrize("options", [{"batch": 0}, {"batch": True}, {"batch": 1.5}, {"threads": 0}])
def test_what_is_no_number_of_images_or_threads_is_refused(folder, options):
    with pytest.raises(UserError, match="must be a positive integer"):
        measure_latencies(folder, **options)


def test_a_device_that_is_not_here_is_the_environments(folder):
    with pytest.raises(UserError, match="no device cuda:99") as refused:
        measure_latencies(folder, device="cuda:99")
    assert refused.value.code is ExitCode.ENVIRONMENT


def test_a_study_measured_in_earnest_says_under_what(folder):
    done = measure_latencies(folder, seconds=0.02, threads=1)
    rows = rows_of(folder)
    assert all(row.turns >= 4 and row.seconds.low <= row.seconds.median for row in rows.values())
    stored = read_latencies(folder).conditions
    assert done.conditions == stored
    assert (stored.batch, stored.threads, stored.device) == (1, 1, "cpu")
    assert stored.torch
    assert stored.processor
