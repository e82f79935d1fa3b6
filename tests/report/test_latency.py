"""Measured latency in reports: beside the multiply-adds, of the networks that were measured, nowhere else."""

import csv
import io
import json
import shutil
import subprocess
import sys

import pytest

from report.clocked import DENSE_SECONDS, SMALL, grid_of, measure, slowly, spaced
from report.synthetic import Grid, write
from secateur.errors import ExitCode, UserError
from secateur.report import latency, page, report
from secateur.report.aggregate import GridPoint
from secateur.report.cards import cards
from secateur.report.formatting import to_csv
from secateur.report.load import load
from secateur.report.paired_changes import changes
from secateur.report.summary import summary
from secateur.report.tables import networks
from secateur.store import LATENCIES, architecture_cell

# The least that has everything, where a whole report is wanted.
LEAST = SMALL | {"models": {"plain": False}, "seeds": (0,), "sparsities": (0.0, 0.4)}


@pytest.fixture
def least(tmp_path):
    return write(tmp_path / "least", Grid(**LEAST))


def csv_rows(table):
    return list(csv.DictReader(io.StringIO(to_csv(table))))


def answers(grid):
    return [(model, spaced(sentence)) for model, sentence in latency.latency_sentences(grid)]


def files(folder):
    paths = report(folder)
    root = paths.index.parent
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def check_that_fine_tuned_networks_inherit(folder):
    study = load(folder)
    rows = {(n.axes.model, n.axes.seed, n.axes.sparsity, n.axes.arm): n.latency for n in study.networks}
    assert len(rows) == 2 * 2 * 3 * 2
    for (model, seed, sparsity, arm), row in rows.items():
        assert row is rows[model, seed, sparsity, "none"], arm
        assert row.share.median == pytest.approx((1 - 0.5 * sparsity) * (1 + 0.02 * seed))


def test_a_fine_tuned_network_has_the_latency_of_the_one_it_was_tuned_from(measured):
    check_that_fine_tuned_networks_inherit(measured)


def test_giving_fine_tuned_networks_the_dense_latency_is_caught(measured, monkeypatch):
    def dense(cells, cell):
        return architecture_cell(cells, cell if cell.parent is None else cells[cell.parent])

    monkeypatch.setattr("secateur.report.load.architecture_cell", dense)
    with pytest.raises(AssertionError):
        check_that_fine_tuned_networks_inherit(measured)


def test_latency_stands_beside_the_multiply_adds_in_every_table(measured):
    grid = grid_of(measured)
    change = changes(grid)
    rows = csv_rows(latency.in_networks(networks(grid), grid))
    keys = list(rows[0])
    assert keys[keys.index("macs") + 1 :][:3] == ["latency_ms", "latency_low_ms", "latency_high_ms"]
    (pruned,) = [r for r in rows if r["model"] == "plain" and r["seed"] == "1" and r["sparsity"] == "0.6"
                 and r["arm"] == "standard"]  # fmt: skip
    assert float(pruned["latency_ms"]) == pytest.approx(2 * 0.7 * 1.02)
    assert float(pruned["latency_share_low"]) == pytest.approx(0.9 * 0.7 * 1.02)
    assert float(pruned["peak_share"]) == pytest.approx(0.7 * 1.02)
    rows = csv_rows(latency.in_summary(summary(grid, change), grid))
    assert len(rows) == 2 * 3 * 2
    for row in rows:
        # Over two seeds: the mean of medians, and the outermost quartiles.
        share = 1 - 0.5 * float(row["sparsity"])
        assert float(row["latency_share"]) == pytest.approx(1.01 * share)
        assert float(row["latency_share_low"]) == pytest.approx(0.9 * share)
        assert float(row["latency_share_high"]) == pytest.approx(1.1 * 1.02 * share)


def test_the_table_of_latencies_has_a_row_per_architecture(measured):
    rows = csv_rows(latency.latency_table(grid_of(measured)))
    grid_points = [(row["model"], row["criterion"], float(row["sparsity"])) for row in rows]
    assert grid_points == [
        (model, criterion, sparsity)
        for model in ("plain", "robust")
        for criterion, sparsity in (("dense", 0.0), ("l1", 0.4), ("l1", 0.6))
    ]
    for row in rows:
        assert float(row["latency_ms"]) == pytest.approx(
            1e3 * DENSE_SECONDS * 1.01 * (1 - 0.5 * float(row["sparsity"]))
        )
        assert float(row["macs_share"]) == pytest.approx((1 - float(row["sparsity"])) ** 2, abs=0.01)
        assert row["seeds"] == "2"


def test_the_answer_is_a_sentence(measured):
    assert answers(grid_of(measured)) == [
        (
            model,
            "at sparsity 0.4, 36 % of the multiply-adds are left, but 81 % of the latency "
            "(1.62 ms; the dense network 2 ms).",
        )
        for model in ("plain", "robust")
    ]


def test_a_network_as_fast_as_its_multiply_adds_promise_gets_no_but(folder):
    measure(folder, lambda cell: (1 - cell.axes["sparsity"]) ** 2)
    ((_, sentence), _) = answers(grid_of(folder))
    assert "36 % of the multiply-adds are left, and 36 % of the latency" in sentence


def test_masks_keep_the_work_and_the_time_and_it_is_said(tmp_path):
    def masked(cell, science):
        if cell["axes"]["criterion"] == "weight_magnitude" and "macs" in science:
            dense = science["macs"] if cell["stage"] == "train" else 2_409_000
            return science | {"macs": dense}
        return science

    small = SMALL | {"models": {"plain": False}, "criteria": ("l1", "weight_magnitude")}
    folder = write(tmp_path / "run", Grid(**small, edit=masked))
    measure(folder, lambda cell: 1.0 if cell.axes["criterion"] == "weight_magnitude" else slowly(cell))
    ((_, sentence),) = answers(grid_of(folder))
    assert "36 % of the multiply-adds are left, but 81 % of the latency" in sentence
    assert "weight_magnitude leaves all multiply-adds, and 100 % of the latency" in sentence


def test_the_noise_of_the_clock_is_what_dense_networks_differ_from_their_copies(measured):
    said = spaced(latency.measurement_noise(grid_of(measured)))
    assert "100 to 102 %" in said
    assert "90 to 112 % in the middle half" in said


def test_what_was_not_measured_has_no_number_anywhere(folder):
    measure(
        folder, slowly, without=lambda cell: cell.axes["sparsity"] == 0.4 or cell.axes["model"] == "robust"
    )
    grid = grid_of(folder)
    assert latency.latency_and_macs(grid, "plain", "l1", 0.4) is None
    assert [model for model, _ in answers(grid)] == ["plain"]
    table = latency.in_summary(summary(grid, changes(grid)), grid)
    rows = [row for row in csv_rows(table) if row["sparsity"] == "0.4" or row["model"] == "robust"]
    assert len(rows) == 2 + 6
    assert {row["latency_share"] for row in rows} == {""}


def check_that_only_the_measured_network_counts(folder):
    path = folder / LATENCIES
    data = json.loads(path.read_text())
    del data["self_hash"]  # whoever changes it on purpose seals it again, or not at all
    victim = next(id_ for id_, row in data["rows"].items() if row["share"]["median"] == 0.8)
    data["rows"][victim]["weights"] = "of another training"
    path.write_text(json.dumps(data))
    measured = [n for n in load(folder).networks if n.latency is not None]
    assert len(measured) == 2 * 2 * 3 * 2 - 2


def test_a_row_of_other_weights_is_of_another_network(measured):
    check_that_only_the_measured_network_counts(measured)


def test_rows_that_count_whatever_the_weights_are_caught(measured, monkeypatch):
    monkeypatch.setattr(
        "secateur.report.load._with_latencies",
        lambda store, networks, stored: [type("N", (), {"latency": 1, "role": "dense"})() for _ in networks],
    )
    with pytest.raises(AssertionError):
        check_that_only_the_measured_network_counts(measured)


def records(folder):
    return {str(path): path.read_bytes() for path in (folder / "cells").rglob("record.json")}


@pytest.mark.slow
def test_measuring_changes_nothing_where_it_is_not_shown(least, monkeypatch):
    """Without latency.json a report has the bytes it always had; cells and their ids always keep theirs."""
    monkeypatch.setattr("secateur.report.figures.plans", lambda grid, change: [])
    before, cells = files(least), records(least)
    assert cells
    assert not any(
        b"latency" in content for name, content in before.items() if name.endswith((".csv", ".md"))
    )
    measure(least, slowly)
    after = files(least)
    assert set(after) - set(before) == {f"tables/latency.{kind}" for kind in ("csv", "md", "tex")}
    assert b"latency_share" in after["tables/summary.csv"]
    assert records(least) == cells
    (least / LATENCIES).unlink()
    shutil.rmtree(least / "report")
    assert files(least) == before


@pytest.mark.slow
def test_cards_and_page_say_what_was_measured_and_how(measured):
    grid = grid_of(measured)
    card = spaced(dict(cards(grid, changes(grid)))["plain-l1-0.4-standard.md"])
    assert "| measured latency | 2 ms | 1.62 ms |" in card
    assert "| peak memory of a forward pass | 1 MB | 0.808 MB |" in card
    assert "latency: 81 % of the dense network's" in card
    assert "batches of 1, 2 CPU threads, cpu (A Processor), torch 2.13.0" in card
    text = spaced(page_of(measured))
    assert text.count('id="measured-latency"') == 1
    assert "<strong>plain</strong> at sparsity 0.4, 36 % of" in text
    assert "<b>81 %</b><small>MACs 36 %</small>" in text
    ids = [part.split('"')[0] for part in text.split(' id="')[1:]]
    assert len(ids) == len(set(ids))


def page_of(folder):
    """The page without its figures, which take long to draw."""
    grid = grid_of(folder)
    change = changes(grid)
    return page.render(grid, change, [], latency.in_summary(summary(grid, change), grid), run_folder="run")


@pytest.mark.slow
def test_a_report_without_latencies_has_no_section_on_them(folder):
    assert "measured-latency" not in page_of(folder)
    grid = grid_of(folder)
    assert not any("latency" in card for _, card in cards(grid, changes(grid)))


@pytest.mark.slow
def test_a_damaged_file_takes_nothing_else_from_the_report_and_is_named(folder):
    (folder / LATENCIES).write_text("{")
    assert "latency.json is damaged" in page_of(folder)
    assert "measured-latency" not in page_of(folder)


def test_a_file_of_a_newer_version_is_refused(folder):
    (folder / LATENCIES).write_text('{"schema_version": 99}')
    with pytest.raises(UserError, match="newer") as refused:
        load(folder)
    assert refused.value.code is ExitCode.FOREIGN_FOLDER


@pytest.mark.slow
def test_latencies_are_reported_without_torch(least):
    code = (
        "import sys; from secateur.report import latency, terminal_table;"
        f"terminal_table({str(measure(least, slowly))!r});"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_networks_without_any_pruned_one_have_a_latency_but_no_answer(tmp_path):
    folder = write(tmp_path / "run", Grid(**SMALL | {"sparsities": (0.0,), "criteria": ()}))
    measure(folder, slowly)
    grid = grid_of(folder)
    assert latency.latency_sentences(grid) == ()
    assert len(latency.latency_table(grid).values) == 2
    assert latency.latency_of(grid.networks[GridPoint("plain", "", 0.0, "none")]).seeds == 2
    assert "measured-latency" in page_of(folder)
