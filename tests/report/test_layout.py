"""Panels of one size, with room for every label between them and for the legend below."""

import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from secateur.report import layout, theme
from secateur.report.figures import draw
from secateur.report.layout import PanelLayout
from secateur.report.ticks import PanelAxes


def figure_of(*, legend=True, rows=2, columns=3, top=1.0):
    with theme.themed():
        figure = Figure(figsize=(6.75, 4), layout=PanelLayout())
        for i, axes in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
            axes.plot([0, 1], [0, top * 10.0 ** (i % columns)])
            axes.set(xlabel="sparsity", ylabel="l1", title="accuracy")
        if legend:
            figure.legend(handles=[Line2D([], [], label=f"model {i}") for i in range(5)], ncols=2,
                          loc="outside lower center")  # fmt: skip
        theme.written(figure, [])
    return figure


def overlaps(figure):
    """Pairs of panels with their labels, and the legend, that overlap each other or leave the figure."""
    with theme.themed():
        renderer = FigureCanvasAgg(figure).get_renderer()
        boxes = [axes.get_tightbbox(renderer) for axes in figure.axes]
        boxes += [legend.get_window_extent(renderer) for legend in figure.legends]
    inside = figure.bbox.padded(1)
    beyond = [box for box in boxes if not (inside.contains(*box.min) and inside.contains(*box.max))]
    return beyond + [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)]


@pytest.mark.slow
@pytest.mark.parametrize("top", [1e-3, 1.0, 12345.0])
@pytest.mark.parametrize("legend", [True, False])
def test_labels_overlap_neither_each_other_nor_the_legend(legend, top):
    figure = figure_of(legend=legend, top=top)
    assert not overlaps(figure)
    sizes = {tuple(axes.get_position().size.round(9)) for axes in figure.axes}
    assert len(sizes) == 1
    assert min(min(sizes)) > 0.1


def test_labels_that_are_not_measured_overlap(monkeypatch):
    monkeypatch.setattr(layout, "_room", lambda axes, renderer, dpi: (0.0, 0.0, 0.0, 0.0))
    assert overlaps(figure_of())


@pytest.mark.slow
def test_the_figures_of_a_study_have_room_for_their_labels(grid, change):
    with theme.themed():
        figures = [drawing.figure for drawing in draw(grid, change)]
        for figure in figures:
            theme.written(figure, [])
    assert len(figures) > 10
    assert not [found for figure in figures for found in overlaps(figure)]


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_one_tick_that_moves_draws_what_all_ticks_draw(scale):
    """The same bytes, from a few of the artists."""
    drawn, made = [], []
    for kind in (Axes, PanelAxes):
        with theme.themed():
            figure = Figure(figsize=(4, 3), layout=PanelLayout())
            upper, lower = figure.subplots(2, 1, subplot_kw={"axes_class": kind})
            for axes in (upper, lower):
                axes.plot([1, 2, 30], [0.1, 0.5, 0.9])
                axes.set(xscale=scale, ylabel="l1", title="accuracy")
                axes.xaxis.set_minor_locator(NullLocator())
            upper.tick_params(labelbottom=False)
            lower.set_xlabel("sparsity")
            theme.written(figure, [])
            drawn.append(theme.svg(figure))
            both = [axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)]
            made.append(sum(len(axis.majorTicks) + len(axis.minorTicks) for axis in both))
    assert drawn[0] == drawn[1]
    assert made[1] == 4 < made[0]
    with theme.themed():
        axes = Figure().subplots(subplot_kw={"axes_class": PanelAxes})
        axes.plot([0, 1], [1e9, 1e9 + 1])
        axes.figure.draw_without_rendering()
    assert axes.yaxis.get_offset_text().get_text() == "+1e9", "what one tick cannot do is left to matplotlib"
