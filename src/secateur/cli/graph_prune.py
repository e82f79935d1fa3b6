"""Verbs on one network: graph, prune."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from secateur.cli.options import PlugIns, plug_in
from secateur.cli.output import note, print_json, print_table
from secateur.cli.plan_options import (
    Criterion,
    Heads,
    HeadsOption,
    Keep,
    LatencyOption,
    Logits,
    Macs,
    MaxSparsity,
    MinChannels,
    Parameters,
    Rates,
    Reduction,
    ReductionOption,
    RoundTo,
    Scope,
    ScopeOption,
    Selection,
    SelectionOption,
    Sparsity,
    budget_of,
    latency_of,
    output_of,
    rates_of,
)
from secateur.cli.targets import (
    Classes,
    Data,
    Input,
    Json,
    Mean,
    Model,
    Resize,
    Seed,
    Std,
    Weights,
    evidence,
    example,
    fitted,
    network,
    shape,
)
from secateur.errors import UserError

if TYPE_CHECKING:
    from secateur.pruning import PruneReport


def graph(
    model: Model,
    input: Input = None,
    weights: Weights = None,
    classes: Classes = None,
    heads: HeadsOption = Heads.WIDTH,
    logits: Logits = None,
    draw: Annotated[Path | None, typer.Option(help="Write a picture of the graph: graph.svg.")] = None,
    plugin: PlugIns = None,
    as_json: Json = False,
) -> None:
    """Show what must be removed together: layers, groups, and what is frozen and why."""
    import secateur

    plug_in(plugin)
    size = shape(model, input)
    traced = secateur.trace(
        network(model, weights, size, classes, raw=True),
        example(size),
        heads=heads.value,
        logits=output_of(logits),
    )
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
    sparsity: Sparsity = 0.5,
    criterion: Criterion = "l1",
    scope: ScopeOption = Scope.LOCAL,
    selection: SelectionOption = Selection.INDEPENDENT,
    reduction: ReductionOption = Reduction.MEAN,
    keep: Keep = None,
    rates: Rates = None,
    parameters: Parameters = None,
    macs: Macs = None,
    latency: LatencyOption = None,
    min_channels: MinChannels = 1,
    max_sparsity: MaxSparsity = None,
    round_to: RoundTo = 1,
    heads: HeadsOption = Heads.WIDTH,
    logits: Logits = None,
    data: Data = None,
    resize: Resize = None,
    mean: Mean = None,
    std: Std = None,
    input: Input = None,
    weights: Weights = None,
    classes: Classes = None,
    seed: Seed = 0,
    plugin: PlugIns = None,
    as_json: Json = False,
) -> None:
    """Remove channels along the dependency graph, prove the result, and save it."""
    import secateur

    plug_in(plugin)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists and is not an empty folder", hint="choose another --out")
    images = fitted(data, resize)
    size = shape(model, input, images)
    if classes is None and images is not None:
        classes = images.num_classes
    pruned = network(model, weights, size, classes, mean=mean, std=std)
    report = secateur.prune(
        pruned,
        example(size),
        heads=heads.value,
        logits=output_of(logits),
        criterion=criterion,
        sparsity=sparsity,
        scope=scope.value,
        selection=selection.value,
        reduction=reduction.value,
        keep=tuple(keep or ()),
        rates=rates_of(rates),
        parameters=budget_of("parameters", parameters),
        macs=budget_of("macs", macs),
        latency=latency_of(latency),
        min_channels=min_channels,
        max_sparsity=max_sparsity,
        round_to=round_to,
        seed=seed,
        batch=evidence(criterion, data, images, pruned, seed),
    )
    secateur.save(pruned, out, origin={"model": model, "classes": classes, "input": list(size)})
    _tell(model, report, out, as_json=as_json)


COMMANDS = (graph, prune)


def _tell(model: str, report: "PruneReport", out: Path, *, as_json: bool) -> None:
    if as_json:
        print_json({**report.to_json(), "folder": str(out)})
        return
    plan = report.plan
    equals = f"equals the masked network to {report.max_error:.1e}"
    print_table(
        f"{model}, {plan.criterion} at sparsity {plan.sparsity:.3g}: {equals}",
        ("", "before", "after", "left"),
        [
            ("parameters", *_before_after(report.parameters_before, report.parameters_after)),
            ("multiply-adds", *_before_after(report.macs_before, report.macs_after)),
        ],
    )
    for remark in report.notes:
        note(remark)
    note(f"saved {out}; attack it with: secateur attack --model {model} --weights {out} --data ...")
    # A folder does not run code that it names itself.
    named = f" --model {model}" if ".py:" in model else ""
    note(f"or take it elsewhere with: secateur export {out}{named} --out {out.name}.onnx")


def _before_after(before: int, after: int) -> tuple[str, str, str]:
    return f"{before:,}", f"{after:,}", f"{after / before:.1%}"
