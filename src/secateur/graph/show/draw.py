"""The graph as an SVG picture: layers from top to bottom, f⁻ and f⁺ side by side, one colour per group.

Grey sides hold no channel that can be removed. The legend at the top explains colours and black bars.
"""

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from secateur.graph.groups import frozen_components
from secateur.graph.show.thesis_matrices import Layer, layers, side_groups

if TYPE_CHECKING:
    from secateur.graph.dependency import DependencyGraph

_COLOURS = [
    "#8ea6e3",
    "#f4cb62",
    "#ff9f8f",
    "#98d6c8",
    "#7cc68b",
    "#ffb0cf",
    "#c299f7",
    "#b9d2f8",
    "#c4a28c",
    "#9cc4c5",
    "#d69a63",
    "#b0bf78",
]
_STUCK, _EMPTY = "#c9c9c9", "#f0f0f0"
_ROW, _TOP, _LEFT, _BOX = 34, 46, 270, 92
_LONGEST = 40
_LEGEND = (
    "One colour: one group of sides that are pruned together. Black bar: one scheme prunes both sides. "
    "Grey: nothing can be removed."
)


def draw(graph: "DependencyGraph", path: str | None = None) -> str:
    """Draw layers, dependencies and groups; returns the SVG text and writes it to ``path`` if given."""
    steps = layers(graph)
    stuck = frozen_components(graph.atoms, graph.atoms.components()[1])
    colours = _colours(steps, side_groups(graph), set(stuck))
    height = _TOP + _ROW * (len(steps) + 1)
    body = [_edges(steps, colours)]
    for number, layer in enumerate(steps):
        body.append(_layer(number, layer, colours))
    text = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 {height}" width="760" height="{height}" '
        'font-family="Helvetica, Arial, sans-serif" font-size="12">'
        f'<rect width="760" height="{height}" fill="white"/>'
        f'<text x="16" y="20" fill="#444">{_LEGEND}</text>'
        f'<text x="16" y="{_TOP}" fill="#444">layer</text>'
        f'<text x="{_LEFT + 8}" y="{_TOP}" fill="#444">f⁻ inputs</text>'
        f'<text x="{_LEFT + _BOX + 28}" y="{_TOP}" fill="#444">f⁺ outputs</text>' + "".join(body) + "</svg>\n"
    )
    if path is not None:
        Path(path).write_text(text, encoding="utf-8")
    return text


def _colours(steps: list[Layer], label: "np.typing.NDArray[np.int64]", stuck: set[int]) -> dict[int, str]:
    """A colour for each side that carries channels, grey where none of them can be removed."""
    order: dict[int, str] = {}
    found = {}
    for number, layer in enumerate(steps):
        for side, channels in ((2 * number, layer.inputs), (2 * number + 1, layer.outputs)):
            if channels and channels <= stuck:
                found[side] = _STUCK
            elif channels:
                found[side] = order.setdefault(int(label[side]), _colour(len(order)))
    return found


def _colour(number: int) -> str:
    """Distinct colours for any count: after the listed ones, hues a golden angle apart."""
    if number < len(_COLOURS):
        return _COLOURS[number]
    return f"hsl({number * 137.5 % 360:.0f}, 50%, {60 + number % 3 * 10}%)"


def _layer(number: int, layer: Layer, colours: dict[int, str]) -> str:
    top = _TOP + _ROW * number + 8
    middle = top + 15
    parts = [
        f'<text x="16" y="{middle + 3}" fill="#222">{escape(_short(layer.name))}'
        f"<title>{escape(layer.name)} ({escape(layer.kind)})</title></text>"
    ]
    for side, x, channels in (
        (2 * number, _LEFT, layer.inputs),
        (2 * number + 1, _LEFT + _BOX + 20, layer.outputs),
    ):
        colour = colours.get(side, _EMPTY)
        parts.append(
            f'<rect x="{x}" y="{top + 2}" width="{_BOX}" height="24" rx="5" fill="{colour}"/>'
            f'<text x="{x + _BOX / 2}" y="{middle + 3}" text-anchor="middle">{len(channels) or "–"}</text>'
        )
    if layer.coupled:
        parts.append(
            f'<line x1="{_LEFT + _BOX}" y1="{middle - 1}" x2="{_LEFT + _BOX + 20}" y2="{middle - 1}" '
            'stroke="#222" stroke-width="3"/>'
        )
    return "".join(parts)


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else "…" + name[1 - _LONGEST :]


def _edges(steps: list[Layer], colours: dict[int, str]) -> str:
    """Lines from each output to the inputs that read it, in the colour of its group.

    Lines that skip layers bulge to the right, further for longer skips.
    """
    parts = []
    for number, layer in enumerate(steps):
        for source in layer.sources:
            x1, y1 = _LEFT + 2 * _BOX + 20, _TOP + _ROW * source + 22
            x2, y2 = _LEFT, _TOP + _ROW * number + 22
            colour = colours.get(2 * source + 1, _STUCK)
            if number == source + 1:
                path = f"M{x1 - _BOX / 2} {y1 + 12} L{x2 + _BOX / 2} {y2 - 12}"
            else:
                bulge = x1 + 30 + 14 * min(number - source, 18)
                path = f"M{x1} {y1} C{bulge} {y1} {bulge} {y2} {x1} {y2} L{x2 + _BOX} {y2}"
            parts.append(f'<path d="{path}" stroke="{colour}" stroke-width="1.5" fill="none"/>')
    return "".join(parts)
