"""The commands validate and plan: what a study file asks for, and what it will cost."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from secateur.cli.options import Config, Jobs, Json, Limit, Out, Overrides, PlugIns, plug_in
from secateur.cli.output import note, print_json, print_table, say
from secateur.cli.plan_forecast import forecast_json, forecasts, print_forecasts
from secateur.text import counted, duration

if TYPE_CHECKING:
    from secateur.study import StudyPlan


def validate(config: Config, overrides: Overrides = None, plugin: PlugIns = None) -> None:
    """Check a study file: report every problem with its line, and how the images are used.

    Settings of attacks, recipes and criteria get the same checks as in a run.
    """
    from secateur.config import load_study
    from secateur.study import check

    plug_in(plugin)
    laid = check(load_study(config, overrides=overrides or ()))
    counts = ", ".join(f"{count} {stage}" for stage, count in laid.counts.items())
    say(f"{config} is a valid study of {len(laid.cells)} cells: {counts}")
    _remark(laid)


def plan(
    config: Config,
    out: Out = None,
    overrides: Overrides = None,
    limit: Limit = None,
    jobs: Jobs = 1,
    devices: Annotated[
        str | None,
        typer.Option(help="Play the rest through on so many devices, one cell at a time each, as in 1,8,64."),
    ] = None,
    tflops: Annotated[
        float | None,
        typer.Option(
            min=1e-6, help="With --devices: sustained TFLOP/s of one, in place of this machine's speed."
        ),
    ] = None,
    price: Annotated[
        float | None, typer.Option(min=0, help="With --devices: the price of an hour of one.")
    ] = None,
    plugin: PlugIns = None,
    as_json: Json = False,
) -> None:
    """Show the cells of a study, which are done, and what the rest will cost. Runs nothing.

    Ends with code 5 if the rest cannot fit on the disk or into the memory of this machine.
    """
    from secateur.config import load_study
    from secateur.study import facts_to_price
    from secateur.study import plan as lay_out

    plug_in(plugin)
    study = load_study(config, overrides=overrides or ())
    # A study can be priced before its data are downloaded, from the sizes of the official data set.
    facts, missing = facts_to_price(study)
    folder = None if missing else out or Path("runs") / study.name
    laid = lay_out(study, out=folder, limit=limit, facts=facts, probe=True)
    if missing:
        counts = " + ".join(f"{count:,}" for count in (facts.train, facts.validation, facts.test))
        note(f"priced for {counts} images, as the official dataset has them: {missing}")
    else:
        _remark(laid)
    seconds, memory = laid.seconds(jobs), laid.memory_bytes(jobs)
    found = forecasts(laid, devices, tflops=tflops, price=price)
    if as_json:
        print_json(
            {
                "name": study.name,
                "cells": len(laid.cells),
                "done": len(laid.done),
                "stages": laid.counts,
                "forwards": laid.forwards,
                "backwards": laid.backwards,
                "seconds": seconds,
                "disk_bytes": laid.disk_bytes,
                "memory_bytes": memory and memory[0],
                "device_memory_bytes": memory and memory[1],
                "jobs": jobs,
                "missing": missing or None,
                "forecasts": forecast_json(found, price),
            }
        )
        _refuse_small(laid, out or Path("runs") / study.name, jobs)
        return
    todo = Counter[str](cell.stage for cell in laid.todo)
    rows = [
        (stage, str(count), str(count - todo[stage]), str(todo[stage]))
        for stage, count in laid.counts.items()
    ]
    print_table(f"{study.name}: {len(laid.cells)} cells", ("stage", "cells", "done", "to run"), rows)
    say(
        f"{laid.forwards:,} forward and {laid.backwards:,} backward passes of one image at most; "
        f"about {duration(seconds)} with {counted(jobs, 'job')} on this machine"
    )
    _say_sizes(laid, memory)
    print_forecasts(found, tflops=tflops, price=price)
    _refuse_small(laid, out or Path("runs") / study.name, jobs)


def _say_sizes(laid: "StudyPlan", memory: tuple[int, int] | None) -> None:
    if memory is None or laid.disk_bytes is None:
        return
    host, device = (f"{size / 1e9:,.1f} GB" for size in memory)
    gpu = f" and {device} of {laid.study.device}" if memory[1] else ""
    say(f"about {laid.disk_bytes / 1e6:,.0f} MB on the disk; at least {host} of memory{gpu}")


def _refuse_small(laid: "StudyPlan", folder: Path, jobs: int) -> None:
    from secateur.study.footprint import refuse_small_disk, refuse_small_memory

    refuse_small_disk(laid.disk_bytes, folder)
    host, device = laid.memory_bytes(jobs) or (0, 0)
    refuse_small_memory(host, device, name=laid.study.device, jobs=jobs)


COMMANDS = (validate, plan)


def _remark(laid: "StudyPlan") -> None:
    """Print notes on images and networks that the study file does not state itself."""
    from secateur.registry import DATASETS, comes_with_weights

    study = laid.study
    official = "images" in DATASETS.entry(study.data.spec.partition(":")[0]).facts
    archs = [model.arch for model in study.models.values()]
    known = not any(arch.startswith(("timm:", "torchvision:")) or comes_with_weights(arch) for arch in archs)
    # Official data and networks of the zoo need no remark, and no import of torch.
    if official and known:
        return
    # What is left needs torch.
    from secateur.study.build_models import remarks

    note(*remarks(study, laid.facts))
