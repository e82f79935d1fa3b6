"""What to publish with a pruned network: a model card, and the BibTeX of what the study uses.

The references of a name are in its registration (``bibtex`` and ``paper``), those of the parts of a recipe in
``recipes.BIBTEX``; the BibTeX entries are in templates/references.bib.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from secateur.recipes import BIBTEX
from secateur.registry import ATTACKS, CHECKPOINTS, CRITERIA, DATASETS, HUB, MODELS, RATES, Registry
from secateur.report.aggregate import Grid, GridPoint, NetworkPoint, dense_of
from secateur.report.conclusions import images
from secateur.report.formatting import (
    arm_label,
    markdown_text,
    number,
    percent,
    percent_range,
    slug,
    unique_stem,
)
from secateur.report.hub_card import Metric, front_matter
from secateur.report.latency import Latency, latency_of
from secateur.report.page import interval_note
from secateur.report.paired_changes import Change
from secateur.report.repetitions import trainings
from secateur.report.robustness import (
    LEADING_RULE,
    budget_label,
    clean_share,
    leading_budget,
    left_interval_text,
    left_text,
    quantity,
    robust_share,
    targeted,
)

# The dependency graph (Fang et al. 2023), which every pruning uses.
_PRUNING = "fang2023"


def cards(grid: Grid, change: dict[GridPoint, Change]) -> Iterator[tuple[str, str]]:
    """File name and Markdown of every pruned network's card, in the order of the study."""
    # Jinja escapes HTML only: texts of the study go through the filter ``md`` instead.
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
            # File systems limit names to 255 bytes: 4 parts of at most 40.
            name = unique_stem("-".join(slug(part)[:40] for part in parts), names)
            yield f"{name}.md", template.render(**_card_values(grid, change, point))


@cache
def _version() -> str:
    """Of this package; its metadata are read once, not for every card."""
    return version("secateur")


def _card_values(grid: Grid, change: dict[GridPoint, Change], point: NetworkPoint) -> dict[str, object]:
    where = point.where
    attacked = [p for attack in grid.attacks if (p := replace(where, attack=attack)) in grid.points]
    what = f"{where.criterion} at sparsity {where.sparsity:g}, {arm_label(where.arm)}"
    data = str(grid.study.config.get("data", {}).get("spec", "unknown"))
    return {
        "front": front_matter(
            f"{where.model}, {what}", [*_metrics(grid, point, attacked)], data=data, base=_base(grid, where)
        ),
        "model": where.model,
        "what": what,
        "study": grid.study.name,
        "study_hash": grid.study.study_hash,
        "version": _version(),
        "collapsed": point.collapsed,
        "dense": _size(grid.networks.get(dense_of(where))),
        "this": _size(point),
        "latency": _latency(latency_of(point), str(grid.study.conditions)),
        "robust": point.robust,
        "criterion": where.criterion,
        "sparsity": f"{where.sparsity:g}",
        "achieved": f"{point.networks[0].sparsity_achieved:.4g}",
        "arm": arm_label(where.arm),
        "attacks": [_attack(grid, change, each) for each in attacked],
        "data": data,
        "leading_rule": LEADING_RULE,
        "targeted": any(targeted(grid.points[each]) for each in attacked),
        "intervals": interval_note(grid),
        "cells": [
            {"id": network.id, "seed": network.axes.seed, "weights": network.science.weights_hash[:16]}
            for network in trainings(point)
        ],
        "environments": "; ".join(text for text, _ in grid.study.environments),
    }


def _metrics(grid: Grid, point: NetworkPoint, attacked: list[GridPoint]) -> Iterator[Metric]:
    """The accuracy on all test images, and robust accuracy at the leading budget of every attack."""
    trainings = len(point.networks)
    yield Metric("accuracy", "Accuracy", point.accuracy.mean, {"trainings": trainings})
    for where in attacked:
        found, budget = grid.points[where], leading_budget(grid, where.attack)
        robust = robust_share(found, budget)
        # Whether one class is reached says nothing of the others.
        if budget is None or robust is None or targeted(found):
            continue
        facts = {
            "n": min(each.n for each in found.attacks),
            "trainings": len(found.attacks),
            "low": robust.low,
            "high": robust.high,
            "attack": where.attack,
            "norm": found.norm,
            "epsilon": budget.epsilon,
        }
        name = f"Robust accuracy, {budget_label(grid, where.attack, budget)}"
        yield Metric("robust_accuracy", name, robust.mean, facts)


def _base(grid: Grid, where: GridPoint) -> str:
    """The model of the hub that a network was pruned from; "" for others, folders among them."""
    settings = grid.study.config.get("models", {}).get(where.model, {})
    arch = str(settings.get("arch", "")) if isinstance(settings, Mapping) else ""
    name = arch.removeprefix(HUB).partition("@")[0]
    return (
        name if arch.startswith(HUB) and name.count("/") == 1 and not name.startswith((".", "/", "~")) else ""
    )


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
        "quartiles": percent_range(found.share_low, found.share_high),
        "memory": f"{number(found.peak_bytes / 1e6)} MB",
        "dense_memory": f"{number(found.dense_peak_bytes / 1e6)} MB",
        "conditions": conditions,
    }


def _attack(grid: Grid, change: dict[GridPoint, Change], where: GridPoint) -> dict[str, str]:
    point, against = grid.points[where], change[where]
    budget, dense = leading_budget(grid, where.attack), grid.points.get(dense_of(where))
    robust = robust_share(point, budget)
    before = robust_share(dense, budget) if dense else None
    return {
        "name": budget_label(grid, where.attack, budget),
        "quantity": quantity(grid, where.attack),
        "accuracy": percent(clean_share(point).mean),
        "robust": f"{percent(robust.mean)} ({robust.interval})" if robust else "–",
        "before": percent(before.mean) if before else "–",
        "left": left_text(against.total),
        "interval": left_interval_text(against.total) or "–",
        "pruning": left_text(against.pruning) if point.role == "pruned" else "–",
        "images": images(point),
        "grade": point.grade,
        "remarks": "; ".join(point.reasons),
    }


def bibliography(grid: Grid) -> str:
    """BibTeX entries in the order of their keys; a comment per name without a known reference."""
    known, keys, own, unknown = _entries(), set[str](), list[str](), list[str]()
    for registry, name in dict.fromkeys(_named(grid)):
        facts, what = _facts(registry, name)
        if "bibtex" not in facts:
            unknown.append(what)
        for entry in facts.get("bibtex", ()):
            # A plug-in may register a whole BibTeX entry in place of a key.
            (keys.add if entry in known else own.append)(entry)
    keys |= set(_trainings(grid.study.config)) | ({_PRUNING} if grid.criteria else set())
    notes = "".join(f"% No reference is known here for: {' '.join(text.split())}\n" for text in unknown)
    return notes + "\n".join([*(known[key] for key in sorted(keys)), *dict.fromkeys(own)])


def _facts(registry: Registry, name: str) -> tuple[Mapping[str, Any], str]:
    """The facts registered for a name, and a line of text with its summary and paper."""
    found = [entry for entry in registry.entries() if entry.name == name]
    parts = [part for entry in found for part in (entry.summary, entry.facts.get("paper")) if part]
    return found[0].facts if found else {}, ": ".join([f"{registry.kind} {name}", *parts])


def _named(grid: Grid) -> Iterator[tuple[Registry, str]]:
    """Every registered name that the study uses; those of a plug-in may no longer be registered."""
    config = grid.study.config
    for model in config.get("models", {}).values():
        yield from _network(str(model.get("arch", "")) if isinstance(model, Mapping) else "")
    for attack in grid.study.attacks:
        yield ATTACKS, attack.method
    for criterion in grid.criteria:
        yield CRITERIA, criterion
    if isinstance(rates := config.get("pruning", {}).get("rates"), str):
        yield RATES, rates
    if spec := config.get("data", {}).get("spec"):
        yield DATASETS, str(spec).split(":")[0]


def _network(arch: str) -> Iterator[tuple[Registry, str]]:
    source, _, name = arch.rpartition(":")
    if source == "robustbench":
        # The short name of a RobustBench checkpoint leaves out its threat model.
        full = [name, f"Linf/{name}", f"L2/{name}"]
        published = next((entry for entry in CHECKPOINTS.entries() if entry.name in full), None)
        if published is not None:
            yield CHECKPOINTS, published.name
            yield MODELS, published.facts["arch"]
    elif arch:
        yield MODELS, arch


def _trainings(value: Any) -> Iterator[str]:
    """BibTeX keys of the training methods in a study, at any depth of its settings."""
    if not isinstance(value, Mapping):
        return
    for key, item in value.items():
        if isinstance(item, Mapping):
            if key in BIBTEX:
                # A study may leave the default out; it is the first of the part's methods.
                kind = item.get("method" if key == "adversary" else "kind", next(iter(BIBTEX[key])))
                if kind in BIBTEX[key]:
                    yield BIBTEX[key][kind]
            yield from _trainings(item)


def _entries() -> dict[str, str]:
    text = files("secateur.report").joinpath("templates", "references.bib").read_text(encoding="utf-8")
    found = (entry.strip() + "\n" for entry in text.split("\n\n"))
    return {re.split(r"[{,]", entry, maxsplit=2)[1]: entry for entry in found}
