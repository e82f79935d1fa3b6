"""The command graph: what must be removed together."""

from pathlib import Path
from typing import Annotated

import typer

from secateur.cli.inputs import Input, asked_inputs
from secateur.cli.options import Heads, HeadsOption, Json, Logits, PlugIns, output_of, plug_in
from secateur.cli.output import note, print_json, say
from secateur.cli.targets import Classes, Model, Weights, channels_of, inputs_for, network_and_inputs
from secateur.errors import UserError


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

    if draw is not None and draw.suffix.lower() != ".svg":
        raise UserError(f"--draw {draw} does not end in .svg", hint="name it graph.svg")
    plug_in(plugin)
    asked = asked_inputs(model, input)
    # Without normalisation in front: its layers would only clutter the graph.
    built, given = network_and_inputs(model, weights, channels_of(asked), classes, raw=True)
    traced = secateur.trace(
        built,
        inputs_for(model, asked, given),
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
