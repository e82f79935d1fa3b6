"""The command finetune: train a network further, and save it where other commands read it."""

from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from secateur.cli.check import fine_tuning, splits_of
from secateur.cli.completion import data_names
from secateur.cli.images import check_class_order, chosen_size, note_other_data
from secateur.cli.options import Device, Json, Logits, PlugIns, output_of, plug_in
from secateur.cli.output import bar, note, print_json, say
from secateur.cli.targets import Classes, Mean, Model, Resize, Seed, Std, Weights, move, network
from secateur.errors import UserError


def finetune(
    model: Model,
    data: Annotated[
        str,
        typer.Option(
            "--data", "-d", help="Images to train on; see `secateur ls data`.", autocompletion=data_names
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for the network; an interrupted call resumes.")
    ],
    weights: Weights = None,
    teacher: Annotated[
        Path | None,
        typer.Option(
            help="Weights of the dense network to learn from; by default --model's own, if it has any."
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes; by default about 200,000 images pass.")
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Of the first epoch; 0.01 by default.")] = None,
    adversarial: Annotated[
        str | None, typer.Option(help="Train adversarially with this L∞ budget, as 4/255.")
    ] = None,
    logits: Logits = None,
    resize: Resize = None,
    mean: Mean = None,
    std: Std = None,
    classes: Classes = None,
    device: Device = "cpu",
    seed: Seed = 0,
    plugin: PlugIns = None,
    as_json: Json = False,
) -> None:
    """Fine-tune a network, pruned or not: cosine schedule, batch norm estimated anew, distillation."""
    from dataclasses import replace

    from secateur import models, pruning
    from secateur.decision.handed import handed
    from secateur.registry import HUB, has_weights
    from secateur.train import Checkpoints, train

    plug_in(plugin)
    # Checkpoints are those of an interrupted fine-tuning, which goes on.
    if out.exists() and (not out.is_dir() or {path.name for path in out.iterdir()} - {"checkpoints"}):
        raise UserError(f"{out} exists and holds something else", hint="choose another --out")
    splits = splits_of(data, chosen_size(resize, model), seed)
    size, count = (1, *splits.test.shape), classes or splits.test.num_classes
    student = network(model, weights, size, count, mean=mean, std=std)
    note_other_data(model, data)
    check_class_order(student, splits.test, name=model)
    dense = None
    if teacher is not None or has_weights(model) or model.startswith(HUB):
        dense = network(model, teacher, size, count, mean=mean, std=std)
    else:
        note("no --teacher given: the fine-tuning has no distillation")
    move(device, student, dense)
    recipe = fine_tuning(student, splits, epochs, learning_rate, adversarial)
    if dense is None:
        recipe = replace(recipe, distillation=None)
    given = handed(student, splits.test.x, logits=output_of(logits), data=data)
    note(*given.said)
    if dense is not None:
        dense = handed(dense, splits.test.x, logits=output_of(logits), data=data).taught
    before = models.accuracy(given.asked, splits.test.x.to(device), splits.test.y.to(device))
    kept = Checkpoints(out / "checkpoints")
    with bar(f"{recipe.epochs} epochs on {splits.train.n:,} images", quiet=as_json) as tick:
        history = train(
            given.taught,
            splits.train,
            splits.validation,
            recipe,
            seed=seed,
            checkpoints=kept,
            teacher=dense,
            on_progress=tick,
        )
    if history.outcome == "diverged":
        raise UserError(
            f"the fine-tuning diverged: {history.sentence}; nothing was saved",
            hint="choose a smaller --learning-rate",
        )
    if given.working is not student:
        student.load_state_dict(given.working.state_dict())
    student.eval()
    after = models.accuracy(given.asked, splits.test.x.to(device), splits.test.y.to(device))
    student.cpu()
    pruning.save(student, out, origin={"model": model, "classes": count, "input": list(size)})
    kept.clear()
    if as_json:
        document = {"before": before, "after": after, "n": splits.test.n, "history": history.to_json()}
        print_json({"schema_version": 1, **document, "folder": str(out)})
        return
    say(f"accuracy on {splits.test.n:,} test images {before:.1%} before, {after:.1%} after")
    note(history.sentence)
    named = f"--model {quote(model)} --weights {quote(str(out))} --data {quote(data)}"
    note(f"saved {out}; attack it with: secateur attack {named}")


COMMANDS = (finetune,)
