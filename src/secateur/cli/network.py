"""Verbs on one network: graph, prune."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from secateur.cli.options import PlugIns, plug_in
from secateur.cli.output import note, print_json, print_table
from secateur.cli.targets import (
    Classes,
    Data,
    Input,
    Json,
    Model,
    Seed,
    Weights,
    evidence,
    example,
    network,
    shape,
)
from secateur.errors import UserError


class Scope(StrEnum):
    """Whether channels compete."""

    LOCAL = "local"
    GLOBAL = "global"


class Selection(StrEnum):
    """What a score sees of the channels that are gone already."""

    INDEPENDENT = "independent"
    GREEDY = "greedy"


class Reduction(StrEnum):
    """How the scores of coupled layers become one."""

    MEAN = "mean"
    SUM = "sum"
    MAX = "max"
    FIRST = "first"
    SHORTCUT = "shortcut"


def graph(
    model: Model,
    input: Input = None,
    weights: Weights = None,
    classes: Classes = 10,
    draw: Annotated[Path | None, typer.Option(help="Write a picture of the graph: graph.svg.")] = None,
    plugin: PlugIns = None,
    as_json: Json = False,
) -> None:
    """Show what must be removed together: layers, groups, and what is frozen and why."""
    import secateur

    plug_in(plugin)
    size = shape(model, input)
    traced = secateur.trace(network(model, weights, size, classes), example(size))
    if draw is not None:
        draw.write_text(traced.draw(), encoding="utf-8")
        note(f"drew {draw}")
    if as_json:
        print_json(traced.to_json())
    else:
        typer.echo(traced.explain())


def prune(
    model: Model,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for plan.json, weights.safetensors and the card.")
    ],
    sparsity: Annotated[
        float, typer.Option("--sparsity", "-s", help="Fraction of each group's channels to remove.")
    ] = 0.5,
    criterion: Annotated[str, typer.Option("--criterion", "-c", help="See `secateur ls criteria`.")] = "l1",
    scope: Annotated[
        Scope, typer.Option(help="local: every group loses that fraction; global: channels compete.")
    ] = Scope.LOCAL,
    selection: Annotated[
        Selection, typer.Option(help="greedy: scored without the input channels that are gone already.")
    ] = Selection.INDEPENDENT,
    reduction: Annotated[
        Reduction, typer.Option(help="How the scores of coupled layers become one.")
    ] = Reduction.MEAN,
    keep: Annotated[
        list[str] | None, typer.Option(help="Name of a module to leave whole; may be repeated.")
    ] = None,
    parameters: Annotated[
        float | None, typer.Option(help="Instead of a sparsity: at most this fraction of the parameters.")
    ] = None,
    macs: Annotated[
        float | None, typer.Option(help="Instead of a sparsity: at most this fraction of the multiply-adds.")
    ] = None,
    round_to: Annotated[int, typer.Option(help="Round widths up to a multiple of this.")] = 1,
    data: Data = None,
    input: Input = None,
    weights: Weights = None,
    classes: Classes = 10,
    seed: Seed = 0,
    plugin: PlugIns = None,
    as_json: Json = False,
) -> None:
    """Remove channels along the dependency graph, prove the result, and save it."""
    import secateur

    plug_in(plugin)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists and is not an empty folder", hint="choose another --out")
    size = shape(model, input)
    pruned = network(model, weights, size, classes)
    plan = secateur.plan(
        secateur.trace(pruned, example(size)),
        criterion=criterion,
        sparsity=sparsity,
        scope=scope.value,
        selection=selection.value,
        reduction=reduction.value,
        keep=tuple(keep or ()),
        parameters=parameters,
        macs=macs,
        round_to=round_to,
        seed=seed,
        batch=evidence(criterion, data, seed),
    )
    report = secateur.apply(pruned, plan)
    secateur.save(pruned, out)
    if as_json:
        print_json({**report.to_json(), "folder": str(out)})
        return
    equals = f"equals the masked network to {report.max_error:.1e}"
    print_table(
        f"{model}, {criterion} at sparsity {plan.sparsity:.3g}: {equals}",
        ("", "before", "after", "left"),
        [
            ("parameters", *_before_after(report.parameters_before, report.parameters_after)),
            ("multiply-adds", *_before_after(report.macs_before, report.macs_after)),
        ],
    )
    for remark in report.notes:
        note(remark)
    note(f"saved {out}; attack it with: secateur attack --model {model} --weights {out} --data ...")


COMMANDS = (graph, prune)


def _before_after(before: int, after: int) -> tuple[str, str, str]:
    return f"{before:,}", f"{after:,}", f"{after / before:.1%}"
