"""Images in array files: NumPy's .npz, and the .mat files of SVHN."""

import zipfile
import zlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from secateur.data.dataset import Dataset
from secateur.data.files import MAX_BYTES, from_bytes
from secateur.data.sources import Parts, directory, open_source
from secateur.errors import UserError

KEYS = {"all": ("x", "y"), "train": ("x_train", "y_train"), "test": ("x_test", "y_test")}
# What zipfile, NumPy and SciPy were seen to raise on damaged bytes.
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
)


def npz(argument: str) -> Parts:
    """``npz:FILE``: arrays ``x`` and ``y``, or ``x_train``, ``y_train``, ``x_test``, ``y_test``.

    Images are [N, H, W], [N, H, W, C] or [N, C, H, W] with 1 or 3 channels, uint8 or floating point in [0, 1]
    (then without grey levels). An array ``classes`` may name the classes.
    """
    path = Path(argument)
    if not path.is_file():
        raise UserError(f"there is no file '{argument}'", hint="write 'npz:FILE'")
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {member.filename.removesuffix(".npy"): member.file_size for member in archive.infolist()}
    except DAMAGED as error:
        raise UserError(f"'{path}' is not a readable .npz file: {error}") from error
    if sum(sizes.values()) > 4 * MAX_BYTES:
        raise UserError(f"'{path}' unpacks to more than {4 * MAX_BYTES // 2**30} GiB and is refused")
    found = {part: partial(_read_npz, path, *keys) for part, keys in KEYS.items() if set(keys) <= set(sizes)}
    if not found:
        raise UserError(f"'{path}' has neither x and y nor x_train, y_train, x_test, y_test")
    return found


def svhn(argument: str) -> Parts:
    """``svhn:DIR``: ``train_32x32.mat`` and ``test_32x32.mat`` (Netzer et al. 2011), or one of them."""
    folder = directory(argument, "svhn")
    files = {part: folder / f"{part}_32x32.mat" for part in ("train", "test")}
    found = {part: partial(_read_svhn, path) for part, path in files.items() if path.is_file()}
    if not found:
        raise UserError(
            f"no SVHN files in '{argument}'",
            hint="download train_32x32.mat and test_32x32.mat from http://ufldl.stanford.edu/housenumbers/",
        )
    return found


def pack(spec: str, path: Path | str) -> None:
    """Write a dataset of 8-bit images as one .npz file, which is read faster than a folder of pictures.

    ``npz:PATH`` then has the same parts, images, labels and fingerprints as ``spec``.

    Raises:
        UserError: as ``load``, or the images do not have 256 grey levels.
    """
    arrays: dict[str, Any] = {}
    for part, read in open_source(spec).items():
        dataset = read()
        if dataset.levels != 256:
            raise UserError(f"'{spec}' has no 8-bit images, and is not packed")
        x, y = KEYS[part]
        arrays[x] = dataset.x.mul(255).round().to(torch.uint8).numpy()
        arrays[y] = dataset.y.numpy()
        arrays["classes"] = np.array(dataset.classes)
    np.savez(path, **arrays)


def _read_npz(path: Path, x: str, y: str) -> Dataset:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            images, labels = arrays[x], arrays[y]
            names = arrays.get("classes")
    except DAMAGED as error:
        pickled = "allow_pickle" in str(error)
        reason = "an array of objects needs pickle, which would run code" if pickled else str(error)
        raise UserError(f"'{path}' cannot be read: {reason}", hint="save plain numeric arrays") from error
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or len(labels) == 0:
        raise UserError(f"'{path}': '{y}' must be a row of integers, not {labels.dtype} {list(labels.shape)}")
    classes = tuple(map(str, names)) if names is not None else tuple(map(str, range(int(labels.max()) + 1)))
    pixels = _channels_first(images, path, x)
    if images.dtype == np.uint8:
        return from_bytes(path.stem, pixels, labels, classes)
    if images.dtype.kind != "f":
        raise UserError(f"'{path}': '{x}' is {images.dtype}; 8-bit or floating-point images are read")
    tensor = torch.from_numpy(np.ascontiguousarray(pixels, dtype=np.float32))
    return Dataset(path.stem, tensor, torch.from_numpy(labels.astype(np.int64)), classes, levels=None)


def _channels_first(images: np.ndarray, path: Path, key: str) -> np.ndarray:
    if images.ndim == 3:
        return images[:, None]
    if images.ndim == 4 and images.shape[3] in (1, 3):
        return images.transpose(0, 3, 1, 2)
    if images.ndim == 4 and images.shape[1] in (1, 3):
        return images
    raise UserError(f"'{path}': '{key}' of shape {list(images.shape)} is no row of images of 1 or 3 channels")


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
    # The files call the digit 0 "10".
    return from_bytes("svhn", images.transpose(3, 2, 0, 1), labels % 10, tuple(map(str, range(10))))
