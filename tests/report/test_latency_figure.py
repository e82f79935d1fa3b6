"""The figure of measured latency: what multiply-adds promise, and what the clock gave."""

from dataclasses import replace

import numpy as np
import pytest

from report.clocked import grid_of, measure, slowly, spaced
from secateur.report import figures, latency, theme
from secateur.report.figures import draw
from secateur.report.paired_changes import changes


def line_of(axes, points):
    """The first line of so many points: a model's."""
    return next(line for line in axes.lines if len(line.get_xdata()) == points)


def drawn(folder):
    grid = grid_of(folder)
    with theme.themed():
        return {drawing.stem: drawing for drawing in draw(grid, changes(grid))}


@pytest.mark.slow
def test_the_figure_shows_what_is_promised_and_what_the_clock_gave(measured):
    drawing = drawn(measured)["latency"]
    left, right = drawing.figure.axes
    share = line_of(left, 3).get_ydata()
    assert list(share) == pytest.approx([1.01, 0.8 * 1.01, 0.7 * 1.01])
    diagonal = next(line for line in right.lines if list(line.get_xdata()) == [0, 1])
    assert list(diagonal.get_ydata()) == [0, 1]
    assert list(line_of(right, 3).get_xdata()) == pytest.approx([1.0, 0.36, 0.16], abs=0.01)
    bars = [line.get_ydata() for line in left.lines if line.get_xdata()[0] == line.get_xdata()[-1] == 0.4]
    assert [list(bar) for bar in bars] == [pytest.approx([0.9 * 0.8, 1.1 * 0.8 * 1.02])] * 2
    assert "81 % of the latency" in spaced(drawing.alt)
    assert "2 CPU threads, cpu (A Processor)" in drawing.caption


def check_that_what_was_not_measured_is_a_gap(folder):
    measure(folder, slowly, without=lambda cell: cell.axes["sparsity"] == 0.4)
    left = drawn(folder)["latency"].figure.axes[0]
    assert np.isnan(line_of(left, 3).get_ydata()).tolist() == [False, True, False]
    assert [line.get_marker() for line in left.lines].count("x") == 2


@pytest.mark.slow
def test_what_was_not_measured_is_a_gap_and_not_a_guess(folder):
    check_that_what_was_not_measured_is_a_gap(folder)


@pytest.mark.slow
def test_a_figure_that_believes_multiply_adds_is_caught(folder, monkeypatch):
    def believing(grid, model, criterion, sparsity):
        found = latency.latency_and_macs(grid, model, criterion, sparsity)
        return found or replace(latency.latency_and_macs(grid, model, "", 0.0), sparsity=sparsity)

    monkeypatch.setattr(figures, "latency_and_macs", believing)
    with pytest.raises(AssertionError):
        check_that_what_was_not_measured_is_a_gap(folder)


@pytest.mark.slow
def test_a_study_that_was_not_measured_has_no_such_figure(folder):
    assert "latency" not in drawn(folder)
