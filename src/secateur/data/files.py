"""Images in files: IDX (the layout of MNIST) and one folder of pictures per class."""

import gzip
import hashlib
import warnings
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from secateur.data.dataset import Dataset
from secateur.data.sources import Parts, directory
from secateur.errors import UserError

IDX_PARTS = {"train": "train", "test": "t10k"}
FOLDER_PARTS = ("train", "test")
SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp"}
MAX_BYTES = 2**31
MAX_PIXELS = 2**24
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


def idx(argument: str) -> Parts:
    """``idx:DIR``: ``{train,t10k}-{images-idx3,labels-idx1}-ubyte`` in DIR, each plain or gzipped.

    One of the two parts is enough.
    """
    folder = directory(argument, "idx")
    found = {}
    for part, prefix in IDX_PARTS.items():
        images, labels = (
            _idx_file(folder, f"{prefix}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1")
        )
        if images and labels:
            found[part] = partial(_read_idx, images, labels)
    if not found:
        raise UserError(
            f"no IDX files in '{argument}'",
            hint="expected for example t10k-images-idx3-ubyte.gz and t10k-labels-idx1-ubyte.gz",
        )
    return found


def fashion_mnist(argument: str) -> Parts:
    """``fashion-mnist:DIR``: the four official .gz files, whose sha256 are known, or the two of one part."""
    folder = directory(argument, "fashion-mnist")
    parts = idx(argument)
    for name, expected in FASHION_SHA256.items():
        if (folder / name).is_file() and sha256_of(folder / name) != expected:
            raise UserError(f"'{folder / name}' is not the official file", hint="download it again")
    if unknown := [path.name for path in sorted(folder.glob("*-ubyte"))]:
        raise UserError(
            f"'{unknown[0]}' is unpacked, and cannot be compared with the official file", hint="keep .gz"
        )
    return {part: partial(_with_classes, read, "fashion-mnist", FASHION) for part, read in parts.items()}


def folder(argument: str) -> Parts:
    """``folder:DIR``: one sub-folder of pictures per class, or ``train`` and ``test`` folders of such.

    Classes are in alphabetical order. All pictures must have one size; grey pictures give one channel, colour
    three (if any picture has colour, all are read as colour). Within a class the order follows the decoded
    pixels, so renaming files changes nothing.
    """
    root = directory(argument, "folder")
    parts = [part for part in FOLDER_PARTS if (root / part).is_dir()]
    if not parts:
        return {"all": partial(_read_folder, root)}
    return {part: partial(_read_folder, root / part) for part in parts}


def sha256_of(path: Path) -> str:
    """sha256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


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
    return from_bytes(images.parent.name, pixels[:, None], y, classes)


def _idx_array(path: Path, ndim: int) -> np.ndarray:
    content = _unpacked(path)
    if content[:4] != bytes([0, 0, 8, ndim]) or len(content) < 4 + 4 * ndim:
        raise UserError(
            f"'{path}' is not an IDX file of {ndim}-dimensional bytes", hint="is it the right file?"
        )
    shape = np.frombuffer(content, ">u4", count=ndim, offset=4).astype(np.int64)
    body = len(content) - 4 - 4 * ndim
    if body != int(np.prod(shape)):
        raise UserError(
            f"'{path}' is damaged: its header promises {int(np.prod(shape))} bytes, it has {body}",
            hint="download it again",
        )
    return np.frombuffer(content, np.uint8, offset=4 + 4 * ndim).reshape(shape)


def _unpacked(path: Path) -> bytes:
    try:
        if path.suffix != ".gz":
            content = path.read_bytes()
        else:
            with gzip.open(path) as stream:
                content = stream.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"'{path}' cannot be read: {error}", hint="download it again") from error
    if len(content) > MAX_BYTES:
        raise UserError(f"'{path}' unpacks to more than {MAX_BYTES // 2**20} MiB and is refused")
    return content


def _read_folder(root: Path) -> Dataset:
    classes = sorted(
        entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")
    )
    if not classes:
        raise UserError(f"'{root}' has no sub-folders", hint="one sub-folder of images per class is expected")
    pictures: list[np.ndarray] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        images = [
            _picture(path) for path in sorted((root / name).iterdir()) if path.suffix.lower() in SUFFIXES
        ]
        if not images:
            raise UserError(
                f"class folder '{root / name}' has no images", hint="remove it, or add its images"
            )
        pictures += sorted(images, key=lambda image: hashlib.sha256(image.tobytes()).digest())
        labels += [label] * len(images)
    if any(image.ndim == 3 for image in pictures):
        pictures = [image if image.ndim == 3 else np.stack([image] * 3, axis=2) for image in pictures]
    sizes = {image.shape for image in pictures}
    if len(sizes) > 1:
        first, second = sorted(sizes)[:2]
        raise UserError(
            f"images of different sizes in '{root}': {first[1]}x{first[0]} and {second[1]}x{second[0]}",
            hint="scale them to one size first",
        )
    stacked = np.stack(pictures)
    pixels = stacked[:, None] if stacked.ndim == 3 else stacked.transpose(0, 3, 1, 2)
    return from_bytes(root.name, pixels, np.asarray(labels), tuple(classes))


def _picture(path: Path) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            # Pillow warns about odd metadata, and about sizes that are refused here.
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise ValueError(f"it has {image.width}x{image.height} pixels")
                grey = image.mode in {"1", "L", "LA"}
                return np.asarray(image.convert("L" if grey else "RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"'{path}' is not a readable image: {error}", hint="remove or repair it") from error


def from_bytes(name: str, pixels: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> Dataset:
    """A dataset from 8-bit images [N, C, H, W] and integer labels [N]."""
    # In the order of the dimensions, however the pixels lay in the file.
    x = torch.from_numpy(np.ascontiguousarray(pixels, dtype=np.float32)).div_(255)
    return Dataset(name, x, torch.from_numpy(labels.astype(np.int64)), classes, levels=256)
