"""The report, and a comparison, as one HTML file that loads nothing from outside."""

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from importlib.metadata import version
from importlib.resources import files
from string import ascii_letters, digits
from typing import Any
from urllib.parse import quote

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from secateur.hashing import sha256_hex
from secateur.report.aggregate import Grid, GridPoint, grid_point_of, worst
from secateur.report.comparison import Comparison
from secateur.report.conclusions import conclusions, headlines, warnings
from secateur.report.examples import RULE, Cards
from secateur.report.formatting import Table, Value, arm_label, network_label, percent, to_csv
from secateur.report.latency import latency_sentences, measurement_noise
from secateur.report.linked import linked_data, page_arms, point_numbers, script_json
from secateur.report.page_rows import criteria_rows, result_table, table_entry
from secateur.report.paired_changes import Change
from secateur.report.pairing import UNRELIABLE
from secateur.report.repetitions import undrawn
from secateur.report.robustness import LEADING_RULE, targeted
from secateur.report.tiles import latency_rows, left_tables, robust_tables
from secateur.stats import SEEDS_FOR_SPREAD
from secateur.text import counted, duration

COLUMNS = (  # of the CSV file on the page
    "model", "criterion", "sparsity", "arm", "attack", "grade", "test_accuracy", "budget", "robust_accuracy",
    "remark",
    "robust_low", "robust_high", "macs", "latency_share", "distance_left", "left_low", "left_high", "median",
    "found", "correct", "trainings", "images",
)  # fmt: skip


_PLAIN = frozenset(ascii_letters + digits + " '()*,/:;=!{}[]_.-~")
"""What stays as it is in an address."""


@dataclass(frozen=True)
class Picture:
    """A figure of the page: SVG text with title, caption and alternative text; sizes in CSS pixels."""

    stem: str
    title: str
    caption: str
    alt: str
    svg: str
    width: int
    height: int

    @property
    def uri(self) -> str:
        """The picture as a ``data:`` address, for an attribute in double quotes; base64 is a fifth longer."""
        # matplotlib quotes attributes by double quotes.
        text = self.svg.replace("'", "&apos;").replace('"', "'")
        # What the page must not escape again: there is no double quote, bracket or ampersand in it.
        # A handful of signs in a long text: each at once, and first the one that stands for the others.
        for sign in sorted(set(text) - _PLAIN, key="%".__ne__):
            text = text.replace(sign, quote(sign))
        return Markup("data:image/svg+xml," + text)


def render(
    grid: Grid,
    change: dict[GridPoint, Change],
    pictures: Sequence[Picture],
    summary: Table,
    *,
    run_folder: str,
    paper: Sequence[tuple[str, str]] = (),
    examples: tuple[Sequence[Cards], int] = ((), 0),
) -> str:
    """The page of a study.

    ``examples`` are its adversarial pictures, and how many models under an attack had no room.
    Every text of the study is escaped, and the content security policy forbids all scripts but our own.
    """
    shown = prepared(grid, change, summary, run_folder=run_folder, paper=paper, examples=examples)
    return rendered(shown, pictures)


def prepared(
    grid: Grid,
    change: dict[GridPoint, Change],
    summary: Table,
    *,
    run_folder: str,
    paper: Sequence[tuple[str, str]],
    examples: tuple[Sequence[Cards], int],
) -> dict[str, Any]:
    """All that a page shows but the figures, which other processes may still draw; see :func:`render`."""
    # The summary has a column of latency only if it was measured.
    known = {head.key for head in summary.heads}
    numbers = point_numbers(grid)
    arms = page_arms(grid)
    return {
        "study": grid.study,
        "counts": _counts(grid),
        "headlines": [*warnings(grid), *headlines(grid)],
        "conclusions": list(conclusions(grid, change)),
        "robust": robust_tables(grid, arms),
        "left": left_tables(grid, change, arms),
        "examples": examples[0],
        "examples_left_out": examples[1],
        "example_rule": RULE,
        "criteria": criteria_rows(grid),
        "table": result_table(grid, change, summary),
        "numbers": numbers,
        "linked": script_json(linked_data(grid, change)) if grid.points else "",
        "csv_uri": _data_uri("text/csv", to_csv(summary.select([key for key in COLUMNS if key in known]))),
        "latex": [(name, _data_uri("text/x-tex", text)) for name, text in paper],
        "leading_rule": LEADING_RULE,
        "targeted": any(targeted(point) for point in grid.points.values()),
        "sparsities": [f"{sparsity:g}" for sparsity in grid.sparsities],
        "latency": latency_rows(grid),
        "latency_sentences": latency_sentences(grid),
        "noise": measurement_noise(grid),
        "intervals": interval_note(grid),
        "remarks": _remarks(grid),
        "doubtful": _doubtful(grid),
        "holes": grid.study.holes,
        "holes_by_reason": _holes_by_reason(grid),
        "image_sets": _image_sets(grid),
        "hours": duration(grid.study.seconds),
        "run_folder": run_folder,
        "config": yaml.safe_dump(dict(grid.study.config), sort_keys=False, allow_unicode=True),
    }


def rendered(page: Mapping[str, Any], pictures: Sequence[Picture]) -> str:
    """The page of what was :func:`prepared`, with its figures."""
    shown = {**page, "figures": pictures}
    return _render("report.html.j2", contents=_contents(shown), **shown)


_CONTENTS = (
    ("answer", "Verdict", "study"), ("budgets", "Robust accuracy", "robust"),
    ("left", "Distance left", "left"), ("examples", "Pictures", "examples"),
    ("criteria", "Criteria", "criteria"), ("table", "Table", "table"), ("doubtful", "Unreliable", "doubtful"),
    ("holes", "Failed", "holes"), ("measured-latency", "Latency", "latency"),
    ("cards", "Details", "conclusions"), ("figures", "Figures", "figures"),
    ("grades", "Warnings", "remarks"), ("provenance", "Provenance", "study"),
)  # fmt: skip


def _contents(shown: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Id and title of every section that the page has."""
    rows = {key: getattr(value, "rows", value) for key, value in shown.items()}
    return [(id_, title) for id_, title, key in _CONTENTS if rows[key]]


def _data_uri(kind: str, text: str) -> str:
    return f"data:{kind};charset=utf-8;base64,{base64.b64encode(text.encode()).decode()}"


def render_comparison(comparison: Comparison) -> str:
    """The page of a comparison, with the same protection."""
    sides = (
        (comparison.first, comparison.only_first),
        (comparison.second, comparison.only_second),
    )
    table = comparison.table
    return _render(
        "comparison.html.j2",
        table=table,
        rows=[_row(table, row) for row in table.values],
        comparison=comparison,
        verdicts=Counter(each.verdict for each in comparison.differences),
        only=[(study, [_label(where) for where in points]) for study, points in sides if points],
    )


def _render(template: str, **values: Any) -> str:
    environment = Environment(
        loader=PackageLoader("secateur.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["percent"] = percent
    environment.filters["counted"] = counted
    # The policy allows a script by its hash, so no script from a study's texts can run.
    script = _template_file("report.js")
    digest = base64.b64encode(sha256(script.encode()).digest()).decode()
    return environment.get_template(template).render(
        policy="default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
        css=_template_file("report.css"),
        script=script,
        version=version("secateur"),
        **values,
    )


def _template_file(name: str) -> str:
    return files("secateur.report").joinpath("templates", name).read_text(encoding="utf-8")


def _counts(grid: Grid) -> dict[str, int | bool]:
    cells = len(grid.study.planned)
    return {
        "models": len(grid.models),
        "criteria": len(grid.criteria),
        "sparsities": len(grid.sparsities),
        "seeds": len({axes.seed for axes, _ in grid.study.planned}),
        "undrawn": undrawn(grid),
        "cells": cells,
        "done": cells - len(grid.study.holes),
    }


@lru_cache(maxsize=32)
def interval_note(grid: Grid) -> str:
    """What the intervals of a study are over, in sentences."""
    trainings = max((len(point.attacks) for point in grid.points.values()), default=0)
    if trainings >= SEEDS_FOR_SPREAD:
        return (
            f"Intervals are over {trainings} trainings (Student's t), unless they are marked as over images."
        )
    return (
        f"{counted(trainings, 'training')} per network: no interval over trainings. Intervals are over "
        "images: they cover what other images would give, not what other trainings would give."
    )


def _row(table: Table, values: tuple[Value, ...]) -> dict[str, Any]:
    entries = [table_entry(value, head.format) for head, value in zip(table.heads, values, strict=True)]
    grade = dict(zip((head.key for head in table.heads), values, strict=True))["grade"]
    return {"entries": entries, "grade": grade}


def _remarks(grid: Grid) -> list[dict[str, str]]:
    """The points with warnings alone, and the warnings."""
    return [
        {"where": _label(point.where), "reasons": "; ".join(point.reasons)}
        for point in grid.points.values()
        if point.grade == "B"
    ]


def _doubtful(grid: Grid) -> list[dict[str, Any]]:
    """The networks without a conclusion: a word per attack, such as "collapsed", and the reasons."""
    found: dict[GridPoint, dict[str, Any]] = {}
    for point in grid.points.values():
        if point.grade in "CX":
            where = point.network_grid_point
            each = found.setdefault(
                where, {"grade": point.grade, "where": _label(where), "words": {}, "reasons": []}
            )
            each["grade"] = worst([each["grade"], point.grade])
            each["words"].setdefault(point.state or UNRELIABLE, []).append(point.where.attack)
            each["reasons"].append((point.where.attack, point.reasons))
    return list(found.values())


def _holes_by_reason(grid: Grid) -> list[tuple[str, str, list[str], str]]:
    """Kind, reason, cells and traceback: cells that fail for one reason share a line."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for hole in grid.study.holes:
        where = f"{hole.stage} {_label(grid_point_of(hole.axes))}, seed {hole.axes.seed}"
        found.setdefault((hole.kind, hole.reason, hole.detail), []).append(where)
    return [(kind, reason, where, detail) for (kind, reason, detail), where in found.items()]


def _label(where: GridPoint) -> str:
    pruned = network_label(where.criterion, where.sparsity)
    return ", ".join(filter(None, (where.model, pruned, arm_label(where.arm), where.attack)))


def _image_sets(grid: Grid) -> list[str]:
    # Attacks on the same images share one tuple of hashes.
    sets = {attack.hashes: attack.n for attack in grid.study.attacks}
    texts = [
        f"{n} images, sha256 of their hashes {sha256_hex(''.join(hashes))[:16]}" for hashes, n in sets.items()
    ]
    return texts or ["none attacked yet"]
