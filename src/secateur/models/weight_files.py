"""Read weight files that may be damaged or hostile: strict, and no pickle is ever executed."""

import json
import pickle
import stat
import struct
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from secateur.errors import UserError
from secateur.text import first_few, first_line

MAX_BYTES = 8 * 2**30
MAX_TENSORS = 20_000
MAX_HEADER = 16 * 2**20
# Exceptions observed when torch, zipfile and safetensors read damaged bytes.
DAMAGED = (
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    EOFError,
    ImportError,
    OSError,
    struct.error,
    zipfile.BadZipFile,
    safetensors.SafetensorError,
)
SUFFIXES = (".safetensors", ".pt", ".pth", ".th", ".ckpt", ".bin")
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network")
# First bytes of files before torch 1.6: pickle protocol 2, then torch's magic number.
LEGACY = bytes.fromhex("80028a0a6cfc9c46f9206aa85019")


def listed_keys(keys: list[str]) -> str:
    """At most five keys, quoted, and the number of the others."""
    return first_few([f"'{key}'" for key in keys])


def check_file(path: Path) -> Path:
    """``path``, if it is a regular file of an acceptable size.

    Raises:
        UserError: missing, empty, too large, or not a regular file.
    """
    if not path.exists():
        raise UserError(f"there is no file '{path}'")
    if not stat.S_ISREG(path.stat().st_mode):
        raise UserError(f"'{path}' is not a regular file")
    if path.stat().st_size == 0:
        raise UserError(f"'{path}' is empty", hint="download or save it again")
    if path.stat().st_size > MAX_BYTES:
        raise UserError(f"'{path}' is larger than {MAX_BYTES // 2**30} GiB and is refused")
    return path


def read_state_dict(path: Path, notes: list[str]) -> dict[str, Tensor]:
    """The state dict in a file; what was unwrapped is appended to ``notes``.

    Raises:
        UserError: damaged, hostile, of unknown format, or not a state dict.
    """
    loaded = _read(path)
    if isinstance(loaded, Mapping):
        dicts = [str(key) for key, value in loaded.items() if _is_state_dict(value)]
        if wrapper := next((name for name in WRAPPERS if name in dicts), None):
            loaded = loaded[wrapper]
            notes.append(f"the weights were taken from '{wrapper}'")
            if others := [name for name in dicts if name != wrapper]:
                notes.append(f"the file also holds {listed_keys(others)}, which was not read")
    if not isinstance(loaded, Mapping) or not loaded:
        raise UserError(f"'{path}' holds no state dict", hint="save model.state_dict(), best as .safetensors")
    if strange := [str(key) for key, value in loaded.items() if not isinstance(value, Tensor)]:
        raise UserError(
            f"'{path}' holds no state dict: {listed_keys(strange)} are not tensors",
            hint="save model.state_dict(), best as .safetensors",
        )
    return {str(key): value for key, value in loaded.items()}


def _is_state_dict(value: object) -> bool:
    return isinstance(value, Mapping) and any(isinstance(each, Tensor) for each in value.values())


def read_tensor(path: Path) -> Tensor:
    """The only tensor in a file.

    Raises:
        UserError: damaged, hostile, of unknown format, or not one tensor.
    """
    loaded = _read(check_file(path))
    found = [*loaded.values()] if isinstance(loaded, Mapping) else [loaded]
    if len(found) != 1 or not isinstance(found[0], Tensor):
        raise UserError(f"'{path}' does not hold one tensor", hint="save it alone: torch.save(tensor, path)")
    return found[0]


def _read(path: Path) -> Any:
    with path.open("rb") as stream:
        start = stream.read(512)
    # A refused download is often saved as its error page.
    if start.lstrip().lower().startswith((b"<!doctype", b"<html")):
        raise UserError(
            f"'{path}' is a web page, not a model", hint="the download was refused; fetch the file by hand"
        )
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if start[257:262] == b"ustar":
        raise UserError(
            f"'{path}' is a tar archive of an old PyTorch version", hint="save it as .safetensors"
        )
    if start.startswith(b"PK"):
        _check_archive(path)
    elif not start.startswith(LEGACY):
        raise UserError(f"'{path}' is not a weight file", hint=f"known formats: {', '.join(SUFFIXES)}")
    try:
        with warnings.catch_warnings():
            # torch warns about its own deprecated storage types in old files.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"'{path}' holds more than weights, and reading it would run code",
            hint="save model.state_dict(), best as .safetensors",
        ) from error
    except DAMAGED as error:
        raise _damaged(path, error) from error


def _check_archive(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except DAMAGED as error:
        raise _damaged(path, error) from error
    names = [member.filename for member in members]
    if any(name.endswith("/constants.pkl") for name in names):
        raise UserError(
            f"'{path}' is a TorchScript program, not weights", hint="save model.state_dict() instead"
        )
    # A compressed archive could expand to any size while torch reads it.
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise UserError(f"'{path}' is compressed, which torch.save never does, and is refused")
    # Readers disagree on which of two equal names counts.
    if len(set(names)) != len(names):
        raise UserError(f"'{path}' is damaged: it has two members of the same name")
    if len(members) > MAX_TENSORS or sum(member.file_size for member in members) > MAX_BYTES:
        raise UserError(
            f"'{path}' unpacks to more than is accepted ({MAX_TENSORS} tensors, {MAX_BYTES // 2**30} GiB)"
        )


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(8)
        length = int.from_bytes(head, "little")
        if len(head) < 8 or length > min(size - 8, MAX_HEADER):
            raise UserError(
                f"'{path}' is damaged: its header does not fit the file", hint="download or save it again"
            )
        header = stream.read(length)
    try:
        tensors = json.loads(header, object_pairs_hook=_no_duplicates)
        if len(tensors) > MAX_TENSORS:
            raise UserError(f"'{path}' names {len(tensors)} tensors; at most {MAX_TENSORS} are accepted")
        return safetensors.torch.load_file(path, device="cpu")
    except DAMAGED as error:
        raise _damaged(path, error) from error


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice in its header")
    return found


def _damaged(path: Path, error: BaseException) -> UserError:
    why = first_line(error, type(error).__name__)[:200]
    return UserError(f"'{path}' is damaged: {why}", hint="download or save it again")
