"""secateur report: measuring on request, and what it says when there is little to measure."""

import re
import shutil

import pytest

from report import pictures
from report.clocked import measure, slowly
from report.synthetic import Grid, write
from secateur.cli import report as measuring
from secateur.report import figures
from secateur.store import LATENCIES, read_latencies
from secateur.study import latency
from whole import TINY, run_here


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("report") / "run"
    run_here(TINY, out)
    return out


@pytest.fixture
def folder(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(latency.measure_latencies, "__kwdefaults__", QUICK)
    # Figures take their time; that they are drawn is tested where they are.
    monkeypatch.setattr("secateur.report.figures.plans", lambda grid, change: [])
    return shutil.copytree(finished, tmp_path / "run")


QUICK = {**latency.measure_latencies.__kwdefaults__, "seconds": 0.02}


@pytest.mark.slow
def test_latency_is_measured_on_request_and_shown_ever_after(secateur, folder):
    said = secateur("report", folder, "--latency", "--threads", 1)
    assert said.code == 0
    assert "measuring 2 networks in turns with the dense ones" in said.err
    assert "measured 2 and kept 0 networks" in said.err
    assert "1 CPU thread" in said.err
    assert "latency: net, at sparsity 0.5, " in said.out
    stored = (folder / LATENCIES).read_bytes()
    again = secateur("report", folder)
    assert "latency: net, at sparsity 0.5, " in again.out
    assert "measur" not in again.err
    assert (folder / LATENCIES).read_bytes() == stored
    assert "measured-latency" in (folder / "report" / "index.html").read_text()
    kept = secateur("report", folder, "--latency", "--threads", 1, "--json")
    assert "measured 0 and kept 2" in kept.err
    assert [row["model"] for row in kept.json["latency"]] == ["net"]
    assert (folder / LATENCIES).read_bytes() == stored


@pytest.mark.slow
def test_where_there_is_no_terminal_a_line_now_and_then_says_how_long_it_takes(secateur, folder, monkeypatch):
    monkeypatch.setattr(measuring, "LINE_SECONDS", 0.0)
    said = secateur("report", folder, "--latency")
    assert re.search(r"1 of 2 networks measured, \d+ s left", said.err)
    monkeypatch.setattr(measuring, "LINE_SECONDS", 60.0)
    assert "left" not in secateur("report", folder, "--latency", "--again").err


@pytest.mark.slow
def test_an_interrupted_measurement_says_how_it_goes_on(secateur, folder, monkeypatch):
    real, measured = latency.time_calls, []

    def interrupted(*args, **kwargs):
        if measured:
            raise KeyboardInterrupt
        measured.append(1)
        return real(*args, **kwargs)

    monkeypatch.setattr(latency, "time_calls", interrupted)
    said = secateur("report", folder, "--latency")
    assert (said.code, "same command without --again continues" in said.err) == (130, True)
    monkeypatch.setattr(latency, "time_calls", real)
    assert "measured 1 and kept 1" in secateur("report", folder, "--latency").err


@pytest.mark.slow
def test_another_batch_asks_for_again(secateur, folder):
    secateur("report", folder, "--latency", "--threads", 1)
    said = secateur("report", folder, "--latency", "--threads", 1, "--batch", 3)
    assert said.code == 2
    assert "this would be batches of 3" in said.err
    assert "--again" in said.err
    said = secateur("report", folder, "--latency", "--threads", 1, "--batch", 3, "--again")
    assert (said.code, read_latencies(folder).conditions.batch) == (0, 3)


def test_records_alone_are_reported_and_the_missing_weights_are_named(secateur, folder):
    for path in (folder / "cells").rglob("*"):
        if path.is_file() and path.name != "record.json":
            path.unlink()
    said = secateur("report", folder, "--latency")
    assert said.code == 0
    assert "not measured: train net/0, prune net/0 l1 0.5" in said.err
    assert "the weights of the network are not here, only the record" in said.err
    assert "measured 0" not in said.err
    assert "report:" in said.out
    assert not (folder / LATENCIES).exists()


def test_a_run_without_networks_has_nothing_to_measure_yet(secateur, tmp_path):
    everything = (("train", "plain", 0, None, 0.0, None, None),)
    run = write(tmp_path / "run", Grid(models={"plain": False}, seeds=(0,), absent=everything, failed=()))
    said = secateur("report", run, "--latency")
    assert said.code == 2
    assert "nothing to measure yet" in said.err
    assert "Traceback" not in said.err


def test_a_folder_without_a_study_and_a_device_that_is_not_here_are_said(secateur, folder, tmp_path):
    said = secateur("report", tmp_path, "--latency")
    assert (said.code, "is not a run folder" in said.err) == (2, True)
    said = secateur("report", folder, "--latency", "--device", "cuda:99")
    assert (said.code, "no device cuda:99" in said.err) == (5, True)


@pytest.mark.parametrize(
    "options", [("--again",), ("--batch", 2), ("--threads", 1), ("--device", "cpu")], ids=lambda o: o[0]
)
def test_options_of_a_measurement_without_one_are_refused(secateur, folder, options):
    said = secateur("report", folder, *options)
    assert said.code == 2
    assert "need --latency" in said.err


@pytest.mark.slow
def test_a_damaged_file_of_latencies_is_measured_afresh_only_on_request(secateur, folder):
    (folder / LATENCIES).write_text("{")
    assert secateur("report", folder).code == 0
    said = secateur("report", folder, "--latency")
    assert (said.code, "is damaged" in said.err, "--again" in said.err) == (2, True, True)
    assert secateur("report", folder, "--latency", "--again").code == 0
    assert len(read_latencies(folder).rows) == 2


def test_networks_that_are_not_finished_are_named(secateur, folder):
    (pruned,) = [p.parent for p in folder.glob("cells/*/*/record.json") if '"prune"' in p.read_text()]
    shutil.rmtree(pruned)
    said = secateur("report", folder, "--latency")
    assert said.code == 0
    assert "not finished yet, so not measured: prune net/0 l1 0.5" in said.err


@pytest.mark.slow
def test_a_report_of_published_latencies_needs_no_networks(secateur, tmp_path, monkeypatch):
    monkeypatch.setattr("secateur.report.figures.plans", lambda grid, change: [])
    run = measure(write(tmp_path / "run", Grid(models={"plain": False}, seeds=(0,), failed=())), slowly)
    said = secateur("report", run)
    assert (said.code, "latency: plain, at sparsity 0.4" in said.out) == (0, True)


@pytest.mark.slow
def test_figures_become_files_on_request_and_the_way_there_is_said(secateur, tmp_path, monkeypatch):
    planned = figures.plans
    monkeypatch.setattr(figures, "plans", lambda grid, change: planned(grid, change)[:1])
    run = write(tmp_path / "run", Grid(models={"plain": False}, seeds=(0,), failed=()))
    told = secateur("report", run)
    assert f"figures: on the page; as files: secateur report {run} --figures pdf\n" in told.out
    elsewhere = secateur("report", run, "--out", tmp_path / "out")
    assert f"secateur report {run} --out {tmp_path / 'out'} --figures pdf\n" in elsewhere.out
    said = secateur("report", run, "--figures", "pdf, png")
    assert f"figures: {run / 'report' / 'figures'} (2 files, PDF and PNG)\n" in said.out
    assert len(list((run / "report" / "figures").iterdir())) == 2
    refused = secateur("report", run, "--figures", "postscript")
    assert (refused.code, "choose from pdf, png, svg" in refused.err) == (2, True)


@pytest.mark.slow
def test_a_page_to_pass_on_can_do_without_images_of_the_data(secateur, tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "draw", lambda grid, change: iter(()))
    run = pictures.write(tmp_path / "run")
    page = run / "report" / "index.html"
    for options, expected in (((), True), (("--no-pictures",), False)):
        assert secateur("report", run, *options).code == 0
        assert ("data:image/png" in page.read_text(encoding="utf-8")) is expected


@pytest.mark.parametrize("command", ["report", "transfer"])
def test_a_file_in_the_place_of_a_folder_is_said_first(secateur, folder, tmp_path, command):
    (tmp_path / "mine").write_text("mine")
    said = secateur(command, folder, "--out", tmp_path / "mine")
    assert said.code == 2
    assert "mine is a file, not a folder" in said.err
    assert (tmp_path / "mine").read_text() == "mine"
