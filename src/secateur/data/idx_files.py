"""Images in IDX files, the format of MNIST."""

import gzip
import math
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np

from secateur.data.dataset import Dataset
from secateur.data.images import from_pixels
from secateur.data.loading import SplitReaders, directory
from secateur.errors import UserError
from secateur.hashing import file_sha256

IDX_PARTS = {"train": "train", "test": "t10k"}
MAX_BYTES = 2**31
CHUNK = 2**24
FASHION = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
FASHION_SHA256 = {
    "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
}


def idx(argument: str) -> SplitReaders:
    """``idx:DIR``: ``{train,t10k}-{images-idx3,labels-idx1}-ubyte`` in DIR, plain or gzipped.

    One of the two splits is enough.

    >>> idx(".")
    Traceback (most recent call last):
    secateur.errors.UserError: no IDX files in '.' (expected for example t10k-...)
    """
    folder = directory(argument, "idx")
    found = {}
    for part, prefix in IDX_PARTS.items():
        images, labels = (
            _idx_file(folder, f"{prefix}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1")
        )
        if images and labels:
            found[part] = partial(_read_idx, images, labels)
        elif lone := images or labels:
            raise UserError(
                f"'{lone}' has no {'labels' if images else 'images'} beside it",
                hint=f"a split needs {prefix}-images-idx3-ubyte and {prefix}-labels-idx1-ubyte",
            )
    if not found:
        raise UserError(
            f"no IDX files in '{argument}'",
            hint="expected for example t10k-images-idx3-ubyte.gz and t10k-labels-idx1-ubyte.gz",
        )
    return found


def fashion_mnist(argument: str) -> SplitReaders:
    """``fashion-mnist:DIR``: the four official .gz files, checked by sha256, or the two of one split.

    >>> fashion_mnist("")
    Traceback (most recent call last):
    secateur.errors.UserError: the dataset 'fashion-mnist' needs a folder (write 'fashion-mnist:DIR')
    """
    folder = directory(argument, "fashion-mnist")
    parts = idx(argument)
    for name, expected in FASHION_SHA256.items():
        if (folder / name).is_file() and file_sha256(folder / name) != expected:
            raise UserError(f"'{folder / name}' is not the official file", hint="download it again")
    # The published hashes are those of the .gz files.
    if unknown := [path.name for path in sorted(folder.glob("*-ubyte"))]:
        raise UserError(
            f"'{unknown[0]}' is unpacked and cannot be checked against the official file", hint="keep the .gz"
        )
    return {part: partial(_with_classes, read, "fashion-mnist", FASHION) for part, read in parts.items()}


def _with_classes(read: Callable[[], Dataset], name: str, classes: tuple[str, ...]) -> Dataset:
    return replace(read(), name=name, classes=classes)


def _idx_file(folder: Path, stem: str) -> Path | None:
    for name in (stem, f"{stem}.gz"):
        if (folder / name).is_file():
            return folder / name
    return None


def _read_idx(images: Path, labels: Path) -> Dataset:
    pixels, y = _idx_array(images, 3), _idx_array(labels, 1)
    if pixels.shape[0] != y.shape[0]:
        raise UserError(f"'{images}' holds {pixels.shape[0]} images, but '{labels}' {y.shape[0]} labels")
    classes = tuple(str(label) for label in range(max(10, int(y.max(initial=0)) + 1)))
    return from_pixels(images.parent.name, pixels[:, None], y, classes)


def _idx_array(path: Path, ndim: int) -> np.ndarray:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            return _read_array(stream, ndim, path)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"'{path}' cannot be read: {error}", hint="download it again") from error


def _up_to(size: int, stream: gzip.GzipFile | IO[bytes]) -> bytearray:
    # A single read would make room for all that is promised.
    body = bytearray()
    while len(body) < size and (chunk := stream.read(min(CHUNK, size - len(body)))):
        body += chunk
    return body


def _read_array(stream: gzip.GzipFile | IO[bytes], ndim: int, path: Path) -> np.ndarray:
    header = stream.read(4 + 4 * ndim)
    if header[:4] != bytes([0, 0, 8, ndim]) or len(header) < 4 + 4 * ndim:
        raise UserError(
            f"'{path}' is not an IDX file of {ndim}-dimensional bytes", hint="is it the right file?"
        )
    shape = np.frombuffer(header, ">u4", offset=4).tolist()
    promised = math.prod(shape)
    # Never more than the header promises, and one byte to see that there is more: it may unpack without end.
    body = _up_to(min(promised, MAX_BYTES) + 1, stream)
    if len(body) > MAX_BYTES:
        raise UserError(f"'{path}' unpacks to more than {MAX_BYTES // 2**20} MiB and is refused")
    if len(body) != promised:
        has = "more" if len(body) > promised else f"{len(body)}"
        raise UserError(
            f"'{path}' is damaged: its header promises {promised} bytes, it has {has}",
            hint="download it again",
        )
    return np.frombuffer(body, np.uint8).reshape(shape)
