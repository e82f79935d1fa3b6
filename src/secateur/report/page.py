"""The report as one HTML file that needs nothing else and loads nothing."""

import base64
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from importlib.resources import files
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from secateur.hashing import sha256_hex
from secateur.report.aggregate import Grid, GridPoint, tuned_arms
from secateur.report.budgets import budgets
from secateur.report.comparison import Comparison
from secateur.report.conclusions import answers, headlines, warnings
from secateur.report.formatting import arm_label, attack_label, percent
from secateur.report.headline import RULE, points_of, targeted
from secateur.report.latency import latency_table, noise, promise, sentences, with_latency
from secateur.report.left import left_columns, left_tiles
from secateur.report.paired_changes import Change
from secateur.report.records import Axes
from secateur.report.tables import Table, Value, written
from secateur.stats import SEEDS_FOR_SPREAD
from secateur.text import counted, duration

COLUMNS = (
    "model", "criterion", "sparsity", "arm", "attack", "grade", "test_accuracy", "budget", "robust_accuracy",
    "robust_low", "robust_high", "macs", "distance_left", "left_low", "left_high", "median", "found",
    "correct", "trainings", "images",
)  # fmt: skip


@dataclass(frozen=True)
class Picture:
    """A figure of the page: SVG text with its words; sizes in CSS pixels."""

    stem: str
    title: str
    caption: str
    alt: str
    svg: str
    width: int
    height: int

    @property
    def uri(self) -> str:
        """The picture as a ``data:`` address."""
        return "data:image/svg+xml;base64," + base64.b64encode(self.svg.encode()).decode()


def render(
    grid: Grid,
    change: dict[GridPoint, Change],
    pictures: Sequence[Picture],
    summary: Table,
    *,
    run_folder: str,
) -> str:
    """The page. Every text of the study is escaped, and the policy forbids whatever could load or run."""
    environment = _environment()
    script = _template_file("table.js")
    table = summary.pick("summary", summary.title, with_latency(COLUMNS, summary))
    return environment.get_template("report.html.j2").render(
        policy=_policy(script),
        css=_template_file("report.css"),
        script=script,
        study=grid.study,
        counts=_counts(grid),
        headlines=[*warnings(grid), *headlines(grid)],
        answers=list(answers(grid, change)),
        budgets=budgets(grid),
        left=_left(grid, change),
        rule=RULE,
        targeted=any(targeted(point) for point in grid.points.values()),
        sparsities=[f"{sparsity:g}" for sparsity in grid.sparsities],
        latency=_latency(grid),
        spread=spread(grid),
        figures=pictures,
        table=table,
        rows=[_row(table, values) for values in table.values],
        remarks=_remarks(grid),
        holes=[
            {"kind": h.kind, "where": f"{h.stage} {_where(h.axes)}", "reason": h.reason, "detail": h.detail}
            for h in grid.study.holes
        ],
        image_sets=_image_sets(grid),
        hours=duration(grid.study.seconds),
        version=version("secateur"),
        run_folder=run_folder,
        config=yaml.safe_dump(dict(grid.study.config), sort_keys=False, allow_unicode=True),
    )


def render_comparison(comparison: Comparison) -> str:
    """The comparison of two studies as a page, under the same policy."""
    script, table = _template_file("table.js"), comparison.table
    return (
        _environment()
        .get_template("comparison.html.j2")
        .render(
            policy=_policy(script),
            css=_template_file("report.css"),
            script=script,
            comparison=comparison,
            table=table,
            rows=[_row(table, values) for values in table.values],
            verdicts=Counter(each.verdict for each in comparison.differences),
            only=[
                (study, [_grid_point_words(where) for where in grid_points])
                for study, grid_points in (
                    (comparison.first, comparison.only_first),
                    (comparison.second, comparison.only_second),
                )
                if grid_points
            ],
            version=version("secateur"),
        )
    )


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("secateur.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["percent"] = percent
    return environment


def _template_file(name: str) -> str:
    return files("secateur.report").joinpath("templates", name).read_text(encoding="utf-8")


def _policy(script: str) -> str:
    digest = base64.b64encode(sha256(script.encode()).digest()).decode()
    return (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


def _counts(grid: Grid) -> dict[str, int]:
    cells = len(grid.study.planned)
    return {
        "models": len(grid.models),
        "criteria": len(grid.criteria),
        "sparsities": len(grid.sparsities),
        "seeds": len({axes.seed for axes, _ in grid.study.planned}),
        "cells": cells,
        "done": cells - len(grid.study.holes),
    }


def _left(grid: Grid, change: dict[GridPoint, Change]) -> list[dict[str, Any]]:
    """The section on the distance that is left: a block per minimum-norm attack and arm."""
    blocks = []
    for attack in grid.attacks:
        points = points_of(grid, attack)
        for arm in tuned_arms(grid) if points and not points[0].fixed else ():
            rows = [
                {
                    "model": m,
                    "criterion": c,
                    "tiles": left_tiles(grid, change, GridPoint(m, c, 0.0, arm, attack)),
                }
                for m in grid.models
                for c in grid.criteria
                if any(where.model == m and where.arm == arm for where in grid.order)
            ]
            if rows:
                title = f"{attack_label(attack, points[0].norm)}, {arm_label(arm)}"
                blocks.append({"title": title, "columns": left_columns(grid, arm), "rows": rows})
    return blocks


def _latency(grid: Grid) -> dict[str, Any] | None:
    """The section on latency; None where nothing was measured."""
    if not latency_table(grid).values:
        return None
    rows = []
    for model in grid.models:
        for criterion in grid.criteria or ("",):
            found = [promise(grid, model, criterion, sparsity) for sparsity in grid.sparsities]
            tiles = [
                {
                    "share": p.latency.share,
                    "text": percent(p.latency.share),
                    "detail": f"MACs {percent(p.macs)}",
                }
                if p
                else None
                for p in found
            ]
            rows += (
                [{"model": model, "criterion": criterion or "dense", "tiles": tiles}] if any(found) else []
            )
    told = [{"model": model, "sentence": sentence} for model, sentence in sentences(grid)]
    return {"conditions": str(grid.study.conditions), "told": told, "rows": rows, "noise": noise(grid)}


def spread(grid: Grid) -> str:
    """What the number of trainings allows to say."""
    trainings = max((len(point.attacks) for point in grid.points.values()), default=0)
    if trainings >= SEEDS_FOR_SPREAD:
        said = f"Intervals are over {trainings} trainings (Student's t)"
        return f"{said}, unless they say that they are over images."
    return (
        f"{counted(trainings, 'training')} per network: no interval over "
        "trainings. Intervals are over images: they say what other images would give, not what other "
        "trainings would."
    )


def _row(table: Table, values: tuple[Value, ...]) -> dict[str, Any]:
    cells = [
        {"text": written(value, head.format), "key": None if head.format == "text" else _sort_key(value)}
        for head, value in zip(table.heads, values, strict=True)
    ]
    grade = dict(zip((head.key for head in table.heads), values, strict=True))["grade"]
    return {"cells": cells, "grade": grade}


def _sort_key(value: Value) -> str:
    if not isinstance(value, int | float) or math.isnan(value):
        return ""
    return "Infinity" if value == math.inf else repr(value)


def _remarks(grid: Grid) -> list[dict[str, str]]:
    found = [
        {"grade": point.grade, "where": _grid_point_words(point.where), "reasons": "; ".join(point.reasons)}
        for point in grid.points.values()
        if point.grade != "A"
    ]
    return sorted(found, key=lambda remark: remark["grade"], reverse=True)


def _grid_point_words(where: GridPoint) -> str:
    pruned = f"{where.criterion} {where.sparsity:g}" if where.criterion else "dense"
    return ", ".join(filter(None, (where.model, pruned, arm_label(where.arm), where.attack)))


def _where(axes: Axes) -> str:
    where = GridPoint(axes.model, axes.criterion or "", axes.sparsity, axes.arm, axes.attack or "")
    return f"{_grid_point_words(where)}, seed {axes.seed}"


def _image_sets(grid: Grid) -> list[str]:
    sets = {attack.hashes: attack.n for attack in grid.study.attacks}
    said = [
        f"{n} images, sha256 of their hashes {sha256_hex(''.join(hashes))[:16]}" for hashes, n in sets.items()
    ]
    return said or ["none attacked yet"]
