"""Labelled images, identified by their pixels and labels alone."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from secateur.display import Shown
from secateur.errors import UserError
from secateur.hashing import sha256_hex

MAX_CLASSES = 100_000
"""More classes than any data set has: one wrong label would otherwise create millions of names."""
ROUNDING = 1e-5
"""How far outside the bounds, relative to their width, a value may lie to be called a rounding error."""


@dataclass(frozen=True, eq=False, repr=False)
class Dataset(Shown):
    """Labelled images, or tables [N, F], signals [N, C, L] and volumes [N, C, D, H, W].

    ``x`` is float32 [N, C, H, W] (or another [N, ...]) within ``bounds``; ``y`` is int64 [N] with values in
    [0, number of classes); other integer types are converted. ``classes`` are their names, by default the
    numbers up to the largest label. ``levels`` is the number of grey levels of the source (17 for the digits,
    256 for 8-bit and 65 536 for 16-bit images, None for continuous values); level k of L has the value
    k / (L - 1). ``remarks`` say what its source holds and it does not, one sentence each. ``of`` makes
    a data set of arrays, loaders and the data sets of other libraries.

    Raises:
        UserError: empty, wrong shape or dtype, a pixel outside the bounds, or a label without a class.

    >>> images = Dataset("pair", torch.zeros(2, 1, 4, 4), torch.tensor([0, 1]), ("cat", "dog"), levels=256)
    >>> images.n, images.shape, images.num_classes
    (2, (1, 4, 4), 2)
    >>> images.take([1]).y
    tensor([1])
    """

    name: str
    x: Tensor
    y: Tensor
    classes: tuple[str, ...] = ()
    levels: int | None = None
    bounds: tuple[float, float] = (0.0, 1.0)
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_types(self)
        # Every integer type holds the same labels; narrow ones overflow when they are compared with sizes.
        object.__setattr__(self, "y", self.y.to(torch.int64))
        if not self.classes and self.y.numel():
            object.__setattr__(self, "classes", numbered(int(self.y.max()) + 1))
        _check_shapes(self)
        _check_values(self)

    @property
    def n(self) -> int:
        """Number of images."""
        return self.x.shape[0]

    @property
    def num_classes(self) -> int:
        """Number of classes, including those without images."""
        return len(self.classes)

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, height and width of one image; the shape of one row of other data."""
        return tuple(self.x.shape[1:])

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over grey levels, labels and their order; independent of file names and folders."""
        digest = sha256(fingerprint_head(self.n, self.shape, self.levels))
        for start in range(0, self.n, 4096):
            digest.update(grey_bytes(self, slice(start, start + 4096)))
        digest.update(self.y.cpu().numpy().astype("<i8").tobytes())
        return digest.hexdigest()

    def image_hashes(self) -> list[str]:
        """One sha256 per image over its grey levels: equal images have equal hashes, whatever their label."""
        found = []
        for start in range(0, self.n, 4096):
            content = grey_bytes(self, slice(start, start + 4096))
            size = len(content) // min(4096, self.n - start)
            found += [sha256_hex(content[i : i + size]) for i in range(0, len(content), size)]
        return found

    def __len__(self) -> int:
        return self.n

    def _shown(self) -> tuple[str, list[tuple[str, str]]]:
        grey = "continuous values" if self.levels is None else f"{self.levels} grey levels"
        low, high = self.bounds
        size = "×".join(map(str, self.x.shape[1:]))
        title = f"Dataset {self.name}: {self.n:,} images of {size}, {grey} in [{low:g}, {high:g}]"
        counts = torch.bincount(self.y.cpu(), minlength=len(self.classes)).tolist()
        rows = [(name, f"{count:,} images") for name, count in zip(self.classes, counts, strict=True)]
        return title, [*(("remark", said) for said in self.remarks), *rows]

    def take(self, indices: Tensor | Sequence[int]) -> "Dataset":
        """The images at ``indices``, in that order."""
        where = torch.as_tensor(indices, dtype=torch.int64, device=self.x.device)
        return replace(self, x=self.x[where], y=self.y[where])

    def to(self, device: torch.device | str) -> "Dataset":
        """The same images on ``device``."""
        return replace(self, x=self.x.to(device), y=self.y.to(device))


def fingerprint_head(n: int, shape: tuple[int, ...], levels: int | None) -> bytes:
    """The first bytes of what a fingerprint digests; grey levels and labels follow."""
    return f"secateur-data-1 {(n, *shape)} {levels}".encode()


def grey_bytes(dataset: Dataset, where: slice) -> bytes:
    """What identifies the images ``where``: their grey levels, or their float32 values."""
    # Integers, so that the identity does not depend on how a reader rounds its float32 pixels.
    pixels = dataset.x[where].cpu()
    if dataset.levels is None:
        return pixels.contiguous().numpy().astype("<f4").tobytes()
    low, high = dataset.bounds
    grey = (pixels - low) / (high - low) * (dataset.levels - 1)
    if dataset.levels > 256:
        return grey.round().to(torch.int32).contiguous().numpy().astype("<u2").tobytes()
    return grey.round().to(torch.uint8).contiguous().numpy().tobytes()


def numbered(count: int) -> tuple[str, ...]:
    """Names for ``count`` classes that have none; at least two, and no more than a data set can have.

    Raises:
        UserError: more than ``MAX_CLASSES``.
    """
    if count > MAX_CLASSES:
        raise UserError(
            f"the largest label is {count - 1}; labels must be below {MAX_CLASSES}",
            hint="number the classes from 0",
        )
    return tuple(map(str, range(max(count, 2))))


def checked_bounds(bounds: Any) -> tuple[float, float]:
    """The lowest and the highest pixel as numbers. Raises UserError where they are none, or not in order."""
    try:
        low, high = (float(bound) for bound in bounds)
    except (TypeError, ValueError):
        low = high = 0.0
    if not low < high or not isfinite(high - low):
        raise UserError(f"the bounds are {bounds!r}", hint="give (low, high) with low < high")
    return low, high


def _check_types(dataset: Dataset) -> None:
    x: Any
    y: Any
    x, y, name = dataset.x, dataset.y, dataset.name
    for what, value in (("images", x), ("labels", y)):
        if not isinstance(value, Tensor):
            raise UserError(
                f"the {what} of dataset '{name}' are {_named(value)}, not a tensor",
                hint="secateur.data.of((x, y)) takes arrays, loaders and the data sets of other libraries",
            )
    if x.dtype != torch.float32:
        whole = not (x.is_floating_point() or x.is_complex())
        how = "divide 8-bit images by 255 and convert them" if whole else "convert them by x.float()"
        raise UserError(f"dataset '{name}' has {_bare(x.dtype)} images, not float32 ones", hint=how)
    if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
        raise UserError(
            f"dataset '{name}' has {_bare(y.dtype)} labels, not whole numbers",
            hint="convert them by y.long()",
        )
    checked_bounds(dataset.bounds)
    if dataset.levels is not None and not isinstance(dataset.levels, int):
        raise UserError(f"levels is {dataset.levels!r}", hint="give the number of grey levels, or None")
    if isinstance(dataset.classes, str) or not isinstance(dataset.classes, Sequence):
        raise UserError(
            f"the classes of dataset '{name}' are {dataset.classes!r}, not a list of names",
            hint="leave them out to call them by their numbers, or secateur.data.of((x, y), classes=10)",
        )


def _named(value: object) -> str:
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


def _bare(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _check_shapes(dataset: Dataset) -> None:
    x, y, name = dataset.x, dataset.y, dataset.name
    if x.ndim < 2 or y.ndim != 1 or x.shape[0] != y.shape[0]:
        one_hot = y.ndim == 2 and x.ndim >= 2 and len(y) == len(x)
        raise UserError(
            f"dataset '{name}' needs images [N, C, H, W], or other rows [N, ...], and labels [N], "
            f"not {list(x.shape)} and {list(y.shape)}",
            hint="one-hot labels become class numbers by y.argmax(1)" if one_hot else "",
        )
    if x.shape[0] == 0:
        raise UserError(f"dataset '{name}' has no images")
    if x.numel() == 0:
        raise UserError(f"the images of dataset '{name}' have no pixels: {list(x.shape)}")
    if dataset.levels is not None and not 2 <= dataset.levels <= 65_536:
        raise UserError(f"dataset '{name}' has {dataset.levels} grey levels; expected 2 to 65536, or None")


def _check_values(dataset: Dataset) -> None:
    low, high = dataset.bounds
    x, y, name = dataset.x, dataset.y, dataset.name
    # With a NaN the extremes are NaN, and every comparison with NaN is false.
    if not (x.amin() >= low and x.amax() <= high):
        outside = ~((x >= low) & (x <= high))
        index = int(outside.flatten(1).any(1).nonzero()[0])
        value = float(x[index][outside[index]][0])
        raise UserError(
            f"dataset '{name}': image {index} has a pixel of value {_digits(value, low, high)}, "
            f"outside [{low:g}, {high:g}]{_range(x)}",
            hint=_way_in(x, low, high),
        )
    wrong = (y < 0) | (y >= len(dataset.classes))
    if bool(wrong.any()):
        index, count = int(wrong.nonzero()[0]), len(dataset.classes)
        from_one = int(y.min()) == 1 and int(y.max()) == count
        raise UserError(
            f"dataset '{name}': image {index} has label {int(y[index])}, "
            f"but there are {count} classes (0 to {count - 1})",
            hint="the labels seem to count from 1: subtract 1" if from_one else "",
        )


def _digits(value: float, low: float, high: float) -> str:
    """Enough digits that a value outside the bounds does not look like one of them."""
    return next((text for p in (6, 8, 12) if float(text := f"{value:.{p}g}") not in (low, high)), repr(value))


def _range(x: Tensor) -> str:
    least, most = float(x.amin()), float(x.amax())
    return f"; the values go from {least:.4g} to {most:.4g}" if isfinite(most - least) else ""


def _way_in(x: Tensor, low: float, high: float) -> str:
    """What to do about values outside the bounds, by how far outside they are."""
    least, most = float(x.amin()), float(x.amax())
    if not isfinite(most - least):
        return "replace what is not a finite number"
    if max(low - least, most - high) <= ROUNDING * (high - low):
        return f"that is rounding: clip them by x.clamp({low:g}, {high:g})"
    if least >= 0 and most <= 255 and (low, high) == (0.0, 1.0) and torch.equal(x, x.round()):
        return "images are expected in [0, 1]: divide 8-bit values by 255"
    return (
        "normalised images? keep pixels in [0, 1] and let the network normalise: "
        "secateur.normalised(model, mean, std); data of another range: bounds=(lowest, highest)"
    )
