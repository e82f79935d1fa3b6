"""The look of the figures, and how they are written: the same bytes for the same records."""

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np
from matplotlib import colormaps, rc_context, rcParams
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

from secateur.untrusted import cleared

PANEL_HEIGHT = 1.45
LEGEND_ROW = 0.17
WIDTH = 6.75  # inches: two columns of a conference paper
INK, SOFT, GRID, PAPER = "#1f2328", "#6e7781", "#e6e8eb", "#ffffff"

# After Okabe and Ito, and Tol's "muted": each has a contrast of 3:1 to white, its partner to a dark page.
_PAIRS = {
    "#0072b2": "#4aa8e8", "#d55e00": "#ff8a3d", "#00875f": "#2fc79a", "#b5478a": "#e48fc0",
    "#5b4fc4": "#a59bf5", "#a06a00": "#e6b84a", "#882255": "#d0659c", "#1f8a8a": "#5cc8c8",
    "#77771f": "#b9b95a", "#8c510a": "#c98a3f",
}  # fmt: skip
PALETTE = tuple(_PAIRS)
_STEPS = 21


def _ladder() -> dict[str, str]:
    """Colours for values in order, as far as they stand out from white; their partners for a dark page."""
    light, dark = np.linspace(0.0, 0.6, _STEPS), np.linspace(0.4, 0.96, _STEPS)
    plasma = colormaps["plasma"]
    return {to_hex(plasma(a)): to_hex(plasma(b)) for a, b in zip(light, dark, strict=True)}


_ORDERED = _ladder()
ON_DARK = {INK: "#e6edf3", SOFT: "#9198a1", GRID: "#30363d", PAPER: "#0d1117", **_PAIRS, **_ORDERED}
"""The colour of a dark page for each colour of the figures."""


def shades(n: int) -> list[str]:
    """``n`` colours for values in order."""
    colours = list(_ORDERED)
    return [colours[round(i * (_STEPS - 1) / max(n - 1, 1))] for i in range(n)]


_SETTINGS = {
    "font.family": "DejaVu Sans",
    "font.size": 7.5,
    "text.color": INK,
    # A label is a user's text, never TeX: "$\\frac{$" would raise and "a$b$c" would turn into italics.
    "text.parse_math": False,
    "axes.titlesize": 8,
    "axes.titleweight": "bold",
    "axes.labelsize": 7.5,
    "axes.labelcolor": INK,
    "axes.edgecolor": SOFT,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.use_mathtext": False,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "savefig.dpi": 200,
    "pdf.fonttype": 42,
    "svg.fonttype": "path",
    "svg.hashsalt": "secateur",
}


# Positions rounded to 0.1 points make the page far smaller, and no screen shows it. Scales stay exact.
_POSITIONS = re.compile(r'(?: d="|translate\(| [xy]=")[^")]*')
_PATHS = re.compile(r' d="[^"]*"')
_STYLES = re.compile(r' style="[^"]*"')
_LETTERS = re.compile(r'(<use href="#[\w.-]+") transform="translate\((-?[\d.]+) 0\)"/>')
_SPACES = re.compile(r'<path id="([\w.-]+)" transform="scale\(0\.015625\)"/>')
# What goes is all that these match: a replacement that quotes a group takes several times as long.
_DIGITS = re.compile(r"(?<=\.\d)\d+")
_AROUND_LETTERS = re.compile(r"\s+(?=[A-Za-z\"])|(?<=[A-Za-z\"])\s+")


@contextmanager
def themed() -> Iterator[None]:
    """The settings under which figures are drawn and saved."""
    with rc_context(_SETTINGS):  # type: ignore[arg-type]
        yield


def save(figure: Figure, folder: Path, stem: str, kinds: Sequence[str] = ("png", "pdf")) -> tuple[Path, ...]:
    """Write the figure as ``stem.png`` and ``stem.pdf``, or as other ``kinds`` of files."""
    paths = []
    for kind, content in written(figure, kinds).items():
        paths.append(cleared(folder / f"{stem}.{kind}"))
        paths[-1].write_bytes(content)
    return tuple(paths)


def written(figure: Figure, kinds: Sequence[str]) -> dict[str, bytes]:
    """The figure as the content of files: "pdf", "png" and "svg"."""
    # Solved once: each file would solve it again.
    if figure.axes and (engine := figure.get_layout_engine()) is not None:
        engine.execute(figure)
    figure.set_layout_engine("none")
    figure.dpi = rcParams["savefig.dpi"]
    return {kind: _WRITERS[kind](figure) for kind in kinds}


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})  # type: ignore[no-untyped-call]
    return buffer.getvalue()


def _pdf(figure: Figure) -> bytes:
    # It imports what cuts fonts down, which the page alone does not need.
    from matplotlib.backends.backend_pdf import FigureCanvasPdf

    buffer = io.BytesIO()
    dates = {"CreationDate": None, "Producer": None, "Creator": None}
    FigureCanvasPdf(figure).print_pdf(buffer, metadata=dates)  # type: ignore[no-untyped-call]
    return buffer.getvalue()


def svg(figure: Figure) -> str:
    """The figure as SVG text, with dark colours for readers who prefer a dark page."""
    buffer = io.StringIO()
    absent = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with _transparent(figure):
        # ``figure.savefig`` would draw everything twice.
        FigureCanvasSVG(figure).print_svg(buffer, metadata=absent)  # type: ignore[no-untyped-call]
    # No date and no id from a clock: the same figure gives the same bytes.
    text = _smaller(_POSITIONS.sub(lambda match: _DIGITS.sub("", match[0]), buffer.getvalue()))
    rules = "".join(
        f'[style*="{what}:{colour}"]{{{what}:{on_dark} !important}}'
        for colour, on_dark in ON_DARK.items()
        if colour in text
        for what in ("fill", "stroke")
    )
    # An image inside a page cannot read the page's colours, but it can read the reader's preference.
    style = f"<style>@media (prefers-color-scheme: dark){{{rules}}}</style>"
    head, tag, body = text.partition("<defs>")
    return f"{head}{style}{tag}{body}"


_WRITERS: dict[str, Callable[[Figure], bytes]] = {
    "pdf": _pdf,
    "png": _png,
    "svg": lambda figure: svg(figure).encode(),
}


@contextmanager
def _transparent(figure: Figure) -> Iterator[None]:
    """The figure without its own background, for now."""
    patches = [figure.patch, *(axes.patch for axes in figure.axes)]
    colours = [(patch.get_facecolor(), patch.get_edgecolor()) for patch in patches]
    for patch in patches:
        patch.set(facecolor="none", edgecolor="none")
    try:
        yield
    finally:
        for patch, (face, edge) in zip(patches, colours, strict=True):
            patch.set(facecolor=face, edgecolor=edge)


def _smaller(text: str) -> str:
    """SVG text without comments, spaces, empty groups and names that nothing refers to: half of it."""
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r">\s+<", "><", text)
    text = _PATHS.sub(lambda match: " " + _AROUND_LETTERS.sub("", match[0][1:]), text)
    text = _STYLES.sub(lambda match: match[0].replace(": ", ":").replace("; ", ";"), text)
    # Letters stand in a row, so x says it all. A space has no outline.
    text = _LETTERS.sub(r'\1 x="\2"/>', text.replace("xlink:href=", "href="))
    for space in _SPACES.findall(text):
        text = re.sub(rf'<use href="#{re.escape(space)}"(?: x="[^"]*")?/>', "", text)
    text = _SPACES.sub("", text).replace("<defs></defs>", "").replace("<g/>", "")
    used = set(re.findall(r"#([\w.-]+)", text))
    text = re.sub(r' id="([^"]*)"', lambda match: match[0] if match[1] in used else "", text)
    return text.replace("DejaVuSans-", "d")


def label(text: str, *, longest: int = 34) -> str:
    """A user's text on one line, without characters that the font of the figures lacks."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    known = _characters()
    text = "".join(c if ord(c) in known else "\N{REPLACEMENT CHARACTER}" for c in text)
    return text if len(text) <= longest else text[: longest - 1] + "…"


@lru_cache(maxsize=1)
def _characters() -> frozenset[int]:
    return frozenset(get_font(findfont(FontProperties(family="DejaVu Sans"))).get_charmap())
