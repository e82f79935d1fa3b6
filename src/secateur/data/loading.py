"""Load datasets by name: a source is a registered function of the text after the colon."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.resources import files
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator

from secateur.data import handed_over
from secateur.data.dataset import Dataset, checked_bounds
from secateur.data.images import image_size, resize_dataset, scale_dataset
from secateur.data.parts import Parts, SplitReader
from secateur.data.splits import Splits, cut, given_splits, hold_out, split, subsample
from secateur.errors import UserError
from secateur.registry import DATASETS

SplitReaders = Mapping[str, Callable[[], Dataset]]
"""Functions that read each split: "train", "validation" and "test", or some of them, or only "all"."""

Source = Callable[..., SplitReaders]
"""A source receives the ARGUMENT of ``name:ARGUMENT`` and returns the readers of its splits.

If it has a parameter ``resize`` it scales to (height, width) itself, and with a parameter ``bounds`` its
pixels to (lowest, highest); otherwise images are scaled after reading.
"""
Bounds = tuple[float, float]

Resize = int | Sequence[int] | None

# Preference for evaluation: images held out from training, if there are any.
_HELD_OUT = ("test", "validation", "all", "train")
# Preference for training: images that networks of this source are trained on.
_SEEN = ("train", "all", "validation", "test")


def load(
    spec: str, *, split: str | None = None, resize: Resize = None, bounds: Bounds | None = None
) -> Dataset:
    """Read a dataset: ``digits``, ``idx:DIR``, ``folder:DIR``, ... (all names: the registry ``DATASETS``).

    Args:
        spec: name of the source, and after a colon what it reads.
        split: "train", "validation" or "test" where the source has them. None means the images for
            evaluation: the test split, else the validation split, else all images.
        resize: scale every image to this size: one side of a square, or height and width.
        bounds: lowest and highest pixel that the network takes, (0, 1) by default: images are scaled to them,
            but floating-point arrays of ``npz:`` must lie within them as they are.

    Raises:
        UserError: unknown source, missing or damaged files, a split that the source does not have, or bounds
            that enclose nothing.

    >>> load("digits:split", split="test").n
    540
    """
    parts = open_dataset(spec, resize=resize, bounds=bounds)
    if split is None:
        split = evaluation_split(parts)
    if split not in parts:
        raise UserError(f"dataset '{spec}' has no split '{split}'", hint=f"it has: {', '.join(parts)}")
    return parts[split]()


def load_or_parts(
    spec: str, *, split: str, resize: Resize = None, bounds: Bounds | None = None, most: int | None = None
) -> Dataset | Parts:
    """As ``load``; where images of a folder or an .npz file take more than ``most`` bytes, as ``Parts``.

    Args:
        spec: as for ``load``.
        split: as for ``load``.
        resize: as for ``load``.
        bounds: as for ``load``.
        most: bytes as float32; 4 GiB by default.

    Raises:
        UserError: as ``load``.

    >>> type(load_or_parts("digits", split="all")).__name__
    'Dataset'
    """
    read = open_dataset(spec, resize=resize, bounds=bounds)[split]
    most = handed_over.MOST if most is None else most
    found = read.parts(most) if isinstance(read, SplitReader) else None
    if found is None:
        return read()
    return found if found.size > most else found.whole()


def load_splits(
    spec: str,
    *,
    fractions: tuple[float, float, float] = (0.7, 0.1, 0.2),
    sizes: tuple[int, int, int] | None = None,
    resize: Resize = None,
    generator: Generator,
) -> Splits:
    """Read a dataset and split it into train, validation and test.

    A source with all three splits is used as it is. Of two, the held-out one stays complete and is the test
    split (test, or validation if there is no test), and validation is drawn from the other (CIFAR-10: 45 000,
    5 000 and 10 000 images). A source with one is split at random.

    Args:
        spec: as for ``load``.
        fractions: of train, validation and test, where they are drawn.
        sizes: keep this many images of each, stratified by class.
        resize: as for ``load``.
        generator: for the random draws.

    Raises:
        UserError: as for ``load``, ``split`` and ``subsample``.

    >>> splits = load_splits("digits", generator=Generator().manual_seed(0))
    >>> splits.train.n, splits.validation.n, splits.test.n
    (1258, 180, 359)
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
    """The split to evaluate and attack on: test, else validation, else all images.

    >>> evaluation_split(digits("split"))
    'test'
    """
    return next(part for part in _HELD_OUT if part in parts)


def training_split(parts: SplitReaders) -> str:
    """The split to train on: train, else all images, else what is available.

    >>> training_split(digits("split"))
    'train'
    """
    return next(part for part in _SEEN if part in parts)


def describe_splits(parts: SplitReaders) -> str:
    """One sentence on how train, validation and test are made from these splits.

    >>> describe_splits(digits("split"))
    'the data have train and test splits; validation images are drawn from the train split'
    """
    fitted, held_out = training_split(parts), evaluation_split(parts)
    if {"train", "validation", "test"} <= set(parts):
        return "the data have train, validation and test splits, which are used as they are"
    if fitted != held_out:
        instead = "" if held_out == "test" else ": the validation split is used as test split"
        return (
            f"the data have {' and '.join(parts)} splits{instead}; "
            f"validation images are drawn from the {fitted} split"
        )
    what = "no splits" if held_out == "all" else f"only a {held_out} split"
    return f"the data have {what}: train, validation and test images are drawn from it at random"


def open_dataset(spec: str, *, resize: Resize = None, bounds: Bounds | None = None) -> SplitReaders:
    """The splits of the source named by ``spec``, as functions that read them; nothing is decoded yet.

    Raises:
        UserError: unknown source, missing files, or ``resize`` is not a size, or ``bounds`` none.

    >>> list(open_dataset("digits:split"))
    ['train', 'test']
    """
    name, _, argument = spec.partition(":")
    try:
        source: Source = DATASETS.get(name)
    except UserError as error:
        if Path(spec).is_dir():
            raise UserError(error.message, hint=f"write folder:{spec} to read the images in it") from None
        raise
    asked = {
        "resize": None if resize is None else image_size(resize),
        "bounds": None if bounds is None else checked_bounds(bounds),
    }
    given: dict[str, Any] = {key: value for key, value in asked.items() if value is not None}
    own = {key: given.pop(key) for key in [*given] if key in signature(source).parameters}
    # Sources of arrays have no files to scale one by one.
    found: object = source(argument, **own)
    readers = {"all": partial(_itself, found)} if isinstance(found, Dataset) else found
    if not isinstance(readers, Mapping):
        raise UserError(
            f"the data source '{name}' returned {type(found).__name__}, not a Dataset",
            hint="return a secateur.data.Dataset, or a function that reads one by split",
        )
    change = partial(_scaled, **given)
    return {
        part: read.changed(change) if isinstance(read, SplitReader) else partial(_read_scaled, read, change)
        for part, read in readers.items()
    }


def _itself(images: Dataset) -> Dataset:
    return images


def _read_scaled(read: Callable[[], Dataset], change: Callable[[Dataset], Dataset]) -> Dataset:
    return change(read())


def _scaled(images: Dataset, resize: tuple[int, int] | None = None, bounds: Bounds | None = None) -> Dataset:
    images = images if resize is None else resize_dataset(images, resize)
    return images if bounds is None else scale_dataset(images, bounds)


def digits(argument: str) -> SplitReaders:
    """1 797 handwritten digits of 8x8 pixels and 17 grey levels (Alpaydin and Kaynak 1998).

    ``digits`` is one split. ``digits:split`` has a train split of 1 257 images, on which the networks
    ``shipped:NAME`` were trained, and a test split of the other 540: stratified and always the same.

    >>> digits("")["all"]().shape
    (1, 8, 8)
    """
    if argument not in ("", "split"):
        raise UserError(
            f"the digits are built in and have no '{argument}'", hint="write 'digits' or 'digits:split'"
        )
    if not argument:
        return {"all": _digits}
    return {"train": partial(_digits_part, train=True), "test": partial(_digits_part, train=False)}


def _digits() -> Dataset:
    with files("secateur.data").joinpath("digits.npz").open("rb") as file, np.load(file) as stored:
        x = torch.from_numpy(stored["x"]).to(torch.float32).div(16).unsqueeze(1)
        y = torch.from_numpy(stored["y"]).to(torch.int64)
    return Dataset("digits", x, y, tuple(str(digit) for digit in range(10)), levels=17)


def _digits_part(*, train: bool) -> Dataset:
    # A fixed seed: the shipped networks were trained on the other images.
    trained, tested = cut(_digits(), 540, Generator().manual_seed(0))
    return trained if train else tested


def directory(argument: str, source: str) -> Path:
    """The folder named after the colon.

    Raises:
        UserError: nothing after the colon, or no such folder.
    """
    if not argument:
        raise UserError(f"the dataset '{source}' needs a folder", hint=f"write '{source}:DIR'")
    folder = Path(argument)
    if not folder.is_dir():
        raise UserError(f"there is no folder '{argument}'", hint=f"'{source}:DIR' reads the images in DIR")
    return folder
