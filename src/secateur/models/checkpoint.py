"""Weights from files that may be damaged or hostile: strict, and no pickle ever runs."""

import json
import pickle
import re
import stat
import struct
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from secateur.errors import UserError
from secateur.hashing import file_sha256
from secateur.models.normalisation import unwrapped
from secateur.text import first_few, first_line

MAX_BYTES = 8 * 2**30
MAX_TENSORS = 20_000
MAX_HEADER = 16 * 2**20
# What the readers of torch, zipfile and safetensors were seen to raise on damaged bytes.
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
WRAPPERS = ("state_dict", "model_state_dict")
# What DataParallel, wrappers and Sequential put before every name.
WRAPPED = re.compile(r"(module|model|[0-9]+)\.")
# The pickle that opens a file of torch before 1.6: protocol 2, then torch's magic number.
LEGACY = bytes.fromhex("80028a0a6cfc9c46f9206aa85019")


@dataclass(frozen=True)
class Loaded:
    """What was loaded: the file's sha256, and one sentence for each thing that was adapted on the way."""

    path: Path
    sha256: str
    notes: tuple[str, ...]


def load_weights(model: nn.Module, path: Path | str, *, sha256: str | None = None) -> Loaded:
    """Load a state dict into ``model``, strictly: every tensor of the model, with its shape, and no other.

    Reads .safetensors and weights-only .pt, .pth, .th. Accepts the dict itself or one under ``state_dict`` or
    ``model_state_dict``, and keys that all start with ``module.``, ``model.`` or the index of a Sequential.
    Half and double precision become the model's. Counters of batches may be missing; constants of the
    architecture, such as statistics of the input, may be there if they agree. Of a ``Normalised`` model the
    network inside is loaded. On an error the model is unchanged.

    Args:
        model: a network of the architecture that the weights belong to.
        path: the file.
        sha256: the file's expected hash, if known.

    Raises:
        UserError: the file is missing, damaged, too large, of unknown format, not the one with that hash,
            would need code to be run, or does not fit the model.
    """
    model, file = unwrapped(model), _regular(Path(path))
    digest = file_sha256(file)
    if sha256 is not None and digest != sha256.lower():
        raise UserError(
            f"'{file}' is not the expected file: its sha256 is {digest[:16]}…, not {sha256[:16]}…",
            hint="download it again",
        )
    notes: list[str] = []
    state = _plain(_read(file), file, notes)
    model.load_state_dict(fit(model, state, str(file), notes), strict=True)
    return Loaded(file, digest, tuple(notes))


def fit(model: nn.Module, state: Mapping[str, Tensor], source: str, notes: list[str]) -> dict[str, Tensor]:
    """The tensors of ``state`` under the model's names and types, checked one by one.

    Raises:
        UserError: missing, unexpected, misshapen, non-finite or non-real tensors; at most five are listed.
    """
    wanted = model.state_dict()
    while prefix := _common_prefix(state, wanted):
        state = {key.removeprefix(prefix): tensor for key, tensor in state.items()}
        notes.append(f"the prefix '{prefix}' was removed from all names")
    counters = {
        key: wanted[key] for key in wanted if key.endswith("num_batches_tracked") and key not in state
    }
    if counters:
        notes.append(
            f"the file lacks {len(counters)} counters of batches (num_batches_tracked), left as they are"
        )
    missing = [key for key in wanted if key not in state and key not in counters]
    constants = {key: buffer for key, buffer in model.named_buffers() if key not in wanted}
    unexpected = [key for key in state if key not in wanted and key not in constants]
    if missing or unexpected:
        said = [
            f"{kind} {_listed(keys)}"
            for kind, keys in (("lacks", missing), ("has unknown", unexpected))
            if keys
        ]
        raise UserError(
            f"'{source}' does not fit the model: it {' and '.join(said)}", hint="is it another model?"
        )
    state = _without_constants(state, constants, source)
    wrong = [key for key, tensor in state.items() if tensor.shape != wanted[key].shape]
    if wrong:
        key = wrong[0]
        raise UserError(
            f"'{source}' does not fit the model: '{key}' has shape {list(state[key].shape)}, "
            f"the model needs {list(wanted[key].shape)}",
            hint="another number of classes, channels or another width?",
        )
    cast = {str(tensor.dtype) for key, tensor in state.items() if _checked(key, tensor, wanted[key], source)}
    notes += [f"weights were converted from {dtype}" for dtype in sorted(cast)]
    return counters | {key: tensor.to(wanted[key].dtype) for key, tensor in state.items()}


def _common_prefix(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """A wrapper's name that all keys of ``state`` start with, and the model's do not; "" if there is none."""
    if found := WRAPPED.match(next(iter(state), "")):
        prefix = found.group()
        if all(key.startswith(prefix) for key in state) and not all(key.startswith(prefix) for key in wanted):
            return prefix
    return ""


def _without_constants(
    state: Mapping[str, Tensor], constants: Mapping[str, Tensor], source: str
) -> dict[str, Tensor]:
    """Drop what the architecture itself fixes (the statistics of the input), if the file says the same."""
    for key, constant in constants.items():
        if key in state and not _same_values(state[key], constant):
            raise UserError(
                f"'{source}' does not fit the model: its '{key}' is not the architecture's",
                hint="was the network trained with another normalisation of its input?",
            )
    return {key: tensor for key, tensor in state.items() if key not in constants}


def _same_values(tensor: Tensor, constant: Tensor) -> bool:
    fits = tensor.numel() == constant.numel() and tensor.is_floating_point()
    return fits and torch.allclose(tensor.flatten().double(), constant.flatten().double(), atol=1e-4)


def _checked(key: str, tensor: Tensor, wanted: Tensor, source: str) -> bool:
    """Whether the tensor needs a conversion of its type, after checking that it is a usable one."""
    odd = tensor.is_quantized or tensor.is_complex() or tensor.is_meta or "float8" in str(tensor.dtype)
    if odd or tensor.layout != torch.strided:
        raise UserError(f"'{source}': '{key}' is of type {tensor.dtype}, which is not supported")
    if wanted.is_floating_point() != tensor.is_floating_point():
        raise UserError(f"'{source}': '{key}' is of type {tensor.dtype}, the model needs {wanted.dtype}")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise UserError(f"'{source}' is damaged: '{key}' claims more elements than the file holds")
    if not bool(torch.isfinite(tensor).all()):
        raise UserError(f"'{source}': '{key}' contains NaN or infinity", hint="the training has diverged")
    if key.endswith("running_var") and bool((tensor < 0).any()):
        raise UserError(f"'{source}': '{key}' contains a negative variance")
    return tensor.dtype != wanted.dtype


def _listed(keys: list[str]) -> str:
    return first_few([f"'{key}'" for key in keys])


def _regular(path: Path) -> Path:
    if not path.exists():
        raise UserError(f"there is no file '{path}'")
    if not stat.S_ISREG(path.stat().st_mode):
        raise UserError(f"'{path}' is not a regular file")
    if path.stat().st_size == 0:
        raise UserError(f"'{path}' is empty", hint="download or save it again")
    if path.stat().st_size > MAX_BYTES:
        raise UserError(f"'{path}' is larger than {MAX_BYTES // 2**30} GiB and is refused")
    return path


def _read(path: Path) -> Any:
    with path.open("rb") as stream:
        start = stream.read(512)
    if start.lstrip().lower().startswith((b"<!doctype", b"<html")):
        raise UserError(
            f"'{path}' is a web page, not a model", hint="the download was refused; fetch the file by hand"
        )
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if start[257:262] == b"ustar":
        raise UserError(f"'{path}' is a tar archive of an old torch", hint="save it as .safetensors")
    if start.startswith(b"PK"):
        _check_archive(path)
    elif not start.startswith(LEGACY):
        raise UserError(f"'{path}' is not a file of weights", hint=f"known formats: {', '.join(SUFFIXES)}")
    try:
        with warnings.catch_warnings():
            # Old files make torch warn about its own types.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"'{path}' holds more than weights, and reading it would run code",
            hint="save model.state_dict(), best as .safetensors",
        ) from error
    except DAMAGED as error:
        raise UserError(
            f"'{path}' is damaged: {_first_line(error)}", hint="download or save it again"
        ) from error


def _check_archive(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except DAMAGED as error:
        raise UserError(
            f"'{path}' is damaged: {_first_line(error)}", hint="download or save it again"
        ) from error
    names = [member.filename for member in members]
    if any(name.endswith("/constants.pkl") for name in names):
        raise UserError(
            f"'{path}' is a TorchScript program, not weights", hint="save model.state_dict() instead"
        )
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise UserError(f"'{path}' is compressed, as torch never saves it, and is refused")
    if len(set(names)) != len(names):
        raise UserError(f"'{path}' is damaged: it has two members of one name")
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
        raise UserError(
            f"'{path}' is damaged: {_first_line(error)}", hint="download or save it again"
        ) from error


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice in its header")
    return found


def _plain(loaded: object, path: Path, notes: list[str]) -> dict[str, Tensor]:
    """The state dict inside ``loaded``, unwrapped."""
    if isinstance(loaded, Mapping):
        for wrapper in WRAPPERS:
            if isinstance(loaded.get(wrapper), Mapping):
                loaded = loaded[wrapper]
                notes.append(f"the weights were taken from '{wrapper}'")
                break
    if not isinstance(loaded, Mapping) or not loaded:
        raise UserError(f"'{path}' holds no state dict", hint="save model.state_dict(), best as .safetensors")
    if strange := [str(key) for key, value in loaded.items() if not isinstance(value, Tensor)]:
        raise UserError(
            f"'{path}' holds no state dict: {_listed(strange)} are not tensors",
            hint="save model.state_dict(), best as .safetensors",
        )
    return {str(key): value for key, value in loaded.items()}


def _first_line(error: BaseException) -> str:
    return first_line(error, type(error).__name__)[:200]
