"""The command attack: attack a network, verify the examples, grade the result."""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from secateur.cli.attack_output import check_outputs, print_attack
from secateur.cli.attack_settings import (
    attack_settings,
    bounds_of,
    budgets_of,
    by_channel,
    limited,
    mask_of,
    start_of,
    targets_of,
)
from secateur.cli.completion import data_names, norm_names, setting_names
from secateur.cli.images import check_class_order, chosen_size, held_out, note_other_data
from secateur.cli.options import (
    AttackName,
    Device,
    Json,
    Logits,
    PlugIns,
    output_of,
    plug_in,
    with_run_options,
)
from secateur.cli.output import bar, note, print_json
from secateur.cli.targets import Mean, Model, Resize, Seed, Std, Weights, move, network
from secateur.errors import UserError
from secateur.registry import has_weights
from secateur.run_options import NAMES

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from secateur.data import Dataset, Parts
    from secateur.evaluate import Evaluated


@with_run_options
def attack(
    model: Model,
    data: Annotated[
        str,
        typer.Option(
            "--data",
            "-d",
            help="digits, idx:DIR, folder:DIR; see `secateur ls data`.",
            autocompletion=data_names,
        ),
    ],
    weights: Weights = None,
    name: AttackName = "ddn",
    norm: Annotated[
        str | None,
        typer.Option(
            help="L0, L0-pixels, L1, L2 or Linf (or 0, 1, 2, inf); the attack's own by default.",
            autocompletion=norm_names,
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Iterations.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="A setting of the attack, as in gamma=0.05. May be repeated.",
            autocompletion=setting_names,
        ),
    ] = None,
    eps: Annotated[
        str | None,
        typer.Option(help="Perturbation budget ε of a fixed-budget attack, or a list: 1/255,2/255,4/255."),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            help="Target class (images of that class are left out), or next: the class after the label."
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            help="Starting points of fmn: another-class (the nearest images of other classes), or a "
            "FILE.safetensors written with --examples, for example for the dense network."
        ),
    ] = None,
    budgets: Annotated[
        str | None,
        typer.Option(help="Budgets ε at which a minimum-norm attack reports robust accuracy: 0,2/255,8/255."),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            help="Attack N images, a stratified sample drawn with --seed; the result is marked as partial."
        ),
    ] = None,
    bounds: Annotated[
        str | None,
        typer.Option(
            help="Range of the pixels that the network takes, LOW..HIGH as in -1..1, 0..1 by default: images "
            "of grey levels are scaled to it, floating-point arrays lie in it. One number per channel for "
            "arrays that are normalised already."
        ),
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(
            help="Where alone pixels may change: a black and white picture, .npy, .npz, .pt or .safetensors, "
            "of shape [H, W] or [C, H, W], or one per image of the data."
        ),
    ] = None,
    resize: Resize = None,
    mean: Mean = None,
    std: Std = None,
    logits: Logits = None,
    batch_size: Annotated[int, typer.Option(help="Largest batch; halved when memory runs out.")] = 256,
    audit: Annotated[
        bool,
        typer.Option("--audit", help="Add the expensive checks: other attacks and seeds, planted examples."),
    ] = False,
    device: Device = "cpu",
    seed: Seed = 0,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write the per-image record to this JSON file.")
    ] = None,
    examples: Annotated[
        Path | None, typer.Option(help="Write the adversarial examples to FILE.safetensors.")
    ] = None,
    pictures: Annotated[
        Path | None, typer.Option(help="Folder for pictures of the examples and the security curve.")
    ] = None,
    plugin: PlugIns = None,
    as_json: Json = False,
    **options: Any,
) -> None:
    """Run an attack, verify its adversarial examples, and grade the result."""
    import secateur
    from secateur import models
    from secateur.attacks.runner.classifier import PROBED, Classifier, classifier
    from secateur.data.parts import first_images, fitting, handed

    plug_in(plugin)
    # The attack may take hours: an output that cannot be written is refused before it.
    check_outputs(out, examples, pictures)
    settings = attack_settings(norm, steps, set_ or [], eps=eps)
    _refuse_arguments(settings, secateur.attack)
    # Images the network was trained on would flatter it, so a held-out split is attacked.
    box, ends = bounds_of(bounds)
    size = chosen_size(resize, model)
    part, whole = held_out(data, size, box)
    drawn, numbers = limited(whole, limit, seed)
    chosen, places, targets = targets_of(drawn, target)
    # A sample of images that do not fit into memory may fit.
    dataset = fitting(chosen)
    # Both the limit and the target leave images out; the record keeps indices of the whole data set.
    index = [numbers[place] for place in places]
    if len(dataset.shape) != 3 and (pictures or mean or std):
        given = "--pictures" if pictures else "--mean and --std"
        raise UserError(f"{given}: the data are no images, but rows of shape {list(dataset.shape)}")
    if dataset.num_classes < 2:
        # A network for a single class has nothing to confuse it with.
        raise UserError(f"{data} has a single class", hint="name all classes of the network in its data")
    pixel_bounds, free = by_channel(ends, whole), mask_of(mask, whole, index)
    attacked = network(
        model, weights, (1, *dataset.shape), dataset.num_classes, mean=mean, std=std, exported=True
    )
    check_class_order(attacked, dataset, name=model)
    note_other_data(model, data)
    move(device, attacked)
    example = first_images(dataset, PROBED).x
    asked = classifier(attacked, example, logits=output_of(logits), batch_size=batch_size, data=data)
    note(*(asked.said if isinstance(asked, Classifier) else ()))
    points = start_of(start, asked, dataset, index, targets=targets, count=options["restarts"], quiet=as_json)
    begun = time.perf_counter()
    with bar(f"{name} on {dataset.n} images", quiet=as_json) as tick:
        result = secateur.attack(
            asked,
            handed(dataset),
            name,
            batch_size=batch_size,
            seed=seed,
            targets=targets,
            start=points,
            mask=free,
            pixel_bounds=pixel_bounds,
            budgets=budgets_of(budgets),
            audit=audit,
            on_progress=tick,
            **options,
            **settings,
        )
    if (kept := result.result.search.get("examples")) is not None:
        note(f"{data} is read part by part; adversarial examples are {kept}")
    summary = {
        **result.summary(),
        "kind": result.result.kind,
        "seconds": time.perf_counter() - begun,
        # A result on fewer images is marked, so that it is not quoted as the full one.
        "partial": limit is not None and limit < whole.n,
        "model": model,
        "data": data,
        "part": part,
        "images": whole.n,
        "resize": list(whole.shape[1:]) if size else None,
        "normalise": models.statistics(attacked),
        **({} if bounds is None else {"bounds": bounds}),
        **({} if mask is None else {"mask": str(mask)}),
    }
    facts = {
        "schema_version": 2,
        "model": model,
        "weights": None if weights is None else str(weights),
        "data": data,
        "device": device,
        "secateur": secateur.__version__,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    # A published accuracy says nothing about a pruned network, or about a subset of the classes.
    published = has_weights(model) and targets is None and (weights is None or weights.is_file())
    if published and (said := models.accuracy_mismatch(model, summary["clean_accuracy"], n=dataset.n)):
        note(said)
    _write(
        result, {**facts, "summary": summary}, dataset, index, out=out, examples=examples, pictures=pictures
    )
    if as_json:
        print_json(summary)
    else:
        print_attack(summary)


COMMANDS = (attack,)


def _refuse_arguments(settings: dict[str, Any], attack: Callable[..., Any]) -> None:
    """``--set`` is for settings of the attack; the evaluation has options of its own."""
    if taken := settings.keys() & {*signature(attack).parameters, *NAMES}:
        name = min(taken)
        raise UserError(
            f"invalid --set {name}: '{name}' is no setting of an attack",
            hint="see secateur attack --help",
        )


def _write(
    result: "Evaluated",
    facts: dict[str, Any],
    dataset: "Dataset | Parts",
    index: list[int],
    *,
    out: Path | None,
    examples: Path | None,
    pictures: Path | None,
) -> None:
    """Write the requested files, with a note for each."""
    from secateur.evaluate import save_examples

    record = {**result.to_json(), "index": index, **facts}
    written = []
    if out is not None:
        out.write_text(json.dumps(record, allow_nan=False), encoding="utf-8")
        written.append(out)
    if examples is not None:
        save_examples(result, examples, index=index)
        written.append(examples)
    if pictures is not None:
        from secateur.report.attack_figures import draw_attack, save_attack

        clean, adv = _clean(dataset, result.result.kept), result.result.adv.numpy()
        drawn = draw_attack(record, clean, adv, dataset.y.tolist(), dataset.classes)
        written += save_attack(drawn, pictures)
    for path in written:
        note(f"wrote {path}")


def _clean(dataset: "Dataset | Parts", kept: "Tensor | None") -> "NDArray[Any]":
    """The clean images of the examples that are there: all of them, or those that were kept."""
    from secateur.data import Parts

    if not isinstance(dataset, Parts):
        return dataset.x.numpy()
    found = dataset.take(kept).whole() if kept is not None and len(kept) else dataset.like
    return found.x.numpy()
