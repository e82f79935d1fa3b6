"""Panels whose ticks are one tick per axis, drawn at every place in turn: half the time of a panel."""

from collections.abc import Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis, Tick, XAxis, YAxis
from matplotlib.backend_bases import RendererBase
from matplotlib.ticker import NullLocator
from matplotlib.transforms import Bbox

Ticks = list[tuple[float, str]]


class _OneTick(Axis):
    """An axis that draws one tick at every place; matplotlib makes five artists for each of them.

    With minor ticks, ticks on both sides or an offset it is as any other axis.
    """

    side = ""

    def set_clip_path(self, path: Any, transform: Any = None) -> None:
        """Clip the axis, but make no ticks for it."""
        Artist.set_clip_path(self, path, transform)

    def reset_ticks(self) -> None:
        """Forget all ticks; a minor one would be made for its settings alone."""
        super().reset_ticks()
        self.minorTicks = []

    def get_ticks_position(self) -> Any:
        """The side of the ticks: matplotlib asks the first minor one."""
        return self.side

    def _ticks(self) -> Ticks | None:
        """Places and labels inside the view; None where one tick is not enough."""
        self.majorTicks[0].set_clip_path(self.axes.patch)
        plain = isinstance(self.get_minor_locator(), NullLocator) and self.get_label_position() == self.side
        if not plain or self.majorTicks[0].label2.get_visible():
            return None
        places = self.get_majorticklocs()
        labels = self.get_major_formatter().format_ticks(list(places))
        if self.get_major_formatter().get_offset():
            return None
        low, high = sorted(self.get_transform().transform(self.get_view_interval()))
        drawn, slack = self.get_transform().transform(places), 1e-10 * (high - low)
        return [
            (place, text)
            for place, text, at in zip(places, labels, drawn, strict=True)
            if low - slack <= at <= high + slack
        ]

    def _moved(self, place: float, text: str) -> Tick:
        """The tick, at another place."""
        tick = self.majorTicks[0]
        tick.update_position(place)
        tick.label1.set_text(text)
        return tick

    def _put_label(self, boxes: Sequence[Bbox]) -> None:
        """Put the label of the axis beside those of its ticks."""
        x, y = self.label.get_position()
        edge = Bbox.union([*boxes, self.axes.get_window_extent()])
        away = self.labelpad * self.axes.figure.dpi / 72
        self.label.set_position((x, edge.y0 - away) if self.side == "bottom" else (edge.x0 - away, y))

    def draw(self, renderer: RendererBase) -> None:
        """Draw the tick at every place, and the label."""
        ticks = self._ticks()
        if ticks is None:
            super().draw(renderer)
            return
        renderer.open_group(Axis.__module__, gid=self.get_gid())
        boxes = []
        for place, text in ticks:
            tick = self._moved(place, text)
            tick.draw(renderer)
            if self.label.get_text() and tick.label1.get_visible():
                boxes.append(tick.label1.get_window_extent(renderer))
        self._put_label(boxes)
        self.label.draw(renderer)
        renderer.close_group(Axis.__module__)
        self.stale = False

    def get_tightbbox(
        self, renderer: RendererBase | None = None, *, for_layout_only: bool = False
    ) -> Bbox | None:
        """The box around all labels; None if there are none."""
        ticks = self._ticks()
        if ticks is None or renderer is None or for_layout_only:
            return super().get_tightbbox(renderer, for_layout_only=for_layout_only)
        shown = ticks if self.majorTicks[0].label1.get_visible() else []
        boxes = [self._moved(*tick).label1.get_window_extent(renderer) for tick in shown]
        self._put_label(boxes)
        if self.label.get_text():
            boxes.append(self.label.get_window_extent(renderer))
        return Bbox.union(boxes) if boxes else None


class _X(_OneTick, XAxis):
    side = "bottom"


class _Y(_OneTick, YAxis):
    side = "left"


class PanelAxes(Axes):
    """A panel; its ticks are at the left and below.

    >>> from matplotlib.figure import Figure
    >>> panel = Figure().subplots(subplot_kw={"axes_class": PanelAxes})
    >>> [text.get_text() for text in panel.get_xticklabels()][:2]
    ['0.0', '0.2']
    """

    def _init_axis(self) -> None:
        # As matplotlib's own example of a projection does.
        self.xaxis, self.yaxis = _X(self, clear=False), _Y(self, clear=False)
        for axis, sides in ((self.xaxis, ("bottom", "top")), (self.yaxis, ("left", "right"))):
            for side in sides:
                self.spines[side].register_axis(axis)
