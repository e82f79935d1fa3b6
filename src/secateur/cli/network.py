"""Verbs on one network: graph, prune, attack."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from secateur.cli.output import bar, note, print_json, print_table
from secateur.errors import UserError
from secateur.registry import CRITERIA, MODELS

if TYPE_CHECKING:
    from torch import Tensor, nn

# How many images a criterion looks at.
_EVIDENCE = 256

Model = Annotated[
    str,
    typer.Option(
        "--model", "-m", help="A zoo name, torchvision:NAME, timm:NAME, robustbench:NAME or FILE.py:FUNCTION."
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        "--weights", "-w", help="A .safetensors or weights-only .pt file, or a folder that `prune` wrote."
    ),
]
Data = Annotated[str | None, typer.Option("--data", "-d", help="Images, for criteria that look at data.")]
Input = Annotated[str | None, typer.Option("--input", help="Shape of the input, as in 1x3x32x32.")]
Classes = Annotated[int, typer.Option(help="Number of classes.", min=2)]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable result on stdout.")]
Seed = Annotated[int, typer.Option(help="Seed of every random choice.", min=0)]


def graph(
    model: Model,
    input: Input = None,
    weights: Weights = None,
    classes: Classes = 10,
    draw: Annotated[Path | None, typer.Option(help="Write a picture of the graph: graph.svg.")] = None,
    as_json: Json = False,
) -> None:
    """Show what must be removed together: layers, groups, and what is frozen and why."""
    import secateur

    shape = _shape(model, input)
    traced = secateur.trace(_network(model, weights, shape, classes), _example(shape))
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
    scope: Annotated[str, typer.Option(help="local: every group loses that fraction.")] = "local",
    keep: Annotated[
        list[str] | None, typer.Option(help="Name of a module to leave whole; may be repeated.")
    ] = None,
    data: Data = None,
    input: Input = None,
    weights: Weights = None,
    classes: Classes = 10,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Remove channels along the dependency graph, prove the result, and save it."""
    import secateur

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists and is not an empty folder", hint="choose another --out")
    shape = _shape(model, input)
    network = _network(model, weights, shape, classes)
    report = secateur.prune(
        network,
        _example(shape),
        criterion=criterion,
        sparsity=sparsity,
        scope=scope,
        keep=tuple(keep or ()),
        seed=seed,
        batch=_evidence(criterion, data, seed),
    )
    secateur.save(network, out)
    if as_json:
        print_json({**report.to_json(), "folder": str(out)})
        return
    print_table(
        f"{model}, {criterion} at sparsity {sparsity:g}: equals the masked network to {report.max_error:.1e}",
        ("", "before", "after", "left"),
        [
            ("parameters", *_before_after(report.parameters_before, report.parameters_after)),
            ("multiply-adds", *_before_after(report.macs_before, report.macs_after)),
        ],
    )
    note(f"saved {out}; attack it with: secateur attack --model {model} --weights {out} --data ...")


def attack(
    model: Model,
    data: Annotated[
        str, typer.Option("--data", "-d", help="digits, idx:DIR, folder:DIR; see `secateur ls data`.")
    ],
    weights: Weights = None,
    name: Annotated[str, typer.Option("--attack", "-a", help="See `secateur ls attacks`.")] = "ddn",
    norm: Annotated[str | None, typer.Option(help="0, 1, 2 or inf; the attack's own by default.")] = None,
    steps: Annotated[int | None, typer.Option(help="Iterations.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="A setting of the attack, as in gamma=0.05.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Attack the first N images only; marks the result partial.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Images per batch.")] = 256,
    seed: Seed = 0,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write the per-image record (JSON) here.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Find minimum-norm adversarial examples, re-verify them, and grade the result."""
    import secateur
    from secateur import data as datasets

    dataset = datasets.load(data)
    whole = dataset.n
    if limit is not None:
        if not 0 < limit <= whole:
            raise UserError(f"--limit {limit} is not between 1 and the {whole} images of {data}")
        dataset = dataset.take(range(limit))
    network = _network(model, weights, (1, *dataset.shape), dataset.num_classes)
    settings = _settings(norm, steps, set_ or [])
    start = time.perf_counter()
    with bar(f"{name} on {dataset.n} images", quiet=as_json) as tick:
        result = secateur.attack(
            network, dataset, name, batch_size=batch_size, seed=seed, on_progress=tick, **settings
        )
    summary = {
        **result.summary(),
        "seconds": time.perf_counter() - start,
        "partial": dataset.n < whole,
        "model": model,
        "data": data,
    }
    if out is not None:
        out.write_text(
            json.dumps({**result.to_json(), "summary": summary}, allow_nan=False), encoding="utf-8"
        )
        note(f"wrote {out}")
    if as_json:
        print_json(summary)
    else:
        _print_summary(summary)


COMMANDS = (graph, prune, attack)


def _shape(model: str, text: str | None) -> tuple[int, ...]:
    """The input shape a user wrote, or the one the zoo knows for the model."""
    if text is None:
        if ":" not in model:
            known = MODELS.entry(model).facts.get("input")
            if known is not None:
                return (1, *known)
        raise UserError(f"the input shape of {model} is not known", hint="add --input 1x3x224x224")
    try:
        shape = tuple(int(part) for part in text.lower().split("x"))
    except ValueError:
        shape = ()
    if len(shape) < 2 or min(shape) < 1:
        raise UserError(f"--input {text} is not a shape", hint="write it as 1x3x224x224")
    return shape


def _evidence(criterion: str, spec: str | None, seed: int) -> "tuple[Tensor, Tensor] | None":
    """Images for the criteria that look at data, from the train part where there is one."""
    wanted = CRITERIA.entry(criterion).facts.get("needs_batch")
    if not wanted:
        return None
    if wanted == "adversarial":
        raise UserError(
            f"the criterion {criterion} needs adversarial images", hint="use it in a study, or in Python"
        )
    if spec is None:
        raise UserError(
            f"the criterion {criterion} looks at images", hint="add --data, such as --data digits"
        )
    import torch

    from secateur import data as datasets

    part = "train" if "train" in datasets.open_source(spec) else None
    images = datasets.load(spec, split=part)
    generator = torch.Generator().manual_seed(seed)
    images = datasets.subset(images, min(images.n, _EVIDENCE), generator=generator)
    return images.x, images.y


def _example(shape: tuple[int, ...]) -> "Tensor":
    import torch

    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def _network(model: str, weights: Path | None, shape: tuple[int, ...], classes: int) -> "nn.Module":
    from secateur import models
    from secateur.pruning import load

    def build() -> "nn.Module":
        return models.resolve(model, num_classes=classes, in_channels=shape[1], pretrained=weights is None)

    if weights is None:
        if not model.startswith("robustbench:"):
            note(f"no --weights given: {model} is as its constructor left it")
        return build().eval()
    if weights.is_dir():
        return load(weights, build).eval()
    network = build()
    for sentence in models.load_weights(network, weights).notes:
        note(sentence)
    return network.eval()


def _settings(norm: str | None, steps: int | None, pairs: list[str]) -> dict[str, Any]:
    """Attack settings of the command line as Python values."""
    import yaml

    settings: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key.isidentifier():
            raise UserError(
                f"--set {pair} is not of the form name=value", hint="for example --set gamma=0.05"
            )
        value = yaml.safe_load(text)
        settings[key] = float(value) if isinstance(value, str) and _is_number(value) else value
    if norm is not None:
        if norm not in ("0", "1", "2", "inf"):
            raise UserError(f"--norm {norm} is not one of 0, 1, 2, inf")
        settings["norm"] = float(norm)
    if steps is not None:
        settings["steps"] = steps
    return settings


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _before_after(before: int, after: int) -> tuple[str, str, str]:
    return f"{before:,}", f"{after:,}", f"{after / before:.1%}"


def _print_summary(summary: dict[str, Any]) -> None:
    images = (
        f"{summary['n']} images of {summary['data']}{' (partial: --limit)' if summary['partial'] else ''}"
    )
    print_table(
        f"{summary['attack']} on {images}, grade {summary['grade']}",
        ("norm", "median, correct", "median, all", "mean, found"),
        [
            (norm, *(_number(summary[kind][norm]) for kind in ("median_correct", "median_all", "mean_found")))
            for norm in ("l0", "l1", "l2", "linf")
        ],
    )
    typer.echo(
        f"clean accuracy {summary['clean_accuracy']:.1%}; found {summary['found']} of {summary['attacked']} "
        f"correct images; {summary['forwards']:.0f} forwards and {summary['backwards']:.0f} backwards "
        f"per image; {summary['seconds']:.1f} s"
    )
    for reason in summary["reasons"]:
        typer.echo(f"  {reason}")


def _number(value: float | None) -> str:
    return "not found" if value is None else f"{value:.4g}"
