"""The layout of a grid of panels: each as large as its labels and the legend below leave room for."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import LayoutEngine

PAD = 3 / 72
"""Inches around every panel with its labels, and around the legend."""
_GUESS = (0.45, 0.1, 0.2, 0.2)
"""Inches for labels left, right, below and above a panel, before they are measured."""
Room = tuple[float, float, float, float]


class PanelLayout(LayoutEngine):
    """Gives the panels of a figure equal sizes, and every column and row the room that its labels need.

    The constrained layout of matplotlib does the same for any figure. It measures every artist of every panel
    four times, which takes longer than to draw the figure; here each axis is measured once.

    >>> figure = Figure(figsize=(4, 2), layout=PanelLayout())
    >>> panels = figure.subplots(1, 2)
    >>> figure.get_layout_engine().execute(figure)
    >>> widths = [panel.get_position().width for panel in panels]
    >>> bool(abs(widths[0] - widths[1]) < 1e-9 < widths[0])
    True
    """

    # A legend is no part of a panel, and there are no colour bars.
    _adjust_compatible = True
    _colorbar_gridspec = False

    def execute(self, fig: Figure) -> None:
        """Set the position of every panel."""
        renderer = FigureCanvasAgg(fig).get_renderer()  # type: ignore[no-untyped-call]
        below = sum(legend.get_window_extent(renderer).height / fig.dpi + 2 * PAD for legend in fig.legends)
        # The number of ticks follows the size, so labels are measured in panels of about their final size.
        _place(fig, [_GUESS] * len(fig.axes), below)
        _place(fig, [_room(axes, renderer, fig.dpi) for axes in fig.axes], below)


def _room(axes: Axes, renderer: RendererBase, dpi: float) -> Room:
    """Inches that the labels of a panel need left, right, below and above it."""
    panel = axes.get_window_extent(renderer)
    boxes = [axis.get_tightbbox(renderer) for axis in (axes.xaxis, axes.yaxis)]
    if axes.get_title():
        boxes.append(axes.title.get_window_extent(renderer))
    around = [box for box in boxes if box is not None]
    return (
        max([panel.x0 - box.x0 for box in around] + [0]) / dpi,
        max([box.x1 - panel.x1 for box in around] + [0]) / dpi,
        max([panel.y0 - box.y0 for box in around] + [0]) / dpi,
        max([box.y1 - panel.y1 for box in around] + [0]) / dpi,
    )


def _place(figure: Figure, rooms: Sequence[Room], below: float) -> None:
    """Give the panels their positions; ``below`` them are inches for the legend."""
    wide, high = figure.get_size_inches()
    specs = [axes.get_subplotspec() for axes in figure.axes]
    places = [(spec.rowspan.start, spec.colspan.start) for spec in specs if spec is not None]
    rows, columns = (1 + max(place[side] for place in places) for side in (0, 1))

    def most(side: int, line: int, way: int) -> float:
        """The most room that a panel of a row or column needs on one side."""
        return PAD + max(room[way] for room, place in zip(rooms, places, strict=True) if place[side] == line)

    left, right = ([most(1, column, way) + PAD / 2 for column in range(columns)] for way in (0, 1))
    under, over = ([most(0, row, way) for row in range(rows)] for way in (2, 3))
    # Where labels leave no room at all, panels overlap them rather than vanish.
    width = max((wide - sum(left) - sum(right)) / columns, 0.1)
    height = max((high - below - sum(under) - sum(over)) / rows, 0.1)
    for axes, (row, column) in zip(figure.axes, places, strict=True):
        x = sum(left[: column + 1]) + sum(right[:column]) + column * width
        y = high - sum(over[: row + 1]) - sum(under[:row]) - (row + 1) * height
        axes.set_position((x / wide, y / high, width / wide, height / high))
