"""The command check: from a trained network and its images to a decision."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from secateur.cli.attack_settings import budgets_of
from secateur.cli.completion import data_names, minimum_norm_names
from secateur.cli.images import check_class_order, chosen_size, note_other_data
from secateur.cli.options import Json, Logits, PlugIns, output_of, plug_in
from secateur.cli.output import note, print_json, say
from secateur.cli.prune import Criterion, Keep, LatencyOption, Macs, Parameters, budget_of, latency_of
from secateur.cli.targets import (
    Classes,
    Mean,
    Model,
    Resize,
    Seed,
    Std,
    Weights,
    evidence,
    move,
    network,
)
from secateur.cli.tracking import LogTo, refuse_absent, tracked
from secateur.errors import ExitCode, UserError

if TYPE_CHECKING:
    from torch import nn

    from secateur.data import Splits
    from secateur.recipes import Recipe


def check(
    model: Model,
    data: Annotated[
        str,
        typer.Option(
            "--data",
            "-d",
            help="Images to fine-tune and test on: folder:DIR, npz:FILE; see `secateur ls data`.",
            autocompletion=data_names,
        ),
    ],
    weights: Weights = None,
    sparsity: Annotated[
        float | None,
        typer.Option("--sparsity", "-s", help="Fraction of each group's channels to remove; 0.5."),
    ] = None,
    macs: Macs = None,
    parameters: Parameters = None,
    latency: LatencyOption = None,
    criterion: Criterion = "l1",
    keep: Keep = None,
    min_accuracy: Annotated[
        str | None, typer.Option(help="Limit: least accuracy on the test images, as 0.9 or 90%.")
    ] = None,
    max_drop: Annotated[
        str | None, typer.Option(help="Limit: largest fall of accuracy, as 1% or 0.01.")
    ] = None,
    min_robust: Annotated[
        list[str] | None,
        typer.Option(help="Limit: least robust accuracy, as 0.4@linf:8/255. May be repeated."),
    ] = None,
    max_latency: Annotated[
        str | None, typer.Option(help="Limit: largest median time of one image on this machine, as 5ms.")
    ] = None,
    find: Annotated[
        bool, typer.Option("--find", help="Search the highest sparsity that keeps the limits.")
    ] = False,
    rounds: Annotated[int, typer.Option(min=1, help="Networks that --find tries.")] = 5,
    control: Annotated[
        bool,
        typer.Option("--control", help="Also fine-tune the dense network, to tell pruning from fine-tuning."),
    ] = False,
    epochs: Annotated[
        int | None, typer.Option(min=0, help="Of fine-tuning; by default about 200,000 images pass.")
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Of fine-tuning; 0.01 by default.")] = None,
    adversarial: Annotated[
        str | None,
        typer.Option(help="Fine-tune adversarially with this L∞ budget, as 4/255, for robust networks."),
    ] = None,
    name: Annotated[
        str,
        typer.Option(
            "--attack",
            "-a",
            help="A minimum-norm attack; see `secateur ls attacks`.",
            autocompletion=minimum_norm_names,
        ),
    ] = "steep",
    steps: Annotated[int | None, typer.Option(min=1, help="Iterations of the attack.")] = None,
    budgets: Annotated[
        list[str] | None,
        typer.Option(help="Budgets of a norm, as linf:2/255,8/255 or l2:0.5. May be repeated."),
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="Test images to attack, a stratified sample.")] = 200,
    logits: Logits = None,
    device: Annotated[str, typer.Option(help="Device of the networks, such as cuda.")] = "cpu",
    resize: Resize = None,
    mean: Mean = None,
    std: Std = None,
    classes: Classes = None,
    seed: Seed = 0,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for the results; checks/MODEL by default. Resumes."),
    ] = None,
    log_to: LogTo = None,
    plugin: PlugIns = None,
    as_json: Json = False,
) -> None:
    """Prune, fine-tune and attack a trained network, and say what is lost and whether limits are kept."""
    from secateur.cli.tracked_values import log_verdict
    from secateur.decision import check as decide
    from secateur.progress import bar

    plug_in(plugin)
    refuse_absent(log_to)
    splits = splits_of(data, chosen_size(resize, model), seed)
    test = splits.test
    count = classes or test.num_classes
    dense = network(model, weights, (1, *test.shape), count, mean=mean, std=std)
    note_other_data(model, data)
    check_class_order(dense, test, name=model)
    move(device, dense)
    target = out or Path("checks") / _stem(model)
    amount: dict[str, Any] = {
        "sparsity": sparsity,
        "macs": budget_of("macs", macs),
        "parameters": budget_of("parameters", parameters),
        "latency": latency_of(latency),
    }
    with tracked(log_to, model) as log, bar(quiet=as_json) as tick:
        verdict = decide(
            dense,
            splits.train,
            test,
            validation=splits.validation,
            min_accuracy=min_accuracy,
            max_drop=max_drop,
            min_robust=min_robust or (),
            max_latency=max_latency,
            find=find,
            rounds=rounds,
            control=control,
            recipe=fine_tuning(dense, splits, epochs, learning_rate, adversarial),
            attack=name,
            steps=steps,
            budgets=_budgets(budgets),
            images=images,
            logits=output_of(logits),
            name=model,
            out=target,
            origin={"model": model, "classes": count, "input": [1, *test.shape]},
            on_progress=tick,
            seed=seed,
            criterion=criterion,
            keep=tuple(keep or ()),
            batch=evidence(criterion, data, splits.train, dense, seed),
            **amount,
        )
        log_verdict(log, verdict)
    if as_json:
        print_json({**verdict.to_json(), "folder": str(target)})
    else:
        say(str(verdict))
        note(*verdict.notes)
        note(f"the page is {target / 'check.html'}, the network {target / 'network'}")
    if not verdict.kept:
        raise typer.Exit(ExitCode.LIMIT_BROKEN)


COMMANDS = (check,)


def splits_of(data: str, size: tuple[int, ...] | None, seed: int) -> "Splits":
    """Train, validation and test images; those that the source does not have are drawn."""
    import torch

    from secateur.data import load_splits

    found = load_splits(data, resize=size, generator=torch.Generator().manual_seed(seed))
    note(*found.remarks)
    return found


def _budgets(texts: list[str] | None) -> dict[str, list[float]] | None:
    """Budgets by norm from ``linf:2/255,8/255``. Raises UserError."""
    found: dict[str, list[float]] = {}
    for text in texts or ():
        norm, colon, sizes = text.partition(":")
        if not colon:
            raise UserError(
                f"invalid --budgets {text}: expected NORM:SIZES", hint="for example linf:2/255,8/255"
            )
        found[norm.lower()] = budgets_of(sizes) or []
    return found or None


def fine_tuning(
    network: "nn.Module",
    splits: "Splits",
    epochs: int | None,
    learning_rate: float | None,
    adversarial: str | None,
) -> "Recipe":
    """The usual fine-tuning, with what the options change."""
    from dataclasses import replace

    from secateur.decision.pruned import trains_faster_channels_last, usual_recipe
    from secateur.recipes import problems

    sizes = budgets_of(adversarial, "--adversarial") or []
    if len(sizes) > 1:
        raise UserError(f"--adversarial {adversarial} lists {len(sizes)} budgets", hint="give one")
    last = trains_faster_channels_last(network, splits.train.x)
    size = sizes[0] if sizes else None
    recipe = usual_recipe(splits.train.n, adversarial=size, channels_last=last, epochs=epochs)
    if learning_rate is not None:
        recipe = replace(recipe, learning_rate=learning_rate)
    if found := problems(recipe):
        raise UserError(f"the fine-tuning is impossible: {found[0]}")
    return recipe


def _stem(model: str) -> str:
    """A folder name for a model: ``net.py:build`` becomes ``net-build``."""
    from secateur.report.formatting import slug

    return slug(model.replace(".py:", "-").replace(":", "-").replace("/", "-"))
