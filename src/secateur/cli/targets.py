"""From the options --model, --weights, --input and --data to networks and images."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from secateur.cli.completion import data_names, model_names
from secateur.cli.inputs import Asked, example, refuse_exported, unknown
from secateur.cli.output import note
from secateur.errors import UserError
from secateur.registry import HUB, has_weights

if TYPE_CHECKING:
    from torch import Tensor, nn

    from secateur.data import Dataset
    from secateur.models import Statistics

Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="A zoo name, hf:NAME or hf:FOLDER of transformers, torchvision:NAME, timm:NAME, shipped:NAME, "
        "robustbench:NAME or FILE.py:FUNCTION; "
        "`attack` and `evaluate` also take FILE.pt2, which `export` wrote.",
        autocompletion=model_names,
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        "--weights", "-w", help="A .safetensors or weights-only .pt file, or a folder that `prune` wrote."
    ),
]
Mean = Annotated[
    str | None,
    typer.Option(
        "--mean",
        help="Mean to subtract from the images, one number or one per channel, as in 0.485,0.456,0.406; "
        "for networks that were trained on normalised images.",
    ),
]
Std = Annotated[
    str | None, typer.Option("--std", help="Standard deviation to divide by, as in 0.229,0.224,0.225.")
]
Resize = Annotated[
    str | None,
    typer.Option(help="Resize the images: the side of a square as in 64, or height x width as in 48x64."),
]
Data = Annotated[
    str | None,
    typer.Option("--data", "-d", help="Images, for criteria that need data.", autocompletion=data_names),
]
Classes = Annotated[
    int | None,
    typer.Option(
        help="Number of classes; by default that of --data, the default of FILE.py:FUNCTION, or 10.", min=2
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of the random choices.", min=0)]


def network(
    model: str,
    weights: Path | None,
    shape: tuple[int, ...],
    classes: int | None,
    *,
    mean: str | None = None,
    std: str | None = None,
    exported: bool = False,
) -> "nn.Module":
    """The network named by ``--model`` and ``--weights``, in evaluation mode; see ``network_and_inputs``.

    With ``exported``, for commands that only ask it, a .pt2 file that ``secateur export`` wrote, too.
    """
    normalise = check_statistics(mean, std)
    if exported and model.endswith(".pt2"):
        return _exported(model, weights, normalise)
    return network_and_inputs(model, weights, shape[1], classes, normalise=normalise)[0]


def network_and_inputs(
    model: str,
    weights: Path | None,
    channels: int | None,
    classes: int | None,
    *,
    normalise: "Statistics | None" = None,
    raw: bool = False,
) -> "tuple[nn.Module, Any]":
    """The network in evaluation mode, and its example inputs where FILE.py:FUNCTION returns them, else None.

    A folder written by ``prune`` states the normalisation of its network. With ``raw``, networks of
    torchvision, timm and Hugging Face get no normalisation in front of them.
    """
    from secateur import models
    from secateur.pruning import load

    refuse_exported(model)
    given, found = normalise, []
    saved = weights is not None and weights.is_dir()
    chosen = _saved_statistics(weights, given) if saved and weights is not None else given

    def build() -> "nn.Module":
        built, inputs = models.resolve_with_inputs(
            model,
            num_classes=classes,
            in_channels=channels,
            normalise=chosen,
            raw=raw or saved,
            pretrained=weights is None,
        )
        if not raw and (said := models.describe_hub_network(built)):
            note(f"{model}: {said}")
        if not raw and given is None and (said := models.describe_normalisation(built)):
            note(f"{model}: {said}" + ("" if saved else "; turn it off with --mean 0 --std 1"))
        found.append(inputs)
        return built

    if weights is not None and weights.is_dir():
        # A pruned folder replays its plan on the dense network before the weights are loaded.
        network = load(weights, build)
    else:
        network = build()
        if weights is not None:
            # Weight files of other projects carry prefixes and wrappers; what was changed is said.
            note(*models.load_weights(network, weights).notes)
        elif not has_weights(model) and not model.startswith(HUB):
            note(f"no --weights given: {model} has the weights of its constructor")
    return network.eval(), found[-1]


def inputs_for(model: str, asked: Sequence[Asked], given: Any) -> Any:
    """The example inputs: those of --input, or those that came with the network.

    Raises:
        UserError: there are neither.
    """
    if asked:
        return example(asked)
    if given is None:
        raise UserError(
            unknown(model),
            hint="add --input, as in --input 1x3x32x32, or let the function return (model, inputs)",
        )
    return given


def channels_of(asked: Sequence[Asked]) -> int | None:
    """The channels of the first input, as networks of images count them."""
    return asked[0].shape[1] if asked and len(asked[0].shape) > 1 else None


def _exported(path: str, weights: Path | None, given: "Statistics | None") -> "nn.Module":
    from secateur.exports import load_exported
    from secateur.models import normalised

    if weights is not None:
        raise UserError(f"'{path}' holds its own weights", hint="leave out --weights")
    loaded = load_exported(path)
    return loaded if given is None else normalised(loaded, *given)


def check_statistics(mean: str | None, std: str | None) -> "Statistics | None":
    """The values of ``--mean`` and ``--std``. Raises UserError."""
    from secateur import models

    if mean is None and std is None:
        return None
    if mean is None or std is None:
        raise UserError("--mean and --std must be given together", hint="for example --mean 0.5 --std 0.5")
    try:
        numbers = [[float(part) for part in text.split(",")] for text in (mean, std)]
    except ValueError:
        raise UserError(
            f"invalid --mean {mean} --std {std}: expected lists of numbers",
            hint="for example --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225",
        ) from None
    return models.check_statistics(*numbers)


def _saved_statistics(folder: Path, given: "Statistics | None") -> "Statistics | None":
    """The normalisation of a pruned folder. Options may repeat it but not change it."""
    from math import isclose

    from secateur.models.normalisation import is_identity
    from secateur.pruning import saved_statistics

    saved = saved_statistics(folder)
    if given is not None and (saved or not is_identity(given)):
        before = [value for values in saved or () for value in values]
        now = [value for values in given for value in values]
        # The folder stores them in single precision.
        if len(before) != len(now) or not all(map(partial(isclose, rel_tol=1e-6), before, now)):
            what = "another mean and std" if saved else "no mean and std"
            raise UserError(f"{folder} was pruned with {what}", hint="leave out --mean and --std")
    return saved


def evidence(
    criterion: str, spec: str | None, images: "Dataset | None", model: "nn.Module", seed: int
) -> "tuple[Tensor, Tensor] | None":
    """Images for the criteria that need data; ``spec`` is the text of ``--data``."""
    import torch

    from secateur import models
    from secateur.stages.prune_stage import calibration_batch, needs_images

    if not needs_images(criterion):
        return None
    if spec is None or images is None:
        raise UserError(
            f"the criterion {criterion} needs images", hint="add --data, for example --data digits"
        )
    models.check_accepts(model, images.x, data=spec)
    generator = torch.Generator().manual_seed(seed)
    return calibration_batch(criterion, model, images, generator=generator)


def move(device: str, *networks: "nn.Module | None") -> None:
    """Move networks to a device.

    Raises:
        UserError: there is no such device (code ENVIRONMENT).
    """
    from secateur.models import to_device

    for model in networks:
        if model is not None:
            to_device(model, device)
