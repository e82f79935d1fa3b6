"""Where images come from: a source is a function of what follows the colon, registered by name."""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Generator

from secateur.data.dataset import Dataset
from secateur.data.splits import Splits, draw, hold_out, shrink, split
from secateur.errors import UserError
from secateur.registry import DATASETS

Parts = Mapping[str, Callable[[], Dataset]]
"""Readers by part: "train" and "test" where the source keeps them apart, else one reader called "all"."""

Source = Callable[[str], Parts]
"""A source gets the ARGUMENT of ``name:ARGUMENT`` and says which parts it can read."""


def load(spec: str, *, split: str | None = None) -> Dataset:
    """Read a dataset: ``digits``, ``idx:DIR``, ``folder:DIR``, ... (the registry ``DATASETS`` names all).

    ``split`` is "train" or "test" where the source has official parts. None means the official test part
    where there is one, else all images: the images that a network is evaluated on.

    Raises:
        UserError: unknown source, missing or damaged files, a part that the source does not have.
    """
    parts = open_source(spec)
    if split is None:
        split = next(part for part in ("test", "all", "train") if part in parts)
    if split not in parts:
        raise UserError(f"dataset '{spec}' has no part '{split}'", hint=f"it has: {', '.join(parts)}")
    return parts[split]()


def load_splits(
    spec: str,
    *,
    fractions: tuple[float, float, float] = (0.7, 0.1, 0.2),
    sizes: tuple[int, int, int] | None = None,
    generator: Generator,
) -> Splits:
    """Read a dataset and cut it into train, validation and test.

    Where the source has official train and test parts, test stays whole, and validation takes its fraction
    out of the train part (CIFAR-10: 45 000, 5 000 and 10 000). Otherwise all images are cut. ``sizes`` then
    keeps that many images of each part, stratified by class.

    Raises:
        UserError: as ``load``, ``split`` and ``shrink``.
    """
    parts = open_source(spec)
    if {"train", "test"} <= set(parts):
        whole = hold_out(parts["train"](), parts["test"](), fraction=fractions[1], generator=generator)
    else:
        whole = split(load(spec), fractions=fractions, generator=generator)
    return shrink(whole, sizes, generator=generator) if sizes else whole


def open_source(spec: str) -> Parts:
    """The parts of the source that ``spec`` names; nothing is decoded yet.

    Raises:
        UserError: unknown source, or its files are missing.
    """
    name, _, argument = spec.partition(":")
    source: Source = DATASETS.get(name)
    return source(argument)


def digits(argument: str) -> Parts:
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
    tested = draw(whole.y, 540, generator=Generator().manual_seed(0))
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
