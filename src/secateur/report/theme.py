"""The look of the figures, and how they are written: the same bytes for the same records."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from matplotlib import rc_context, rcParams
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

from secateur.untrusted import cleared

PANEL_HEIGHT = 1.45
LEGEND_ROW = 0.17
WIDTH = 6.75  # inches: two columns of a conference paper
INK, SOFT, GRID, PAPER = "#1f2328", "#6e7781", "#e6e8eb", "#ffffff"

# Okabe and Ito's colours (without the yellow, too pale for a line), then four of Tol's "muted" ones.
PALETTE = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00",
    "#882255", "#44aa99", "#999933", "#8c510a",
)  # fmt: skip
_DARK = {
    INK: "#e6edf3", SOFT: "#9198a1", GRID: "#30363d", PAPER: "#0d1117", "#0072b2": "#4aa8e8",
    "#d55e00": "#ff8a3d", "#009e73": "#2fc79a", "#882255": "#d0659c", "#8c510a": "#c98a3f",
}  # fmt: skip

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


# Positions rounded to 0.01 points make the page a third smaller, and no screen shows them. Scales stay exact.
_POSITIONS = re.compile(r'(?: d="|translate\(| [xy]=")[^")]*')
_DIGITS = re.compile(r"(\.\d\d)\d+")


@contextmanager
def themed() -> Iterator[None]:
    """The settings under which figures are drawn and saved."""
    with rc_context(_SETTINGS):  # type: ignore[arg-type]
        yield


def save(figure: Figure, folder: Path, stem: str) -> tuple[Path, Path]:
    """Write ``stem.png`` and ``stem.pdf``."""
    # Solved once: ``savefig`` would solve it again, and draw twice, for each file.
    if figure.axes and (engine := figure.get_layout_engine()) is not None:
        engine.execute(figure)
    figure.set_layout_engine("none")
    figure.dpi = rcParams["savefig.dpi"]
    png, pdf = (cleared(folder / f"{stem}.{kind}") for kind in ("png", "pdf"))
    dates = {"CreationDate": None, "Producer": None, "Creator": None}
    FigureCanvasAgg(figure).print_png(png, metadata={"Software": None})  # type: ignore[no-untyped-call]
    FigureCanvasPdf(figure).print_pdf(pdf, metadata=dates)  # type: ignore[no-untyped-call]
    return png, pdf


def svg(figure: Figure) -> str:
    """The figure as SVG text, with dark colours for readers who prefer a dark page."""
    buffer = io.StringIO()
    absent = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=absent)
    # No date and no id from a clock: the same figure gives the same bytes.
    text = _POSITIONS.sub(lambda match: _DIGITS.sub(r"\1", match[0]), buffer.getvalue())
    rules = "".join(
        f'[style*="{what}: {colour}"]{{{what}:{on_dark} !important}}'
        for colour, on_dark in _DARK.items()
        for what in ("fill", "stroke")
    )
    # An image inside a page cannot read the page's colours, but it can read the reader's preference.
    style = f"<style>@media (prefers-color-scheme: dark){{{rules}}}</style>"
    head, tag, body = text.partition("<defs>")
    return f"{head}{style}{tag}{body}"


def label(text: str, *, longest: int = 34) -> str:
    """A user's text on one line, without characters that the font of the figures lacks."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    known = _characters()
    text = "".join(c if ord(c) in known else "\N{REPLACEMENT CHARACTER}" for c in text)
    return text if len(text) <= longest else text[: longest - 1] + "…"


@lru_cache(maxsize=1)
def _characters() -> frozenset[int]:
    return frozenset(get_font(findfont(FontProperties(family="DejaVu Sans"))).get_charmap())
