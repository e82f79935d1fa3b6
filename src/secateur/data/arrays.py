"""Images in array files: NumPy's .npz, and the .mat files of SVHN."""

import lzma
import math
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from secateur.data.dataset import MAX_CLASSES, Dataset
from secateur.data.idx_files import MAX_BYTES
from secateur.data.images import from_pixels
from secateur.data.loading import SplitReaders, directory, open_dataset
from secateur.data.npy_rows import array_header, array_rows, header_of
from secateur.data.parts import Blocks, Parts, SplitReader
from secateur.errors import UserError

KEYS = {
    "all": ("x", "y"),
    "train": ("x_train", "y_train"),
    "validation": ("x_val", "y_val"),
    "test": ("x_test", "y_test"),
}
"""The arrays of each split."""
ALSO_CALLED = {"valid": "val", "validation": "val"}
_HINT = "name the arrays x and y, or x_train, y_train, x_val, y_val, x_test, y_test"
# Exceptions observed when zipfile, NumPy and SciPy read damaged bytes.
DAMAGED = (
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    OverflowError,
    OSError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)
# Pictures of one colour are packed a thousand times smaller; so many of them are no data set.
MAX_RATIO = 100
LARGE = 2**30


def npz(argument: str, *, bounds: tuple[float, float] = (0.0, 1.0)) -> SplitReaders:
    """``npz:FILE``: arrays ``x`` and ``y``, or ``x_train`` and ``y_train``, likewise ``_val`` and ``_test``.

    One split is enough; ``valid`` and ``validation`` are read as ``val``. Images are [N, H, W], [N, H, W, C]
    or [N, C, H, W] with 1 or 3 channels: uint8, uint16 or floating point within ``bounds`` (no grey levels).
    Tables [N, F] and volumes [N, C, D, H, W] keep their shape. An array ``classes`` may name the
    classes; otherwise the largest label of any split determines their number.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/d.npz", x=np.zeros((3, 8, 8), np.uint8), y=np.array([0, 1, 2]))
    ...     npz(f"{folder}/d.npz")["all"]().shape
    (1, 8, 8)
    """
    path = Path(argument)
    if not path.is_file():
        raise UserError(f"there is no file '{argument}'", hint="write 'npz:FILE'")
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {member.filename.removesuffix(".npy"): member.file_size for member in archive.infolist()}
    except DAMAGED as error:
        raise UserError(f"'{path}' is not a readable .npz file: {error}") from error
    if sum(sizes.values()) > max(LARGE, MAX_RATIO * path.stat().st_size):
        raise UserError(f"'{path}' unpacks to more than {MAX_RATIO} times its size and is refused")
    pairs = _pairs(path, list(sizes))
    # The number of classes must be the same in every split, so each reader sees the labels of all.
    every = [labels for _, labels in pairs.values()]
    return {
        part: SplitReader(
            partial(_read_npz, path, *keys, every, bounds=bounds),
            partial(_npz_parts, path, *keys, every, bounds=bounds),
        )
        for part, keys in pairs.items()
    }


def svhn(argument: str) -> SplitReaders:
    """``svhn:DIR``: ``train_32x32.mat`` and ``test_32x32.mat`` (Netzer et al. 2011), or one of them.

    >>> svhn(".")
    Traceback (most recent call last):
    secateur.errors.UserError: no SVHN files in '.' (download ...)
    """
    folder = directory(argument, "svhn")
    files = {part: folder / f"{part}_32x32.mat" for part in ("train", "test")}
    found = {part: partial(_read_svhn, path) for part, path in files.items() if path.is_file()}
    if not found:
        raise UserError(
            f"no SVHN files in '{argument}'",
            hint="download train_32x32.mat and test_32x32.mat from http://ufldl.stanford.edu/housenumbers/",
        )
    return found


def save_npz(spec: str, path: Path | str, *, resize: int | Sequence[int] | None = None) -> None:
    """Write a dataset of 8-bit or 16-bit images as one .npz file, which loads faster than a folder of images.

    ``npz:PATH`` then has the same splits, images, labels and fingerprints as ``spec``, scaled to ``resize``.

    Raises:
        UserError: as for ``load``, or images without 256 or 65 536 grey levels.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/a.npz", x=np.zeros((3, 8, 8), np.uint8), y=np.array([0, 1, 2]))
    ...     save_npz(f"npz:{folder}/a.npz", f"{folder}/b.npz", resize=4)
    ...     npz(f"{folder}/b.npz")["all"]().shape
    (1, 4, 4)
    """
    arrays: dict[str, Any] = {}
    for part, read in open_dataset(spec, resize=resize).items():
        dataset = read()
        if dataset.levels not in (256, 65_536):
            raise UserError(f"'{spec}' has no 8-bit or 16-bit images, which save_npz needs")
        x, y = KEYS[part]
        grey = dataset.x.mul(dataset.levels - 1).round().to(torch.int32).numpy()
        arrays[x] = grey.astype(np.uint8 if dataset.levels == 256 else np.uint16)
        arrays[y] = dataset.y.numpy()
        arrays["classes"] = np.array(dataset.classes)
    np.savez(path, **arrays)


def _pairs(path: Path, names: list[str]) -> dict[str, tuple[str, str]]:
    """The names of the image and label arrays of each split.

    Raises:
        UserError: none, or an array of an unknown split, present twice, or without its counterpart.
    """
    found: dict[str, dict[str, str]] = {}
    part_of = {key: (part, keys.index(key)) for part, keys in KEYS.items() for key in keys}
    for name in names:
        kind, _, word = name.partition("_")
        usual = f"{kind}_{ALSO_CALLED.get(word, word)}" if word else kind
        if usual in part_of:
            part, kind_index = part_of[usual]
            if "xy"[kind_index] in found.setdefault(part, {}):
                raise UserError(f"'{path}' has '{found[part][kind]}' and '{name}', which are the same split")
            found[part]["xy"[kind_index]] = name
        elif kind in ("x", "y"):
            raise UserError(f"'{path}' has an array '{name}' of an unknown split", hint=_HINT)
    for pair in found.values():
        if len(pair) == 1:
            ((kind, name),) = pair.items()
            raise UserError(
                f"'{path}' has '{name}', but not the {'labels' if kind == 'x' else 'images'} of that split",
                hint=_HINT,
            )
    if not found:
        raise UserError(f"'{path}' has neither x and y nor x_train, y_train, x_test, y_test", hint=_HINT)
    if "all" in found and len(found) > 1:
        raise UserError(f"'{path}' has 'x' beside arrays of splits: ambiguous", hint=_HINT)
    return {part: (found[part]["x"], found[part]["y"]) for part in KEYS if part in found}


def _read_npz(path: Path, x: str, y: str, every: list[str], *, bounds: tuple[float, float]) -> Dataset:
    """The split with the arrays ``x`` and ``y``; ``every`` names the label arrays of all splits."""
    with zipfile.ZipFile(path) as archive:
        if sum(member.file_size for member in archive.infolist()) > 4 * MAX_BYTES:
            raise UserError(f"'{path}' unpacks to more than {4 * MAX_BYTES // 2**30} GiB and is refused")
    try:
        refuse_false_claims(path, {x, y, *every, "classes"})
        with np.load(path, allow_pickle=False) as arrays:
            images, labels = arrays[x], arrays[y]
            names, others = _names_and_labels(arrays, every)
    except DAMAGED as error:
        raise _unreadable(path, error) from error
    classes = _classes(path, y, labels, names, others)
    pixels = _channels_first(images, path, x)
    if images.dtype not in (np.uint8, np.uint16) and images.dtype.kind != "f":
        raise UserError(f"'{path}': '{x}' is {images.dtype}; expected uint8, uint16 or floating point")
    return from_pixels(path.stem, pixels, labels, classes, bounds=bounds)


def _npz_parts(
    path: Path, x: str, y: str, every: list[str], most: int, *, bounds: tuple[float, float]
) -> Parts | None:
    """The split as parts; None where it is small, or no plain array of rows one after another."""
    try:
        refuse_false_claims(path, {x, y, *every, "classes"})
        header = array_header(path, x)
        wrong = header.dtype not in (np.uint8, np.uint16) and header.dtype.kind != "f"
        if wrong or header.fortran or 4 * math.prod(header.shape) <= most:
            return None
        with np.load(path, allow_pickle=False) as arrays:
            labels = arrays[y]
            names, others = _names_and_labels(arrays, every)
    except DAMAGED as error:
        raise _unreadable(path, error) from error
    classes = _classes(path, y, labels, names, others)
    if len(labels) != header.shape[0]:
        raise UserError(f"'{path}' has {header.shape[0]} images in '{x}' and {len(labels)} labels in '{y}'")

    def read(blocks: Blocks) -> Iterator[Dataset]:
        try:
            for places, rows in array_rows(path, x, blocks):
                pixels = _channels_first(rows, path, x)
                yield from_pixels(path.stem, pixels, labels[places], classes, bounds=bounds)
                del rows, pixels
        except DAMAGED as error:
            raise _unreadable(path, error) from error

    like = next(read([[0]]))
    return Parts(like, torch.from_numpy(labels.astype(np.int64)), read, torch.arange(len(labels)))


def _names_and_labels(arrays: Any, every: list[str]) -> tuple[np.ndarray | None, list[np.ndarray]]:
    """The names of the classes, or else the labels of all splits, of which the largest is their number."""
    names = arrays.get("classes")
    return names, [arrays[other] for other in every] if names is None else []


def _unreadable(path: Path, error: Exception) -> UserError:
    pickled = "allow_pickle" in str(error)
    reason = "an object array needs pickle, which would execute code" if pickled else str(error)
    return UserError(f"'{path}' cannot be read: {reason}", hint="save plain numeric arrays")


def _classes(
    path: Path, y: str, labels: np.ndarray, names: np.ndarray | None, others: list[np.ndarray]
) -> tuple[str, ...]:
    """The names of the classes, once the labels are found to be labels."""
    if labels.shape == (0,):
        raise UserError(f"'{path}': '{y}' holds no labels")
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise UserError(
            f"'{path}': '{y}' must be one-dimensional integers, not {labels.dtype} {list(labels.shape)}"
        )
    largest = max(int(other.max()) for other in (labels, *others) if other.dtype.kind in "iu" and other.size)
    if largest >= MAX_CLASSES:
        raise UserError(
            f"'{path}': the largest label is {largest}; labels must be below {MAX_CLASSES}",
            hint="number the classes from 0",
        )
    if names is not None and (names.ndim != 1 or names.size > MAX_CLASSES):
        raise UserError(
            f"'{path}': 'classes' must be one-dimensional, with at most {MAX_CLASSES} names, "
            f"not of shape {list(names.shape)}"
        )
    return tuple(map(str, names if names is not None else range(largest + 1)))


def refuse_false_claims(path: Path, names: set[str]) -> None:
    """Raise ValueError where the header of an array names other numbers of bytes than there are.

    NumPy would make room for what the header says before it reads.
    """
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if name not in names:
                continue
            with archive.open(member) as stream:
                header = header_of(stream)
                claimed = math.prod(header.shape) * header.dtype.itemsize
                has = member.file_size - stream.tell()
            if claimed != has and not header.dtype.hasobject:
                raise ValueError(f"the header of '{name}' promises {claimed:,} bytes, it has {has:,}")


def _channels_first(images: np.ndarray, path: Path, key: str) -> np.ndarray:
    if images.ndim == 3:
        return images[:, None]
    if images.ndim == 4 and images.shape[3] in (1, 3) and images.shape[1] not in (1, 3):
        return images.transpose(0, 3, 1, 2)
    if images.ndim in (2, 5) or (images.ndim == 4 and images.shape[1] in (1, 3)):
        return images
    raise UserError(
        f"'{path}': '{key}' of shape {list(images.shape)} is not a batch of images with 1 or 3 channels, "
        "a table [N, F] or a volume [N, C, D, H, W]",
        hint="an alpha channel that is opaque everywhere can be left out, as in x[..., :3]"
        if images.ndim == 4 and 4 in images.shape[1::2]
        else "",
    )


def _read_svhn(path: Path) -> Dataset:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        content: Mapping[str, np.ndarray] = loadmat(path, variable_names=["X", "y"])
        images, labels = content["X"], content["y"].ravel()
    except (*DAMAGED, MatReadError) as error:
        raise UserError(f"'{path}' is not a readable SVHN file: {error}", hint="download it again") from error
    if images.dtype != np.uint8 or images.shape != (32, 32, 3, labels.size):
        raise UserError(
            f"'{path}' is not the SVHN file of cropped digits: X is {images.dtype} {list(images.shape)}"
        )
    # The files label the digit 0 as 10.
    return from_pixels("svhn", images.transpose(3, 2, 0, 1), labels % 10, tuple(map(str, range(10))))
