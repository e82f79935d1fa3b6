"""The command export: write a pruned folder, or any network, as ONNX or torch.export."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from secateur.cli.completion import model_names
from secateur.cli.inputs import Input, asked_inputs, texts_of
from secateur.cli.options import Json, PlugIns, plug_in
from secateur.cli.output import note, print_json, print_table, say
from secateur.cli.targets import (
    Mean,
    Std,
    Weights,
    channels_of,
    check_statistics,
    inputs_for,
    move,
    network_and_inputs,
)
from secateur.errors import UserError

if TYPE_CHECKING:
    from torch import nn

_BATCHES = (1, 32)


def export(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="FILE.onnx ([onnx] extra) or FILE.pt2 (torch.export).")
    ],
    folder: Annotated[
        Path | None, typer.Argument(help="A folder written by `prune`; otherwise give --model and --weights.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", help="The model the folder was pruned from.", autocompletion=model_names
        ),
    ] = None,
    weights: Weights = None,
    input: Input = None,
    mean: Mean = None,
    std: Std = None,
    classes: Annotated[int | None, typer.Option(min=2, help="Number of classes.")] = None,
    batch: Annotated[
        list[int] | None, typer.Option(min=1, help="Batch sizes to measure; 1 and 32 by default. Repeatable.")
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=0, help="Seconds of measurement per network and batch size.")
    ] = 1.0,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads while measuring.")] = None,
    device: Annotated[str, typer.Option(help="Device for the measurement, such as cuda.")] = "cpu",
    measure: Annotated[bool, typer.Option(help="Measure latency and peak memory.")] = True,
    tolerance: Annotated[
        float,
        typer.Option(min=0, help="Largest accepted difference of outputs, relative to the largest output."),
    ] = 1e-4,
    fixed_batch: Annotated[
        bool, typer.Option("--fixed-batch", help="Fix the batch size to that of --input.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
    plugin: PlugIns = None,
    as_json: Json = False,
) -> None:
    """Write a network as ONNX or torch.export, check the file, and measure before and after pruning."""
    import secateur

    plug_in(plugin)
    pruned, dense, inputs = _networks(folder, model, weights, input, classes, mean=mean, std=std)
    move(device, pruned, dense)
    exported = secateur.export(
        pruned,
        out,
        inputs,
        before=dense,
        batch_sizes=(batch or _BATCHES) if measure else (),
        seconds=seconds,
        threads=threads,
        tolerance=tolerance,
        dynamic_batch=not fixed_batch,
        overwrite=overwrite,
    )
    if as_json:
        print_json(exported.to_json())
        return
    left = "left" if dense is not None else ""
    print_table(exported.summary(), ("", *exported.networks, left), exported.rows())
    if exported.costs:
        say(exported.conditions())
    note(f"wrote {out}, its record {out}.json and its card {out}.md")


COMMANDS = (export,)


def _told(named: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What a saved network says about itself, if it is of the types that `prune` writes."""
    size, count = named.get("input", []), named.get("classes")
    known = isinstance(size, list) and all(type(part) in (int, str) for part in size)
    if not (isinstance(named.get("model", ""), str) and known and (count is None or type(count) is int)):
        raise UserError(f"{folder} does not say which network it holds", hint="name it with --model")
    return named


def _networks(
    folder: Path | None,
    model: str | None,
    weights: Path | None,
    input: list[str] | None,
    classes: int | None,
    *,
    mean: str | None,
    std: str | None,
) -> "tuple[nn.Module, nn.Module | None, Any]":
    """The network, the dense network it was pruned from (or None), and example inputs."""
    from secateur import models
    from secateur.pruning import history, origin

    if folder is not None and weights is not None:
        raise UserError(f"{folder} already contains weights", hint="leave out --weights")
    saved = weights if weights is not None and weights.is_dir() else folder
    told = _told(origin(saved), saved) if saved is not None else {}
    named = model or told.get("model")
    if named is None:
        raise UserError("no network is named", hint="give a folder written by `prune`, or --model")
    # The folder may come from a stranger: code that it names runs only if the user names it too.
    asked = asked_inputs(named, input or texts_of(told.get("input", ())))
    count = classes or told.get("classes")
    if model is None and ".py:" in named:
        raise UserError(f"{saved} was pruned from {named}, whose code would run", hint=f"add --model {named}")
    channels, statistics = channels_of(asked), check_statistics(mean, std)
    pruned, given = network_and_inputs(named, saved or weights, channels, count, normalise=statistics)
    inputs = inputs_for(named, asked, given)
    # Without a pruning history there is no dense network to compare with.
    if not history(pruned):
        return pruned, None, inputs
    dense = models.resolve(
        named,
        num_classes=count,
        in_channels=channels,
        normalise=models.statistics(pruned),
        raw=True,
        pretrained=False,
    )
    return pruned, dense.eval(), inputs
