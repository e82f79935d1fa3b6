"""Numbers, names and tables as text: for people, and as CSV, Markdown and LaTeX."""

import csv
import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from secateur.registry import ATTACKS
from secateur.text import shown

PERCENT = "\N{NO-BREAK SPACE}%"
NORM_LABELS = {"l0": "L₀", "l0_pixels": "L₀ by pixel", "l1": "L₁", "l2": "L₂", "linf": "L∞"}


def attack_label(name: str, norm: str) -> str:
    """An attack with its norm; a name that is not registered stays as it is.

    >>> attack_label("ddn", "l2"), attack_label("mine", "linf")
    ('DDN (L₂)', 'mine (L∞)')
    """
    labels = (entry.label for entry in ATTACKS.entries() if name in (entry.name, f"{entry.name}-{norm}"))
    return f"{next(labels, name)} ({NORM_LABELS[norm]})"


def arm_label(arm: str) -> str:
    """A fine-tuning arm in words.

    >>> arm_label("none"), arm_label("standard"), arm_label("adversarial")
    ('no fine-tuning', 'fine-tuned', 'fine-tuned: adversarial')
    """
    if arm == "none":
        return "no fine-tuning"
    return "fine-tuned" if arm == "standard" else f"fine-tuned: {arm}"


def network_label(criterion: str | None, sparsity: float) -> str:
    """Criterion and sparsity of a network.

    >>> network_label("l1", 0.4), network_label("", 0.0)
    ('l1 0.4', 'dense')
    """
    return f"{criterion} {sparsity:g}" if criterion else "dense"


def number(value: float | None) -> str:
    """Three significant digits; "–" where there is no number.

    >>> number(0.1234), number(1234.5), number(math.inf), number(None)
    ('0.123', '1,234', '∞', '–')
    """
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    # Three digits of a large number would be rounded to zeros, and a count needs no decimals.
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:#.3g}"


def compact(value: float) -> str:
    """A count with a metric suffix.

    >>> compact(78_650), compact(11_200_000)
    ('78.7k', '11.2M')
    """
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{suffix}"
    return f"{value:.3g}"


def plain(value: float | None) -> str:
    """A setting or a count as it is; "–" where there is none."""
    return "–" if value is None or math.isnan(value) else f"{value:g}"


def percent(share: float | None) -> str:
    """A share as a percentage: whole, with one decimal below ten; "–" where there is none."""
    if share is None or not math.isfinite(share):
        return number(share)
    # 0.0995 is the smallest share that rounds to 10 % at one decimal.
    return f"{100 * share:.{0 if share >= 0.0995 else 1}f}{PERCENT}"


def percent_range(low: float, high: float, between: str = " to ") -> str:
    """An interval of shares, with one percent sign.

    >>> percent_range(0.41, 0.63).replace(PERCENT, " %")
    '41 to 63 %'
    """
    return f"{percent(low).removesuffix(PERCENT)}{between}{percent(high)}"


def slug(name: str) -> str:
    """A name as part of a file name.

    >>> slug("FMN (L∞)")
    'fmn-l'
    """
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.") or "unnamed"


def unique_stem(stem: str, taken: set[str]) -> str:
    """``stem``, made longer until it is not in ``taken``, to which it is then added.

    Names that differ only in punctuation have the same slug.
    """
    while stem in taken:
        stem += "-again"
    taken.add(stem)
    return stem


Value = str | float | None
Format = Literal["text", "number", "count", "percent", "plain"]
_FORMATTERS: dict[Format, Callable[[float], str]] = {
    "number": number,
    "count": compact,
    "percent": percent,
    "plain": plain,
}
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
    "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}", "∞": r"$\infty$", "≤": r"$\leq$",
    "→": r"$\to$", "−": r"$-$", "–": "--", "ε": r"$\varepsilon$", "…": r"\dots{}", "₀": r"$_0$",
    "₁": r"$_1$", "₂": r"$_2$", "\u00a0": "~",
    # After the end of a row LaTeX would read a bracket as the optional argument of "\\".
    "[": "{[}", "]": "{]}",
}  # fmt: skip


@dataclass(frozen=True)
class Column:
    """A column: its key in files, its title for people, and the format of its values."""

    key: str
    title: str
    format: Format = "number"


@dataclass(frozen=True)
class Table:
    """A table of values under ``heads``; ``columns`` and ``rows`` are its text for people.

    >>> table = Table("t", "t", (Column("share", "left", "percent"),), ((0.871,), (None,)))
    >>> table.columns, table.rows[1]
    (('left',), ('–',))
    >>> print(to_csv(table), end="")
    share
    0.871
    ""
    """

    name: str
    title: str
    heads: tuple[Column, ...]
    values: tuple[tuple[Value, ...], ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """Titles of the columns."""
        return tuple(head.title for head in self.heads)

    @property
    def rows(self) -> tuple[tuple[str, ...], ...]:
        """Every value as text."""
        return tuple(
            tuple(value_text(value, head.format) for value, head in zip(row, self.heads, strict=True))
            for row in self.values
        )

    def select(self, keys: Sequence[str]) -> "Table":
        """Only the columns ``keys``, in this order."""
        at = [[head.key for head in self.heads].index(key) for key in keys]
        rows = tuple(tuple(row[i] for i in at) for row in self.values)
        return replace(self, heads=tuple(self.heads[i] for i in at), values=rows)

    def insert_after(self, key: str, heads: Sequence[Column], values: Sequence[tuple[Value, ...]]) -> "Table":
        """With the columns ``heads`` after the one called ``key``."""
        at = [head.key for head in self.heads].index(key) + 1
        rows = zip(self.values, values, strict=True)
        wider = (*self.heads[:at], *heads, *self.heads[at:])
        return replace(self, heads=wider, values=tuple((*own[:at], *new, *own[at:]) for own, new in rows))


def named_columns(names: str, form: Format = "text") -> tuple[Column, ...]:
    """Columns called by the words of ``names``, in files and for people."""
    return tuple(Column(name, name, form) for name in names.split())


def value_text(value: Value, form: Format) -> str:
    """A value for people; "–" where there is none."""
    if value is None:
        return "–"
    return value if isinstance(value, str) else _FORMATTERS[form](value)


def to_csv(table: Table) -> str:
    """Comma-separated values at full precision: ``inf`` for infinity, nothing where there is no value."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([head.key for head in table.heads])
    writer.writerows([_csv_value(value) for value in row] for row in table.values)
    return buffer.getvalue()


def _csv_value(value: Value) -> str:
    if isinstance(value, str):
        return _csv_text(value)
    # Only a NaN differs from itself.
    return "" if value is None or value != value else repr(value)


@lru_cache(maxsize=4096)
def _csv_text(text: str) -> str:
    """A text for a CSV file; the same few stand in most rows."""
    # A spreadsheet would execute a text that begins like a formula.
    return f"'{shown(text)}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else shown(text)


def to_markdown(table: Table) -> str:
    """A Markdown table with numbers aligned to the right."""
    rules = ["---" if head.format == "text" else "---:" for head in table.heads]
    lines = [list(table.columns), rules, *([markdown_text(text) for text in row] for row in table.rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


@lru_cache(maxsize=4096)
def markdown_text(text: str) -> str:
    """A user's text escaped for Markdown, on one line; the same few stand in most rows."""
    # Markdown passes HTML on to the browser.
    text = shown(" ".join(text.split())).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_|\[\]])", r"\\\1", text)


def to_latex(table: Table) -> str:
    r"""A ``tabular`` with the rules of the ``booktabs`` package, for ``\input``."""
    spec = "".join("l" if head.format == "text" else "r" for head in table.heads)
    lines = [
        "% needs \\usepackage{booktabs}",
        f"\\begin{{tabular}}{{{spec}}}",
        "\\toprule",
        " & ".join(latex_text(title) for title in table.columns) + r" \\",
        "\\midrule",
        *(" & ".join(latex_text(text) for text in row) + r" \\" for row in table.rows),
        "\\bottomrule",
        "\\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def latex_text(text: str) -> str:
    """A user's text escaped for LaTeX, on one line."""
    return "".join(_LATEX.get(c, c) for c in shown(" ".join(text.split())))
