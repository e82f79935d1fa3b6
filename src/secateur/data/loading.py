"""Where images come from: a source is a function of what follows the colon, registered by name."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from inspect import signature
from pathlib import Path

import torch
from torch import Generator

from secateur.data.dataset import Dataset
from secateur.data.images import image_size, resize_dataset
from secateur.data.splits import Splits, given_splits, hold_out, split, stratified_indices, subsample
from secateur.errors import UserError
from secateur.registry import DATASETS

SplitReaders = Mapping[str, Callable[[], Dataset]]
"""Readers by part: "train", "validation" and "test", or some of them, where the source keeps them apart; else
one reader called "all"."""

Source = Callable[..., SplitReaders]
"""A source gets the ARGUMENT of ``name:ARGUMENT`` and says which parts it can read.

One with a parameter ``resize`` scales its pictures itself, to (height, width); the images of others are
scaled once they are read.
"""

Resize = int | Sequence[int] | None

# To attack and to report on: held out from training, if anything is.
_HELD_OUT = ("test", "validation", "all", "train")
# To fit something to: what the network has been trained on, if that is there.
_SEEN = ("train", "all", "validation", "test")


def load(spec: str, *, split: str | None = None, resize: Resize = None) -> Dataset:
    """Read a dataset: ``digits``, ``idx:DIR``, ``folder:DIR``, ... (the registry ``DATASETS`` names all).

    ``split`` is "train", "validation" or "test" where the source has such parts. None means the images that a
    network is evaluated on: the test part, else the validation part, else all images. ``resize`` scales every
    image: one side of a square, or height and width.

    Raises:
        UserError: unknown source, missing or damaged files, a part that the source does not have.
    """
    parts = open_dataset(spec, resize=resize)
    if split is None:
        split = evaluation_split(parts)
    if split not in parts:
        raise UserError(f"dataset '{spec}' has no part '{split}'", hint=f"it has: {', '.join(parts)}")
    return parts[split]()


def load_splits(
    spec: str,
    *,
    fractions: tuple[float, float, float] = (0.7, 0.1, 0.2),
    sizes: tuple[int, int, int] | None = None,
    resize: Resize = None,
    generator: Generator,
) -> Splits:
    """Read a dataset and cut it into train, validation and test.

    A source with all three parts is taken as it is. Of two parts the held-out one stays whole and is the test
    part (test, or validation if there is no test), and validation takes its fraction out of the other
    (CIFAR-10: 45 000, 5 000 and 10 000). A single part is cut at random. ``sizes`` then keeps that many
    images of each part, stratified by class.

    Raises:
        UserError: as ``load``, ``split`` and ``subsample``.
    """
    parts = open_dataset(spec, resize=resize)
    fitted, held_out = training_split(parts), evaluation_split(parts)
    if {"train", "validation", "test"} <= set(parts):
        whole = given_splits(*(parts[part]() for part in ("train", "validation", "test")))
    elif fitted != held_out:
        whole = hold_out(parts[fitted](), parts[held_out](), fraction=fractions[1], generator=generator)
    else:
        whole = split(parts[held_out](), fractions=fractions, generator=generator)
    usual = {"train", "test"} <= set(parts) or held_out == "all"
    whole = whole if usual else replace(whole, note=describe_splits(parts))
    return subsample(whole, sizes, generator=generator) if sizes else whole


def evaluation_split(parts: SplitReaders) -> str:
    """The part that networks are attacked on: test, else validation, else all there is."""
    return next(part for part in _HELD_OUT if part in parts)


def training_split(parts: SplitReaders) -> str:
    """The part that networks are trained on: train, else all images, else what there is."""
    return next(part for part in _SEEN if part in parts)


def describe_splits(parts: SplitReaders) -> str:
    """How train, validation and test are made of these parts, in one sentence."""
    fitted, held_out = training_split(parts), evaluation_split(parts)
    if {"train", "validation", "test"} <= set(parts):
        return "the data have train, validation and test parts, which are used as they are"
    if fitted != held_out:
        instead = "" if held_out == "test" else ": its validation part is the test part"
        return (
            f"the data have {' and '.join(parts)} parts{instead}; "
            f"validation images are drawn from the {fitted} part"
        )
    what = "no parts" if held_out == "all" else f"a {held_out} part alone"
    return f"the data have {what}: train, validation and test images are drawn from it at random"


def open_dataset(spec: str, *, resize: Resize = None) -> SplitReaders:
    """The parts of the source that ``spec`` names; nothing is decoded yet.

    Raises:
        UserError: unknown source, its files are missing, or ``resize`` is no size.
    """
    name, _, argument = spec.partition(":")
    try:
        source: Source = DATASETS.get(name)
    except UserError as error:
        if Path(spec).is_dir():
            raise UserError(error.message, hint=f"write folder:{spec} to read the pictures in it") from None
        raise
    if resize is None:
        return source(argument)
    size = image_size(resize)
    if "resize" in signature(source).parameters:
        return source(argument, resize=size)
    return {part: partial(_read_resized, read, size) for part, read in source(argument).items()}


def _read_resized(read: Callable[[], Dataset], size: tuple[int, int]) -> Dataset:
    return resize_dataset(read(), size)


def digits(argument: str) -> SplitReaders:
    """1 797 handwritten digits of 8x8 pixels and 17 grey levels, embedded in scikit-learn.

    ``digits`` has them as one part. ``digits:split`` has a train part of 1 257 images, on which the networks
    ``shipped:NAME`` were trained, and a test part of the other 540: stratified, always the same.
    """
    if argument not in ("", "split"):
        raise UserError(
            f"the digits are built in and take no '{argument}'", hint="write 'digits' or 'digits:split'"
        )
    return (
        {"train": lambda: _digits_part(train=True), "test": lambda: _digits_part(train=False)}
        if argument
        else {"all": _digits}
    )


def _digits() -> Dataset:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x = torch.from_numpy(bunch.images).to(torch.float32).div(16).unsqueeze(1)
    y = torch.from_numpy(bunch.target).to(torch.int64)
    return Dataset("digits", x, y, tuple(str(digit) for digit in range(10)), levels=17)


def _digits_part(*, train: bool) -> Dataset:
    whole = _digits()
    tested = stratified_indices(whole.y, 540, generator=Generator().manual_seed(0))
    kept = torch.ones(whole.n, dtype=torch.bool)
    kept[tested] = False
    return whole.take(kept.nonzero().squeeze(1) if train else tested)


def directory(argument: str, source: str) -> Path:
    """The folder named after the colon, checked to be one.

    Raises:
        UserError: nothing after the colon, or no such folder.
    """
    if not argument:
        raise UserError(f"the dataset '{source}' needs a folder", hint=f"write '{source}:DIR'")
    folder = Path(argument)
    if not folder.is_dir():
        raise UserError(f"there is no folder '{argument}'", hint=f"'{source}:DIR' reads the images in DIR")
    return folder
