"""The command evaluate: accuracy per class, confidence and calibration."""

import json
from pathlib import Path
from typing import Annotated

import typer

from secateur.cli.attack_output import check_outputs
from secateur.cli.completion import data_names
from secateur.cli.images import check_class_order, chosen_size, held_out, note_other_data
from secateur.cli.options import Device, Json, PlugIns, plug_in
from secateur.cli.output import note, print_json, print_table
from secateur.cli.targets import Classes, Mean, Model, Resize, Std, Weights, move, network


def evaluate(
    model: Model,
    data: Annotated[
        str, typer.Option("--data", "-d", help="Images; see `secateur ls data`.", autocompletion=data_names)
    ],
    weights: Weights = None,
    resize: Resize = None,
    mean: Mean = None,
    std: Std = None,
    classes: Classes = None,
    device: Device = "cpu",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write the result to this JSON file, for `compare`.")
    ] = None,
    pictures: Annotated[
        Path | None, typer.Option(help="Folder for a picture: reliability diagram and accuracy per class.")
    ] = None,
    plugin: PlugIns = None,
    as_json: Json = False,
) -> None:
    """Classify the test images: accuracy per class, confidence and calibration."""
    from secateur.data.parts import handed
    from secateur.decision import evaluate as classify
    from secateur.stats import wilson

    plug_in(plugin)
    check_outputs(out, None, pictures)
    part, images = held_out(data, chosen_size(resize, model))
    size = (1, *images.shape)
    chosen = network(model, weights, size, classes or images.num_classes, mean=mean, std=std, exported=True)
    note_other_data(model, data)
    check_class_order(chosen, images, name=model)
    move(device, chosen)
    found = classify(chosen, handed(images))
    if found.warning:
        note(found.warning)
    document = {"model": model, "weights": str(weights) if weights else None, "part": part, **found.to_json()}
    if out is not None:
        out.write_text(json.dumps(document, allow_nan=False) + "\n", encoding="utf-8")
        note(f"wrote {out}")
    if pictures is not None:
        from secateur.report.attack_figures import save_figures

        for path in save_figures({"evaluation": found.plot()}, pictures):
            note(f"wrote {path}")
    if as_json:
        print_json({key: value for key, value in document.items() if key not in ("correct", "hashes")})
        return
    low, high = found.interval
    rows = [("all", f"{found.accuracy:.1%}", f"{low:.1%} to {high:.1%}", f"{found.n:,}", "")]
    for each in found.classes:
        share = "–" if each.share is None else f"{each.share:.1%}"
        ends = "–" if not each.n else "{:.1%} to {:.1%}".format(*wilson(each.right, each.n))
        rows.append((each.name, share, ends, f"{each.n:,}", each.mistaken_for))
    title = (
        f"{model} on {data}: mean confidence {found.confidence:.1%}, calibration error "
        f"{found.calibration_error:.1%}, cross-entropy {found.loss:.3f}"
    )
    print_table(title, ("class", "accuracy", "95 % interval", "images", "taken for"), rows)


COMMANDS = (evaluate,)
