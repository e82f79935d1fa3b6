"""Write all files of a report, and of a comparison."""

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from secateur.errors import ExitCode, UserError
from secateur.report import tables
from secateur.report.aggregate import Grid, GridPoint, aggregate
from secateur.report.cards import bibliography, cards
from secateur.report.comparison import Comparison
from secateur.report.conclusions import warnings
from secateur.report.examples import study_cards
from secateur.report.formatting import Table, to_csv, to_latex, to_markdown
from secateur.report.latency import (
    PAPER_COLUMNS,
    in_networks,
    in_paper,
    in_summary,
    latency_sentences,
    latency_table,
)
from secateur.report.linked import page_arms
from secateur.report.load import load, load_with_examples
from secateur.report.page import Picture, prepared, render_comparison, rendered
from secateur.report.paired_changes import Change, changes
from secateur.report.paired_tests import criteria_table
from secateur.report.paper import paper_tables
from secateur.report.summary import summary
from secateur.text import did_you_mean
from secateur.untrusted import own_folder, refuse_link, write_new


@dataclass(frozen=True)
class ReportPaths:
    """The files of a report, its results in few columns, and (model, sentence) of warnings and of latency.

    >>> paths = ReportPaths(Path("index.html"), (), (), (), Path("CITATION.bib"), None, (), ())
    >>> paths.citations.name
    'CITATION.bib'
    """

    index: Path
    figures: tuple[Path, ...]
    tables: tuple[Path, ...]
    cards: tuple[Path, ...]
    citations: Path
    overview: Table
    warnings: tuple[tuple[str, str], ...]
    latency: tuple[tuple[str, str], ...]


FIGURE_FILES = ("pdf", "png", "svg")
"""The kinds of files that figures are written as on request."""


def report(
    folder: Path | str,
    *,
    out: Path | str | None = None,
    figures: Sequence[str] = (),
    pictures: bool = True,
) -> ReportPaths:
    """Write the report of a run folder, finished or not, to ``out`` (by default ``<folder>/report``).

    The same records give the same bytes. Cells without a result are gaps. The figures are on the page;
    ``figures`` names the kinds of files that they are written as besides: "pdf", "png", "svg". Kinds that an
    earlier report left in ``out`` are written anew, so that no file is older than the page. Without
    ``pictures`` the page holds no image of the data, clean or adversarial.

    Raises:
        UserError: ``folder`` holds no study, ``out`` cannot be written, or a kind is unknown.

    >>> from tempfile import mkdtemp
    >>> from secateur.store import Store
    >>> study = dict.fromkeys(("config", "facts", "science"), {}) | {"limited": None, "cells": []}
    >>> study |= {"name": "empty", "study_hash": "0"}
    >>> store = Store.create(Path(mkdtemp()) / "run", study)
    >>> paths = report(store.root)
    >>> paths.index.name, sorted(path.name for path in paths.tables)[:3]
    ('index.html', ['holes.csv', 'networks.csv', 'per_seed.csv'])
    """
    _check_kinds(figures)
    folder = Path(folder)
    target = Path(out) if out is not None else folder / "report"
    with _uncollected():
        study, examples = load_with_examples(folder)
        grid = aggregate(study)
        if out is None:
            refuse_link(target)
        # Compared once, used by every table, figure, page and card.
        change = changes(grid)
    with _writing(target):
        places = {name: own_folder(target, name) for name in ("figures", "tables", "cards")}
        kinds = _kinds_in(places["figures"], besides=figures)
        # Other processes draw while this one writes everything else.
        with _drawing(grid, change, kinds) as drawn:
            paper = list(paper_tables(grid, change))
            whole = in_summary(summary(grid, change), grid)
            written = _write_tables(grid, change, places["tables"], paper, whole)
            citations = write_new(target / "CITATION.bib", bibliography(grid))
            written_cards = [write_new(places["cards"] / name, card) for name, card in cards(grid, change)]
            shown = study_cards(grid, page_arms(grid), examples) if pictures else ((), 0)
            page = prepared(grid, change, whole, run_folder=folder.name, paper=paper, examples=shown)
            overview = tables.overview_table(grid, change)
            plots, files = drawn(places["figures"])
        index = write_new(target / "index.html", rendered(page, plots))
    return ReportPaths(
        index=index,
        figures=tuple(files),
        tables=tuple(written),
        cards=tuple(written_cards),
        citations=citations,
        overview=overview,
        warnings=tuple((warning.model, warning.sentence) for warning in warnings(grid)),
        latency=latency_sentences(grid),
    )


def terminal_table(folder: Path | str) -> Table:
    """The results of a run folder in few columns, as text: one row per network, one column per attack.

    Raises:
        UserError: ``folder`` holds no study.

    >>> from tempfile import mkdtemp
    >>> from secateur.store import Store
    >>> study = dict.fromkeys(("config", "facts", "science"), {}) | {"limited": None, "cells": []}
    >>> study |= {"name": "empty", "study_hash": "0"}
    >>> terminal_table(Store.create(Path(mkdtemp()) / "run", study).root).columns
    ('model', 'pruned', 'tuned', 'acc.', 'MACs')
    """
    grid = aggregate(load(Path(folder)))
    return tables.overview_table(grid, changes(grid))


def write_comparison(comparison: Comparison, folder: Path | str) -> tuple[Path, ...]:
    """Write a comparison as ``comparison.html``, ``.csv``, ``.md`` and ``.tex`` into ``folder``.

    Raises:
        UserError: ``folder`` cannot be written.

    >>> from tempfile import mkdtemp
    >>> empty = Comparison("before", "after", (), (), (), (), {})
    >>> [path.name for path in write_comparison(empty, mkdtemp())]
    ['comparison.html', 'comparison.csv', 'comparison.md', 'comparison.tex']
    """
    table = comparison.table
    texts = {
        "comparison.html": render_comparison(comparison),
        "comparison.csv": to_csv(table),
        "comparison.md": to_markdown(table),
        "comparison.tex": to_latex(table),
    }
    with _writing(Path(folder)) as target:
        for name, text in texts.items():
            write_new(target / name, text)
    return tuple(Path(folder) / name for name in texts)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the collector of garbage, which would look at records that stay over and over."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@contextmanager
def _writing(target: Path) -> Iterator[Path]:
    """Make the folder; report a failure to write into it as a ``UserError``."""
    try:
        target.mkdir(parents=True, exist_ok=True)
        yield target
    except OSError as problem:
        raise UserError(
            f"the report cannot be written to '{target}': {problem.strerror or problem}",
            hint="check its permissions and the free space",
            code=ExitCode.ENVIRONMENT,
        ) from problem


Texts = list[tuple[str, str]]


def _write_tables(
    grid: Grid, change: dict[GridPoint, Change], folder: Path, paper: Texts, whole: Table
) -> list[Path]:
    short, robust = in_paper(tables.paper_table(grid, change), grid), tables.robust_accuracy(grid)
    texts = {"summary.md": to_markdown(short), "summary.tex": to_latex(short)}
    texts |= dict(paper)
    texts |= {"robust_accuracy.md": to_markdown(robust), "robust_accuracy.csv": to_csv(robust)}
    if (criteria := criteria_table(grid)).values:
        texts |= {"criteria.md": to_markdown(criteria), "criteria.csv": to_csv(criteria)}
    if (latency := latency_table(grid)).values:
        shown = latency.select(PAPER_COLUMNS)
        texts |= {"latency.csv": to_csv(latency)}
        texts |= {"latency.md": to_markdown(shown), "latency.tex": to_latex(shown)}
    for table in (
        whole,
        tables.per_seed(grid),
        in_networks(tables.networks(grid), grid),
        tables.security_curves(grid),
        tables.holes(grid),
    ):
        texts[f"{table.name}.csv"] = to_csv(table)
    return [write_new(folder / name, text) for name, text in texts.items()]


def _check_kinds(kinds: Sequence[str]) -> None:
    for kind in kinds:
        if kind not in FIGURE_FILES:
            raise UserError(
                f"figures cannot be written as '{kind}'",
                hint=did_you_mean(kind, FIGURE_FILES, otherwise=f"choose from {', '.join(FIGURE_FILES)}"),
            )


def _kinds_in(folder: Path, *, besides: Sequence[str]) -> list[str]:
    """The kinds of figures that are in a folder, and others."""
    present = {path.suffix[1:] for path in folder.iterdir()}
    return [kind for kind in FIGURE_FILES if kind in present or kind in besides]


@contextmanager
def _drawing(
    grid: Grid, change: dict[GridPoint, Change], kinds: Sequence[str]
) -> Iterator[Callable[[Path], tuple[list[Picture], list[Path]]]]:
    """Begin to draw; what is given waits for the figures and writes their files into a folder."""
    # matplotlib is slow to import, and a table in the terminal does not need it.
    from secateur.report import drawing, figures

    with drawing.started(figures.plans(grid, change), kinds) as drawn:
        yield partial(drawing.named, drawn)
