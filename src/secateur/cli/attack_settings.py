"""From the options of `secateur attack` to values: settings, targets, budgets, images."""

from fractions import Fraction
from typing import TYPE_CHECKING, Any

from secateur.budgets import norm_of
from secateur.cli.output import bar
from secateur.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from secateur.attacks.runner.starting_points import SavedPoints
    from secateur.data import Dataset, Parts


def limited(dataset: "Dataset | Parts", limit: int | None, seed: int) -> "tuple[Dataset | Parts, list[int]]":
    """A stratified sample of ``limit`` images drawn with ``seed``, and their dataset indices."""
    import torch

    from secateur.data import random_stratified_indices

    if limit is None:
        return dataset, list(range(dataset.n))
    if not 0 < limit <= dataset.n:
        raise UserError(
            f"--limit {limit} must be between 1 and {dataset.n}, the number of images of {dataset.name}"
        )
    index = random_stratified_indices(dataset.y, limit, generator=torch.Generator().manual_seed(seed))
    return dataset.take(index), index.tolist()


def targets_of(
    dataset: "Dataset | Parts", target: str | None
) -> "tuple[Dataset | Parts, list[int], Tensor | None]":
    """The images to attack, their indices, and their target classes (None: untargeted).

    Images that already belong to the target class are left out.
    """
    import torch

    everything = list(range(dataset.n))
    if target is None:
        return dataset, everything, None
    if target == "next":
        return dataset, everything, (dataset.y + 1) % dataset.num_classes
    # A class may be given by name or by number; names of digits are numbers.
    names = [str(number) for number in range(dataset.num_classes)]
    if target not in dataset.classes and target not in names:
        known = ", ".join(dataset.classes[:12])
        raise UserError(
            f"--target {target} is not a class of {dataset.name}", hint=f"choose next or one of {known}"
        )
    wanted = dataset.classes.index(target) if target in dataset.classes else int(target)
    index = (dataset.y != wanted).nonzero().squeeze(1).tolist()
    if not index:
        raise UserError(f"all {dataset.n} images already belong to --target {target}")
    return dataset.take(index), index, torch.full((len(index),), wanted)


def bounds_of(text: str | None) -> "tuple[tuple[float, float] | None, list[list[float]] | None]":
    """``--bounds LOW..HIGH``: the bounds of all pixels, and the two ends by channel where there are several.

    >>> bounds_of("-1..1"), bounds_of("-2,-1.5..2,2.5")
    (((-1.0, 1.0), None), ((-2.0, 2.5), [[-2.0, -1.5], [2.0, 2.5]]))
    """
    if text is None:
        return None, None
    try:
        ends = [[float(Fraction(part.strip())) for part in end.split(",")] for end in text.split("..")]
        low, high = ends
        fits = len(low) == len(high) and all(a < b for a, b in zip(low, high, strict=True))
    except (ValueError, ArithmeticError):
        fits = False
    if not fits:
        raise UserError(
            f"invalid --bounds {text}: expected LOW..HIGH, the lower number first",
            hint="for example --bounds -1..1, or one number per channel: --bounds -2.1,-2,-1.8..2.2,2.4,2.6",
        )
    return (min(low), max(high)), ends if len(low) > 1 else None


def by_channel(ends: list[list[float]] | None, images: "Dataset | Parts") -> "tuple[Tensor, Tensor] | None":
    """The bounds of pixels by channel, of a shape that broadcasts to ``images``."""
    import torch

    if ends is None:
        return None
    if len(ends[0]) != images.shape[0]:
        raise UserError(
            f"--bounds has {len(ends[0])} channels, the images of {images.name} {images.shape[0]}",
            hint="give one number for all, or one per channel",
        )
    if images.levels is not None:
        raise UserError(
            f"--bounds by channel is for images that are normalised already; those of {images.name} have "
            f"{images.levels} grey levels",
            hint="let the network normalise, by --mean and --std",
        )
    shape = (-1, *[1] * (len(images.shape) - 1))
    low, high = (torch.tensor(end).reshape(shape) for end in ends)
    return low, high


def mask_of(path: "Path | None", images: "Dataset | Parts", index: list[int]) -> "Tensor | None":
    """The mask of ``--mask`` for the images ``index`` of ``images``."""
    from secateur.attacks.runner.masks import read_mask

    if path is None:
        return None
    mask, rank = read_mask(path), len(images.shape) + 1
    if mask.ndim == rank and len(mask) not in (1, images.n):
        raise UserError(
            f"--mask {path} is for {len(mask)} images, {images.name} has {images.n}",
            hint="give one mask for all, [H, W] or [C, H, W], or one per image of the data",
        )
    mask = mask[index] if mask.ndim == rank and len(mask) == images.n else mask
    try:
        return mask.broadcast_to((len(index), *images.shape))
    except RuntimeError:
        raise UserError(
            f"--mask {path} is of shape {list(mask.shape)}, the images of {images.name} {list(images.shape)}",
            hint="give [H, W], [C, H, W], or one per image of the data",
        ) from None


def start_of(
    text: str | None,
    model: "nn.Module",
    dataset: "Dataset | Parts",
    index: list[int],
    *,
    targets: "Tensor | None",
    count: int,
    quiet: bool,
) -> "Tensor | SavedPoints | None":
    """The starting points; ``index`` holds the dataset indices of the images."""
    from pathlib import Path

    from secateur.attacks.runner.starting_points import SavedPoints, another_class, found_before
    from secateur.data import Parts

    if text is None:
        return None
    if text == "another-class":
        if isinstance(dataset, Parts):
            raise UserError(
                f"the nearest image of another class may be any of {dataset.n} images, which do not fit into "
                "memory",
                hint="attack a sample by --limit, or start from a FILE.safetensors",
            )
        with bar(f"nearest images of other classes, for {dataset.n} images", quiet=quiet) as tick:
            return another_class(model, dataset, targets=targets, count=count, on_progress=tick)
    if not text.endswith(".safetensors"):
        raise UserError(
            f"invalid --start {text}",
            hint="use another-class, or a FILE.safetensors written by --examples",
        )
    if isinstance(dataset, Parts):
        return SavedPoints(Path(text), dataset, index)
    return found_before(Path(text), dataset, index)


def budgets_of(text: str | None, option: str = "--budgets") -> list[float] | None:
    """A list of budgets, as in ``0,2/255,0.1``."""
    if text is None:
        return None
    try:
        # Fraction reads 8/255 exactly, and refuses what float would accept as nan or inf.
        return [float(Fraction(part.strip())) for part in text.split(",")]
    except (ValueError, ArithmeticError):
        raise UserError(
            f"invalid {option} {text}: expected a list of numbers", hint=f"for example {option} 0,2/255,0.1"
        ) from None


def attack_settings(
    norm: str | None, steps: int | None, pairs: list[str], *, eps: str | None = None
) -> dict[str, Any]:
    """Settings of an attack as Python values; a single ``eps`` becomes a number, several a list."""
    import yaml

    settings: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key.isidentifier():
            raise UserError(f"invalid --set {pair}: expected name=value", hint="for example --set gamma=0.05")
        try:
            # The same spelling as in a study file: numbers, words and lists.
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise UserError(f"invalid --set {pair}: cannot read the value") from None
        if key in settings:
            raise UserError(f"--set {key} is given twice", hint="leave out one of them")
        settings[key] = _numbers(value)
    for key, value in (("eps", eps), ("norm", norm), ("steps", steps)):
        if value is not None and key in settings:
            raise UserError(f"both --{key} and --set {key} are given", hint="leave out one of them")
    if (sizes := budgets_of(eps, "--eps")) is not None:
        settings["eps"] = sizes if len(sizes) > 1 else sizes[0]
    if norm is not None:
        try:
            settings["norm"] = norm_of(norm)
        except UserError:
            raise UserError(f"invalid --norm {norm}: choose 0, 1, 2, inf or L0-pixels") from None
    if steps is not None:
        settings["steps"] = steps
    return settings


def _numbers(value: Any) -> Any:
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return _number(value) if isinstance(value, str) else value


def _number(text: str) -> float | str:
    """Numbers that YAML reads as text: ``1e-3``, ``8/255``, ``inf``."""
    for read in (float, Fraction):
        try:
            return float(read(text))
        except (ValueError, ArithmeticError):
            continue
    return text
