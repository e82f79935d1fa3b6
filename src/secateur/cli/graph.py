"""The command graph: what must be removed together."""

from pathlib import Path
from typing import Annotated

import typer

from secateur.cli.options import Heads, HeadsOption, Logits, PlugIns, output_of, plug_in
from secateur.cli.output import note, print_json, say
from secateur.cli.targets import Classes, Input, Json, Model, Weights, example, network, shape


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
        # Without normalisation in front: its layers would only clutter the graph.
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
        say(traced.explain())


COMMANDS = (graph,)
