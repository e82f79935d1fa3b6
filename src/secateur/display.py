"""How results show themselves: a few lines in a console, a small table in a notebook, columns for pandas."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from html import escape
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, ClassVar

from secateur.errors import ExitCode, UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 10
"""Rows below the title; with it and a last line for the rest, a result has at most twelve lines."""
LONGEST = 100
"""Characters of a line."""


class Shown:
    """A result that shows itself briefly, whatever it holds.

    A subclass says what in ``_shown``: a title, and rows of a name and a value. A frozen dataclass is
    declared with ``repr=False``.

    >>> class Pair(Shown):
    ...     def _shown(self):
    ...         return "Pair", [("first", "1"), ("second", "2")]
    >>> Pair()
    Pair
      first   1
      second  2
    """

    @abstractmethod
    def _shown(self) -> tuple[str, Sequence[tuple[str, str]]]:
        """The title, and the rows."""

    def __repr__(self) -> str:
        title, rows = self._shown()
        wide = max((len(name) for name, _ in rows[:MOST]), default=0)
        lines = [title, *(f"  {name:<{wide}}  {value}".rstrip() for name, value in rows[:MOST])]
        if len(rows) > MOST:
            lines.append(f"  … {len(rows) - MOST} more")
        return "\n".join(_short(line) for line in lines)

    def _repr_html_(self) -> str:
        title, rows = self._shown()
        body = "".join(
            f"<tr><th style='text-align:left'>{escape(_short(name))}</th>"
            f"<td style='text-align:left'>{escape(_short(value))}</td></tr>"
            for name, value in rows[:MOST]
        )
        rest = f"<p>… {len(rows) - MOST} more</p>" if len(rows) > MOST else ""
        return f"<p><b>{escape(_short(title))}</b></p><table>{body}</table>{rest}"


class Drawn:
    """A result that a function of a higher layer draws, which is imported when somebody asks for the figure.

    A subclass names it in ``drawn_by``, as the rows of a registry name theirs: "package.module:function".

    >>> class Point(Drawn):
    ...     drawn_by = "builtins:type"
    >>> Point().plot().__name__
    'Point'
    """

    drawn_by: ClassVar[str]

    def plot(self) -> "Figure":
        """The result as a matplotlib figure; a notebook shows it."""
        figure: Figure = resolve_name(self.drawn_by)(self)
        return figure


def frame(columns: Mapping[str, Sequence[Any]]) -> Any:
    """Columns of equal length as a pandas data frame.

    Raises:
        UserError: pandas is not installed (code ENVIRONMENT).
    """
    try:
        import pandas
    except ImportError:
        raise UserError(
            "this needs pandas", hint="pip install secateur[pandas]", code=ExitCode.ENVIRONMENT
        ) from None
    return pandas.DataFrame(dict(columns))


def _short(line: str) -> str:
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"
