"""A model card for every pruned network: what it is, what was measured, and what that does not say."""

from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version

from jinja2 import Environment, PackageLoader, StrictUndefined

from secateur.report.aggregate import Grid, GridPoint, NetworkPoint, dense_of
from secateur.report.conclusions import images
from secateur.report.formats import markdown_text
from secateur.report.formatting import arm_label, number, percent, slug, unused
from secateur.report.headline import (
    RULE,
    budget_label,
    clean_share,
    leading,
    quantity,
    robust_share,
    targeted,
)
from secateur.report.latency import Latency, latency_of
from secateur.report.left import left_interval, left_text
from secateur.report.page import spread
from secateur.report.paired_changes import Change


def cards(grid: Grid, change: dict[GridPoint, Change]) -> Iterator[tuple[str, str]]:
    """File name and Markdown of every pruned network's card, in the order of the study."""
    # Markdown is no HTML: every text of the study goes through the filter instead.
    environment = Environment(
        loader=PackageLoader("secateur.report"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["md"] = markdown_text
    template = environment.get_template("card.md.j2")
    names: set[str] = set()
    for where, point in grid.networks.items():
        if where.sparsity > 0:
            parts = (where.model, where.criterion, f"{where.sparsity:g}", where.arm)
            name = unused("-".join(slug(part)[:40] for part in parts), names)
            yield f"{name}.md", template.render(**_words(grid, change, point))


def _words(grid: Grid, change: dict[GridPoint, Change], point: NetworkPoint) -> dict[str, object]:
    where = point.where
    dense = grid.networks.get(dense_of(where))
    config = grid.study.config
    return {
        "model": where.model,
        "what": f"{where.criterion} at sparsity {where.sparsity:g}, {arm_label(where.arm)}",
        "study": grid.study.name,
        "study_hash": grid.study.study_hash,
        "version": version("secateur"),
        "collapsed": point.collapsed,
        "dense": _size(dense),
        "this": _size(point),
        "latency": _latency(latency_of(point), str(grid.study.conditions)),
        "robust": point.robust,
        "criterion": where.criterion,
        "sparsity": f"{where.sparsity:g}",
        "reached": f"{point.networks[0].sparsity_achieved:.4g}",
        "arm": arm_label(where.arm),
        "attacks": [
            _attack(grid, change, replace(where, attack=attack))
            for attack in grid.attacks
            if replace(where, attack=attack) in grid.points
        ],
        "data": str(config.get("data", {}).get("spec", "unknown")),
        "rule": RULE,
        "targeted": any(targeted(each) for p, each in grid.points.items() if replace(p, attack="") == where),
        "spread": spread(grid),
        "cells": [
            {"id": network.id, "seed": network.axes.seed, "weights": network.weights_hash[:16]}
            for network in point.networks
        ],
        "environments": "; ".join(text for text, _ in grid.study.environments),
    }


def _size(point: NetworkPoint | None) -> dict[str, str]:
    if point is None:
        return dict.fromkeys(("parameters", "macs", "accuracy"), "–")
    return {
        "parameters": f"{point.parameters.mean:,.0f}",
        "macs": f"{point.macs.mean:,.0f}",
        "accuracy": f"{100 * point.accuracy.mean:.1f} %",
    }


def _latency(found: Latency | None, conditions: str) -> dict[str, str] | None:
    if found is None:
        return None
    return {
        "dense": f"{number(1e3 * found.dense_seconds)} ms",
        "this": f"{number(1e3 * found.seconds)} ms",
        "share": percent(found.share),
        "quartiles": f"{percent(found.share_low)} to {percent(found.share_high)}",
        "memory": f"{number(found.peak_bytes / 1e6)} MB",
        "dense_memory": f"{number(found.dense_peak_bytes / 1e6)} MB",
        "conditions": conditions,
    }


def _attack(grid: Grid, change: dict[GridPoint, Change], where: GridPoint) -> dict[str, str]:
    point, against = grid.points[where], change[where]
    budget, dense = leading(grid, where.attack), grid.points.get(dense_of(where))
    robust = robust_share(point, budget)
    before = robust_share(dense, budget) if dense else None
    return {
        "name": budget_label(grid, where.attack, budget),
        "quantity": quantity(grid, where.attack),
        "accuracy": percent(clean_share(point).mean),
        "robust": f"{percent(robust.mean)} ({robust.interval})" if robust else "–",
        "before": percent(before.mean) if before else "–",
        "left": left_text(against.total),
        "interval": left_interval(against.total) or "–",
        "pruning": left_text(against.pruning) if point.role == "pruned" else "–",
        "images": images(point),
        "grade": point.grade,
        "remarks": "; ".join(point.reasons),
    }
