"""Where pixels may change, from a file: a picture, an array, or a tensor; nothing in it is executed."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from secateur.data.arrays import DAMAGED, refuse_false_claims
from secateur.data.images import read_image
from secateur.data.left_out import SUFFIXES
from secateur.errors import UserError
from secateur.models.weight_files import SUFFIXES as TENSORS
from secateur.models.weight_files import read_tensor
from secateur.text import listed
from secateur.untrusted import read_bounded

MAX_BYTES = 2**30


def read_mask(path: Path) -> Tensor:
    """A mask, bool of the shape in the file; a colour picture gives [3, H, W].

    Args:
        path: a picture in black and white, white where pixels may change; an array (.npy, or .npz with one
            array) or a tensor (.pt, .safetensors) that is bool, or holds 0 and one other number.

    Raises:
        UserError: no such file, another format, damaged or too large, or more values than two.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/m.npy", np.array([[0, 1], [0, 0]]))
    ...     read_mask(Path(folder) / "m.npy")
    tensor([[False,  True],
            [False, False]])
    """
    suffix = path.suffix.lower()
    known: dict[str, Callable[[Path], np.ndarray | Tensor]] = {".npy": _array, ".npz": _archive}
    known |= {**dict.fromkeys(SUFFIXES, _picture), **dict.fromkeys(TENSORS, read_tensor)}
    if suffix not in known:
        formats = (".npy", ".npz", ".png", ".pt", ".safetensors")
        raise UserError(f"'{path}' is no mask", hint=f"name a file that ends in {listed(formats, last='or')}")
    if not path.is_file():
        raise UserError(f"there is no file '{path}'", hint="a mask says where pixels may change")
    found = known[suffix](path)
    mask = found if isinstance(found, Tensor) else torch.from_numpy(np.array(found))
    others = torch.unique(mask[mask != 0])
    if mask.is_complex() or len(others) > 1:
        seen = "complex numbers" if mask.is_complex() else f"the values {_few(others)}"
        raise UserError(
            f"the mask '{path}' has {seen}",
            hint="give 0 where a pixel stays, and one other value, such as 1, where it may change",
        )
    return mask != 0


def _few(values: Tensor) -> str:
    shown = ", ".join(f"{value:g}" for value in values[:4].tolist())
    return f"{shown}, …" if len(values) > 4 else shown


def _picture(path: Path) -> np.ndarray:
    pixels = read_image(path)
    return pixels if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _array(path: Path) -> np.ndarray:
    try:
        found = np.load(io.BytesIO(read_bounded(path, MAX_BYTES)), allow_pickle=False)
        return np.array(found, dtype=found.dtype.newbyteorder("="))
    except DAMAGED as error:
        raise UserError(f"'{path}' cannot be read: {error}", hint="save a plain array of numbers") from error


def _archive(path: Path) -> np.ndarray:
    try:
        with zipfile.ZipFile(path) as archive:
            names = {member.filename.removesuffix(".npy"): member.file_size for member in archive.infolist()}
        if len(names) != 1 or sum(names.values()) > MAX_BYTES:
            raise ValueError(f"it holds {len(names)} arrays, not one of at most {MAX_BYTES // 2**20} MiB")
        refuse_false_claims(path, set(names))
        with np.load(path, allow_pickle=False) as arrays:
            found = arrays[next(iter(names))]
        return np.array(found, dtype=found.dtype.newbyteorder("="))
    except DAMAGED as error:
        raise UserError(
            f"'{path}' cannot be read: {error}", hint="save one plain array of numbers"
        ) from error
