"""Labelled images, identified by their pixels and labels alone."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256

import torch
from torch import Tensor

from secateur.errors import UserError
from secateur.hashing import sha256_hex


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images.

    ``x`` is float32 [N, C, H, W] within ``bounds``; ``y`` is int64 [N] with values in [0, number of classes).
    ``levels`` is the number of grey levels of the source (17 for the digits, 256 for 8-bit and 65 536 for
    16-bit images, None for continuous values); level k of L has the value k / (L - 1).

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
    classes: tuple[str, ...]
    levels: int | None
    bounds: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
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
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        channels, height, width = self.x.shape[1:]
        return channels, height, width

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over grey levels, labels and their order; independent of file names and folders."""
        digest = sha256(f"secateur-data-1 {tuple(self.x.shape)} {self.levels}".encode())
        for start in range(0, self.n, 4096):
            digest.update(_grey_bytes(self, slice(start, start + 4096)))
        digest.update(self.y.cpu().numpy().astype("<i8").tobytes())
        return digest.hexdigest()

    def image_hashes(self) -> list[str]:
        """One sha256 per image over its grey levels: equal images have equal hashes, whatever their label."""
        found = []
        for start in range(0, self.n, 4096):
            content = _grey_bytes(self, slice(start, start + 4096))
            size = len(content) // min(4096, self.n - start)
            found += [sha256_hex(content[i : i + size]) for i in range(0, len(content), size)]
        return found

    def take(self, indices: Tensor | Sequence[int]) -> "Dataset":
        """The images at ``indices``, in that order."""
        where = torch.as_tensor(indices, dtype=torch.int64, device=self.x.device)
        return replace(self, x=self.x[where], y=self.y[where])

    def to(self, device: torch.device | str) -> "Dataset":
        """The same images on ``device``."""
        return replace(self, x=self.x.to(device), y=self.y.to(device))


def _grey_bytes(dataset: Dataset, where: slice) -> bytes:
    # Integers, so that the identity does not depend on how a reader rounds its float32 pixels.
    pixels = dataset.x[where].cpu()
    if dataset.levels is None:
        return pixels.contiguous().numpy().astype("<f4").tobytes()
    low, high = dataset.bounds
    grey = (pixels - low) / (high - low) * (dataset.levels - 1)
    if dataset.levels > 256:
        return grey.round().to(torch.int32).contiguous().numpy().astype("<u2").tobytes()
    return grey.round().to(torch.uint8).contiguous().numpy().tobytes()


def _check_shapes(dataset: Dataset) -> None:
    x, y, name = dataset.x, dataset.y, dataset.name
    if x.ndim != 4 or y.ndim != 1 or x.shape[0] != y.shape[0]:
        raise UserError(
            f"dataset '{name}' needs images [N, C, H, W] and labels [N], "
            f"not {list(x.shape)} and {list(y.shape)}"
        )
    if x.shape[0] == 0:
        raise UserError(f"dataset '{name}' has no images")
    if x.numel() == 0:
        raise UserError(f"the images of dataset '{name}' have no pixels: {list(x.shape)}")
    if x.dtype != torch.float32 or y.dtype != torch.int64:
        raise UserError(
            f"dataset '{name}' needs float32 images and int64 labels, not {x.dtype} and {y.dtype}",
            hint="divide 8-bit images by 255 and convert them to float32",
        )
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
            f"dataset '{name}': image {index} has a pixel of value {value:g}, outside [{low:g}, {high:g}]",
            hint="images are expected in [0, 1]: divide 8-bit values by 255" if value > 1.5 else "",
        )
    wrong = (y < 0) | (y >= len(dataset.classes))
    if bool(wrong.any()):
        index = int(wrong.nonzero()[0])
        raise UserError(
            f"dataset '{name}': image {index} has label {int(y[index])}, "
            f"but there are {len(dataset.classes)} classes (0 to {len(dataset.classes) - 1})"
        )
