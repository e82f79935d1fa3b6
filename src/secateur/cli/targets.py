"""How the command line names a network, its input and its images."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from secateur.cli.output import note
from secateur.errors import UserError
from secateur.registry import MODELS, checkpoint, has_weights

if TYPE_CHECKING:
    from torch import Tensor, nn

Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="A zoo name, torchvision:NAME, timm:NAME, shipped:NAME, robustbench:NAME or FILE.py:FUNCTION.",
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


def shape(model: str, text: str | None) -> tuple[int, ...]:
    """The input shape a user wrote, or the one the zoo knows for the model."""
    if text is None:
        if ":" not in model or has_weights(model):
            name = checkpoint(model).facts["arch"] if has_weights(model) else model
            known = MODELS.entry(name).facts.get("input")
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


def example(shape: tuple[int, ...]) -> "Tensor":
    """Images to trace with: random, always the same."""
    import torch

    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def network(model: str, weights: Path | None, shape: tuple[int, ...], classes: int) -> "nn.Module":
    """The network that ``--model`` and ``--weights`` name, in evaluation mode."""
    from secateur import models
    from secateur.pruning import load

    def build() -> "nn.Module":
        return models.resolve(model, num_classes=classes, in_channels=shape[1], pretrained=weights is None)

    if weights is None:
        if not has_weights(model):
            note(f"no --weights given: {model} is as its constructor left it")
        return build().eval()
    if weights.is_dir():
        return load(weights, build).eval()
    network = build()
    for sentence in models.load_weights(network, weights).notes:
        note(sentence)
    return network.eval()


def evidence(
    criterion: str, spec: str | None, model: "nn.Module", seed: int
) -> "tuple[Tensor, Tensor] | None":
    """Images for the criteria that look at data, from the train part where there is one."""
    import torch

    from secateur import data as datasets
    from secateur.stages.evidence import evidence, needs_images

    if not needs_images(criterion):
        return None
    if spec is None:
        raise UserError(
            f"the criterion {criterion} looks at images", hint="add --data, such as --data digits"
        )
    part = "train" if "train" in datasets.open_source(spec) else None
    generator = torch.Generator().manual_seed(seed)
    return evidence(criterion, model, datasets.load(spec, split=part), generator=generator)


def move(device: str, *networks: "nn.Module | None") -> None:
    """Move networks to a device.

    Raises:
        UserError: there is no such device (code ENVIRONMENT).
    """
    from secateur.models import place

    for model in networks:
        if model is not None:
            place(model, device)
