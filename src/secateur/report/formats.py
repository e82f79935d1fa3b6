"""Tables as CSV, Markdown and LaTeX; a user's text can break none of them."""

import csv
import io
import math
import re

from secateur.report.tables import Table, Value

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "∞": r"$\infty$",
    "≤": r"$\leq$",
    "→": r"$\to$",
    # After the end of a row a bracket would be read as its optional argument.
    "[": "{[}",
    "]": "{]}",
    "−": r"$-$",
    "–": "--",
    "ε": r"$\varepsilon$",
    "…": r"\dots{}",
    "₀": r"$_0$",
    "₁": r"$_1$",
    "₂": r"$_2$",
    "\u00a0": "~",
}


def to_csv(table: Table) -> str:
    """Comma-separated values at full precision: ``inf`` for infinity, nothing where there is no value."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([head.key for head in table.heads])
    writer.writerows([_csv_cell(value) for value in row] for row in table.values)
    return buffer.getvalue()


def _csv_cell(value: Value) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, str):
        # A spreadsheet would run a text that begins like a formula.
        return f"'{value}" if value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
    return repr(value)


def to_markdown(table: Table) -> str:
    """A Markdown table; numbers stand to the right."""
    rules = ["---" if head.format == "text" else "---:" for head in table.heads]
    lines = [list(table.columns), rules, *([markdown_text(text) for text in row] for row in table.rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def markdown_text(text: str) -> str:
    """A user's text inside Markdown: on one line, without effect on what stands around it."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_|\[\]])", r"\\\1", text)


def to_latex(table: Table) -> str:
    r"""A ``tabular`` with the rules of the ``booktabs`` package, for ``\input``."""
    spec = "".join("l" if head.format == "text" else "r" for head in table.heads)
    lines = [
        "% needs \\usepackage{booktabs}",
        f"\\begin{{tabular}}{{{spec}}}",
        "\\toprule",
        " & ".join(_latex(title) for title in table.columns) + r" \\",
        "\\midrule",
        *(" & ".join(_latex(text) for text in row) + r" \\" for row in table.rows),
        "\\bottomrule",
        "\\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _latex(text: str) -> str:
    return "".join(_LATEX.get(c, c) for c in " ".join(text.split()))
