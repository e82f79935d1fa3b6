"""Figures of a check: security curves of both networks, changes with intervals, the front of a search."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from secateur.budgets import written
from secateur.decision.intervals import draw_band
from secateur.decision.lines import Line, robust
from secateur.errors import UserError
from secateur.report.axes import percent_axis
from secateur.report.formatting import NORM_LABELS
from secateur.report.plots import Drawing
from secateur.report.theme import PALETTE, PAPER, SOFT, WIDTH, label, themed

POINTS = 121


def curves(dense: Mapping[str, Mapping[str, Any]], pruned: Mapping[str, Mapping[str, Any]]) -> Drawing:
    """Robust accuracy against the budget, a panel per norm, with 95 % Wilson bands.

    Args:
        dense: by norm the record of the attack on the dense network.
        pruned: the same of the pruned one.
    """
    with themed():
        figure = Figure(figsize=(WIDTH, 2.6))
        panels = figure.subplots(1, len(dense), squeeze=False)[0]
        for axes, norm in zip(panels, dense, strict=True):
            record = dense[norm]
            grid = np.linspace(0.0, top_budget([record, pruned[norm]]), POINTS)
            for name, each, colour, dash in (
                ("dense", record, PALETTE[0], "-"),
                ("pruned", pruned[norm], PALETTE[1], "--"),
            ):
                n = len(each["outcome"])
                share = np.array([robust(each, eps).mean() for eps in grid])
                unsure = " (unreliable)" if each["grade"] in "CX" else ""
                draw_band(axes, grid, share, n, colour=colour, dash=dash, label=f"{name}{unsure}")
            budget_axes(axes, record, grid[-1])
        panels[0].set_ylabel("robust accuracy")
        panels[0].legend()
        figure.draw_without_rendering()
    n = len(next(iter(dense.values()))["outcome"])
    return Drawing(
        "curves",
        "Robust accuracy by budget",
        f"Share of {n} images that stay correct within ε; bands are 95 % Wilson intervals.",
        "Security curves of the dense and the pruned network.",
        figure,
    )


_MACS_TICKS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)


def front(points: Sequence[Mapping[str, Any]], shares: Sequence[Line]) -> Drawing:
    """Shares of images against the multiply-adds that are left, a sign per network that was tried.

    Args:
        points: of a search.
        shares: accuracy, and robust accuracy at one budget; their dense numbers are drawn as lines.
    """
    points = sorted(points, key=lambda point: point["macs_share"])
    left = [point["macs_share"] for point in points]
    with themed():
        figure = Figure(figsize=(0.7 * WIDTH, 2.8))
        axes = figure.subplots()
        for line, colour, marker in zip(shares, PALETTE, "os", strict=False):
            values = [point[line.key] for point in points]
            axes.plot(left, values, color=colour, lw=1, zorder=2)
            for x, y, point in zip(left, values, points, strict=True):
                inside = colour if point["kept"] else PAPER
                axes.scatter(x, y, color=colour, facecolor=inside, marker=marker, zorder=3)
            axes.plot([], [], color=colour, marker=marker, lw=1, label=line.name)
            if line.dense is not None:
                axes.axhline(line.dense, color=colour, lw=0.9, ls=":", zorder=1)
        axes.plot([], [], color=SOFT, lw=0.9, ls=":", label="dense network")
        _macs_axis(axes, min(left))
        axes.set_ylim(-0.02, 1.02)
        percent_axis(axes.yaxis)
        axes.set_ylabel("share of images")
        axes.legend(loc="lower right")
        figure.draw_without_rendering()
    return Drawing(
        "front",
        "Accuracy, robustness and cost",
        "Every network that the search tried; filled signs keep all limits.",
        f"{len(points)} networks by multiply-adds left.",
        figure,
    )


def _macs_axis(axes: Axes, least: float) -> None:
    """A logarithmic axis of the multiply-adds that are left, up to the dense network."""
    low = 0.8 * min(least, 0.5)
    ticks = [tick for tick in (*_MACS_TICKS, *((0.5,) if low > 0.1 else ())) if low <= tick]
    axes.set_xscale("log")
    axes.set_xlim(low, 1.05)
    axes.set_xticks(ticks, [f"{100 * tick:g} %" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("multiply-adds left (logarithmic)")


def changes(lines: Sequence[Line], first: str, second: str) -> Figure:
    """The change of every share with its interval, one row each; filled signs are better or worse.

    Args:
        lines: of a comparison or a verdict.
        first: name of the network that the changes count from.
        second: name of the other.

    Raises:
        UserError: no line has a share.
    """
    shares = [line for line in lines if line.kind == "share" and line.change is not None]
    if not shares:
        raise UserError("the comparison has no accuracy to draw")
    with themed():
        figure = Figure(figsize=(WIDTH, 0.9 + 0.32 * len(shares)))
        axes = figure.subplots()
        for row, line in enumerate(reversed(shares)):
            change = 100 * (line.change or 0.0)
            low, high = (100 * value if value is not None else change for value in (line.low, line.high))
            sure = line.finding in ("better", "worse")
            colour = PALETTE[1] if line.finding == "worse" else PALETTE[0]
            axes.plot([low, high], [row, row], color=colour, lw=1.4)
            axes.plot(change, row, "o", ms=5, color=colour, mfc=colour if sure else "none")
            axes.annotate(
                line.finding, (high, row), (5, 0), textcoords="offset points", va="center", color=SOFT
            )
        axes.axvline(0, color=SOFT, lw=0.8)
        axes.set_yticks(range(len(shares)), [label(line.label, longest=48) for line in reversed(shares)])
        axes.set_ylim(-0.6, len(shares) - 0.4)
        axes.margins(x=0.15)
        axes.set_xlabel(f"points, {second} minus {first}; bars are 95 % intervals over images")
        figure.draw_without_rendering()
    return figure


def budget_axes(axes: Axes, record: Mapping[str, Any], top: float) -> None:
    """The axes of a security curve: budgets up to ``top`` in the units of a record, and shares of images."""
    step = 1 / 255
    if written_budget(record, step, None).endswith("/255"):
        # Round numbers of 255ths: those of pixel values would be long there, and run into each other.
        places = MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]).tick_values(0, top / step)
        axes.set_xticks([step * place for place in places if place >= 0])
    axes.set_xlim(0, top)
    axes.set_ylim(-0.02, 1.02)
    percent_axis(axes.yaxis)
    axes.xaxis.set_major_formatter(FuncFormatter(partial(written_budget, record)))
    axes.set_xlabel(f"perturbation budget ε ({NORM_LABELS[record['norm']]})")


def written_budget(record: Mapping[str, Any], value: float, _: int | None) -> str:
    """A budget on an axis, in /255 where the record's images have 256 levels."""
    return written(value, record["norm"], levels=record["levels"], bounds=tuple(record["bounds"]))


def top_budget(records: Sequence[Mapping[str, Any]]) -> float:
    """The largest budget of a panel: nearly all distances lie below it."""
    found = [
        value
        for record in records
        for value, outcome in zip(record["distances"][record["norm"]], record["outcome"], strict=True)
        if outcome == "found"
    ]
    return 1.05 * float(np.quantile(found, 0.97)) if found else 1.0
