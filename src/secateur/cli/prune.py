"""The command prune, with an option for each setting of ``secateur.plan``."""

from enum import StrEnum
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from secateur.cli.completion import criterion_names, rate_names
from secateur.cli.images import chosen_size, fitted
from secateur.cli.inputs import Input, asked_inputs, told
from secateur.cli.options import Heads, HeadsOption, Json, Logits, PlugIns, output_of, plug_in
from secateur.cli.output import note, print_json, print_table
from secateur.cli.targets import (
    Classes,
    Data,
    Mean,
    Model,
    Resize,
    Seed,
    Std,
    Weights,
    channels_of,
    check_statistics,
    evidence,
    inputs_for,
    network_and_inputs,
)
from secateur.errors import UserError

if TYPE_CHECKING:
    from secateur.pruning import PruneReport


# Whether channels of different groups compete.
Scope = StrEnum("Scope", "LOCAL GLOBAL")


# Whether scores take channels removed so far into account.
Selection = StrEnum("Selection", "INDEPENDENT GREEDY")


# How the scores of coupled layers are combined.
Reduction = StrEnum("Reduction", "MEAN SUM MAX FIRST SHORTCUT")


Sparsity = Annotated[
    float, typer.Option("--sparsity", "-s", help="Fraction of each group's channels to remove.")
]
Criterion = Annotated[
    str, typer.Option("--criterion", "-c", help="See `secateur ls criteria`.", autocompletion=criterion_names)
]
ScopeOption = Annotated[
    Scope,
    typer.Option(help="local: every group loses this fraction; global: channels of all groups compete."),
]
SelectionOption = Annotated[
    Selection, typer.Option(help="greedy: scores leave out input channels that were removed before.")
]
ReductionOption = Annotated[Reduction, typer.Option(help="How the scores of coupled layers are combined.")]
Keep = Annotated[list[str] | None, typer.Option(help="Name of a module not to prune. May be repeated.")]
Rates = Annotated[
    list[str] | None,
    typer.Option(
        help="Sparsity of one layer, as in layer1=0.3 (repeatable), or a name from `secateur ls rates`.",
        autocompletion=rate_names,
    ),
]
Parameters = Annotated[
    str | None,
    typer.Option(help="Instead of --sparsity: largest number of parameters, a count or a fraction."),
]
Macs = Annotated[
    str | None,
    typer.Option(help="Instead of --sparsity: most multiply-adds of one --input, a count or a fraction."),
]
LatencyOption = Annotated[
    str | None,
    typer.Option(
        "--latency",
        help="Instead of --sparsity: largest latency of one --input, a fraction or a time such as 5ms.",
    ),
]
MinChannels = Annotated[int, typer.Option(help="Fewest channels that a group, head or half keeps.", min=1)]
MaxSparsity = Annotated[float | None, typer.Option(help="Largest fraction that any group loses.")]
RoundTo = Annotated[int, typer.Option(help="Round widths up to a multiple of this number.", min=1)]


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
    # Pruning never overwrites: weights in an old folder may be the only copy.
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists and is not an empty folder", hint="choose another --out")
    images = fitted(data, None if data is None else chosen_size(resize, model))
    asked = asked_inputs(model, input, images)
    if classes is None and images is not None:
        classes = images.num_classes
    pruned, given = network_and_inputs(
        model, weights, channels_of(asked), classes, normalise=check_statistics(mean, std)
    )
    report = secateur.prune(
        pruned,
        inputs_for(model, asked, given),
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
    # The origin lets attack and export rebuild the network without repeating the options.
    secateur.save(pruned, out, origin={"model": model, "classes": classes, "input": told(asked)})
    _tell(model, report, out, as_json=as_json)


COMMANDS = (prune,)


def rates_of(words: list[str] | None) -> str | dict[str, float] | None:
    """Sparsities by layer from ``--rates``, or the name of published ones.

    Raises:
        UserError: a word that is neither, or both kinds together.
    """
    if not words:
        return None
    if len(words) == 1 and "=" not in words[0]:
        return words[0]
    found: dict[str, float] = {}
    for word in words:
        name, _, rate = word.rpartition("=")
        try:
            found[name] = float(rate)
        except ValueError:
            name = ""
        if not name:
            raise UserError(
                f"invalid --rates {word}: expected LAYER=SPARSITY", hint="for example --rates layer1=0.3"
            )
    return found


def budget_of(option: str, text: str | None) -> float | int | None:
    """A count, or a fraction of the dense network.

    Raises:
        UserError: the text is no number.
    """
    if text is None:
        return None
    try:
        return (
            int(text.replace("_", "").replace(",", "")) if text.isascii() and "." not in text else float(text)
        )
    except ValueError:
        raise UserError(
            f"invalid --{option} {text}: expected a number",
            hint=f"for example --{option} 0.5 or --{option} 100000",
        ) from None


def latency_of(text: str | None) -> float | str | None:
    """A fraction of the dense network's time, or the text of a time, which ``secateur.plan`` reads."""
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        return text


def _tell(model: str, report: "PruneReport", out: Path, *, as_json: bool) -> None:
    if as_json:
        print_json({**report.to_json(), "folder": str(out)})
        return
    plan = report.plan
    equals = "not verified, see the note below"
    if report.max_error is not None:
        equals = f"equals the masked network to {report.max_error:.1e}"
    print_table(
        f"{model}, {plan.criterion} at sparsity {plan.sparsity:.3g}: {equals}",
        ("", "before", "after", "left"),
        [
            ("parameters", *_before_after(report.parameters_before, report.parameters_after)),
            ("multiply-adds", *_before_after(report.macs_before, report.macs_after)),
        ],
    )
    note(*report.notes)
    place, file = quote(str(out)), quote(f"{out.name}.onnx")
    note(f"saved {out}; attack it with: secateur attack --model {quote(model)} --weights {place} --data ...")
    # Loading a folder never runs code that only the folder names.
    named = f" --model {quote(model)}" if ".py:" in model else ""
    note(f"export it with: secateur export {place}{named} --out {file}")


def _before_after(before: int, after: int) -> tuple[str, str, str]:
    return f"{before:,}", f"{after:,}", f"{after / before:.1%}"
