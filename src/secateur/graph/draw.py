"""The graph as an SVG picture: layers from top to bottom, f⁻ and f⁺ side by side, one colour per group."""

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from secateur.graph.views import Layer, dependency_matrix, layers

if TYPE_CHECKING:
    from secateur.graph.dependency import DependencyGraph

_COLOURS = [
    "#4269d0",
    "#efb118",
    "#ff725c",
    "#6cc5b0",
    "#3ca951",
    "#ff8ab7",
    "#a463f2",
    "#97bbf5",
    "#9c6b4e",
    "#5f9ea0",
    "#b5651d",
    "#7b8f3a",
]
_ROW, _LEFT, _BOX = 34, 250, 92


def draw(graph: "DependencyGraph", path: str | None = None) -> str:
    """Draw layers, dependencies and groups; returns the SVG text and writes it to ``path`` if given."""
    steps = layers(graph)
    matrix = dependency_matrix(graph)
    _, label = connected_components(csr_matrix(matrix), directed=False)
    colours = _colours(steps, label)
    height = _ROW * (len(steps) + 2)
    body = [_edges(steps)]
    for number, layer in enumerate(steps):
        body.append(_layer(number, layer, colours))
    text = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 {height}" width="760" height="{height}" '
        'font-family="Helvetica, Arial, sans-serif" font-size="12">'
        f'<rect width="760" height="{height}" fill="white"/>'
        '<text x="16" y="20" fill="#444">layer</text>'
        f'<text x="{_LEFT + 8}" y="20" fill="#444">f⁻ inputs</text>'
        f'<text x="{_LEFT + _BOX + 28}" y="20" fill="#444">f⁺ outputs</text>' + "".join(body) + "</svg>\n"
    )
    if path is not None:
        Path(path).write_text(text, encoding="utf-8")
    return text


def _colours(steps: list[Layer], label: "np.typing.NDArray[np.int64]") -> dict[int, str]:
    """A colour for each side that carries channels; sides without channels are grey."""
    order: dict[int, str] = {}
    found = {}
    for number, layer in enumerate(steps):
        for side, channels in ((2 * number, layer.inputs), (2 * number + 1, layer.outputs)):
            if channels:
                colour = order.setdefault(int(label[side]), _COLOURS[len(order) % len(_COLOURS)])
                found[side] = colour
    return found


def _layer(number: int, layer: Layer, colours: dict[int, str]) -> str:
    top = _ROW * (number + 1)
    middle = top + 15
    parts = [
        f'<text x="16" y="{middle + 3}" fill="#222">{escape(layer.name[-30:])}'
        f"<title>{escape(layer.name)} ({escape(layer.kind)})</title></text>"
    ]
    for side, x, channels in (
        (2 * number, _LEFT, layer.inputs),
        (2 * number + 1, _LEFT + _BOX + 20, layer.outputs),
    ):
        colour = colours.get(side, "#d5d5d5")
        parts.append(
            f'<rect x="{x}" y="{top + 2}" width="{_BOX}" height="24" rx="5" fill="{colour}" '
            'fill-opacity="0.75"/>'
            f'<text x="{x + _BOX / 2}" y="{middle + 3}" text-anchor="middle">{len(channels) or "–"}</text>'
        )
    if layer.coupled:
        parts.append(
            f'<line x1="{_LEFT + _BOX}" y1="{middle - 1}" x2="{_LEFT + _BOX + 20}" y2="{middle - 1}" '
            'stroke="#222" stroke-width="3"/>'
        )
    return "".join(parts)


def _edges(steps: list[Layer]) -> str:
    """Curves on the right-hand side from each output to the inputs that read it; long ones bulge further."""
    parts = []
    for number, layer in enumerate(steps):
        for source in layer.sources:
            x1, y1 = _LEFT + 2 * _BOX + 20, _ROW * (source + 1) + 18
            x2, y2 = _LEFT, _ROW * (number + 1) + 10
            if number == source + 1:
                parts.append(
                    f'<path d="M{x1 - _BOX / 2} {y1 + 8} L{x2 + _BOX / 2} {y2 - 8}" '
                    'stroke="#999" fill="none"/>'
                )
            else:
                bulge = x1 + 30 + 14 * min(number - source, 18)
                parts.append(
                    f'<path d="M{x1} {y1} C{bulge} {y1} {bulge} {y2} {x1 + 4} {y2} L{x2 + _BOX} {y2}" '
                    'stroke="#999" fill="none"/>'
                )
    return "".join(parts)
