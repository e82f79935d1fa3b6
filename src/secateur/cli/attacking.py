"""The verb attack: from words to a graded result, and back to words."""

import json
import time
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from secateur.cli.options import PlugIns, plug_in
from secateur.cli.output import bar, note, print_json, print_table
from secateur.cli.targets import Json, Model, Seed, Weights, network
from secateur.errors import UserError

if TYPE_CHECKING:
    from secateur.data import Dataset


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
    plugin: PlugIns = None,
    as_json: Json = False,
) -> None:
    """Find minimum-norm adversarial examples, re-verify them, and grade the result."""
    import secateur
    from secateur import data as datasets

    plug_in(plugin)
    whole = datasets.load(data)
    dataset = _limited(whole, limit)
    attacked = network(model, weights, (1, *dataset.shape), dataset.num_classes)
    settings = attack_settings(norm, steps, set_ or [])
    start = time.perf_counter()
    with bar(f"{name} on {dataset.n} images", quiet=as_json) as tick:
        result = secateur.attack(
            attacked, dataset, name, batch_size=batch_size, seed=seed, on_progress=tick, **settings
        )
    summary = {
        **result.summary(),
        "seconds": time.perf_counter() - start,
        "partial": dataset.n < whole.n,
        "model": model,
        "data": data,
    }
    if out is not None:
        record = {**result.to_json(), "summary": summary}
        out.write_text(json.dumps(record, allow_nan=False), encoding="utf-8")
        note(f"wrote {out}")
    if as_json:
        print_json(summary)
    else:
        _print_summary(summary)


COMMANDS = (attack,)


def _limited(dataset: "Dataset", limit: int | None) -> "Dataset":
    if limit is None:
        return dataset
    if not 0 < limit <= dataset.n:
        raise UserError(f"--limit {limit} is not between 1 and the {dataset.n} images of {dataset.name}")
    return dataset.take(range(limit))


def attack_settings(norm: str | None, steps: int | None, pairs: list[str]) -> dict[str, Any]:
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
        settings[key] = _as_number(value) if isinstance(value, str) else value
    if norm is not None:
        if norm not in ("0", "1", "2", "inf"):
            raise UserError(f"--norm {norm} is not one of 0, 1, 2, inf")
        settings["norm"] = float(norm)
    if steps is not None:
        settings["steps"] = steps
    return settings


def _as_number(text: str) -> float | str:
    """Text as the number it spells, such as 1e-3, inf or 8/255; other text stays."""
    try:
        return float(Fraction(text) if "/" in text else text)
    except (ValueError, ZeroDivisionError):
        return text


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
