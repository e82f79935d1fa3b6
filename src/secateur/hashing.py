"""Digests and seeds: of bytes, files, tensors and settings, each spelled in one way on every machine."""

import json
import math
from collections.abc import Mapping, Sequence
from hashlib import file_digest, sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Generator, Tensor

EXACT_INTEGERS = 2**53
MAX_DEPTH = 64
_AS_THEY_ARE = frozenset({bool, int, str, type(None)})
_NUMBERS = frozenset({bool, int, float, type(None)})


def sha256_hex(content: bytes | str) -> str:
    """The sha256 of bytes, or of a text in UTF-8, in hex.

    >>> sha256_hex("")[:16]
    'e3b0c44298fc1c14'
    """
    return sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def file_sha256(path: Path) -> str:
    """The sha256 of a file's bytes in hex."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def tensors_sha256(
    tensors: Mapping[str, "Tensor"],
    *,
    header: bytes = b"",
    shape: type[list[int]] | type[tuple[int, ...]] = list,
) -> str:
    """sha256 over ``header``, then (name, dtype, shape, little-endian bytes) of the tensors, sorted by name.

    Device and memory format do not enter. ``shape`` is the type whose text stands for the shape.
    """
    import torch

    hasher = sha256(header)
    for name, tensor in sorted(tensors.items(), key=lambda item: item[0]):
        plain = tensor.detach().cpu().contiguous()
        hasher.update(f"{name} {plain.dtype} {shape(plain.shape)}\n".encode())
        hasher.update(plain.flatten().view(torch.uint8).numpy().tobytes() if plain.numel() else b"")
    return hasher.hexdigest()


def json_sha256(value: Any) -> str:
    """The sha256 of plain data in the spelling of ``json.dumps`` with sorted keys, where 1 and 1.0 differ."""
    return sha256_hex(json.dumps(value, sort_keys=True))


def canonical(value: Any, depth: int = 0) -> Any:
    """``value`` as plain JSON data in one spelling.

    Keys become strings, tuples become lists, a float with an integer value becomes that integer (so ``1`` and
    ``1.0`` are the same setting), and infinity becomes ``"inf"`` or ``"-inf"``.

    Raises:
        ValueError: a NaN, an object that is not plain data, or more than 64 lists and mappings in each other.
    """
    if depth > MAX_DEPTH:
        raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels")
    # By exact type first: a record has thousands of numbers, and isinstance asks each of them several times.
    kind = type(value)
    if kind in _AS_THEY_ARE:
        return value
    if kind is float:
        return _number(value)
    if kind is dict and depth < MAX_DEPTH:
        return {
            str(key): _number(item) if type(item) is float else canonical(item, depth + 1)
            for key, item in value.items()
        }
    if kind is list or kind is tuple:
        return _list(value, depth)
    return _subclass(value, depth)


def _list(values: Sequence[Any], depth: int) -> list[Any]:
    kinds = set(map(type, values)) if depth < MAX_DEPTH else {object}
    if kinds <= _AS_THEY_ARE:
        return list(values)
    if kinds == {float} and not any(map(float.is_integer, values)) and all(map(math.isfinite, values)):
        return list(values)
    return [canonical(item, depth + 1) for item in values]


def _subclass(value: Any, depth: int) -> Any:
    if isinstance(value, str | int):
        return value
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, Mapping):
        return {str(key): canonical(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return _list(value, depth)
    raise ValueError(f"{type(value).__name__} is not plain data")


def _number(value: float) -> float | int | str:
    if value.is_integer():
        return int(value) if abs(value) < EXACT_INTEGERS else value
    if math.isfinite(value):
        return value
    if math.isnan(value):
        raise ValueError("NaN has no canonical spelling")
    return "inf" if value > 0 else "-inf"


def restore(value: Any) -> Any:
    """The inverse of :func:`canonical` for infinities: ``"inf"`` becomes a float again."""
    kind = type(value)
    if kind in _NUMBERS:
        return value
    if kind is dict or isinstance(value, Mapping):
        return {key: item if type(item) in _NUMBERS else restore(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [restore(item) for item in value]
    return float(value) if value in ("inf", "-inf") and isinstance(value, str) else value


def canonical_json(value: Any) -> str:
    """``value`` as canonical JSON: sorted keys, no spaces, shortest exact floats, UTF-8."""
    return _encode(canonical(value))


# Made once: json.dumps makes one at every call.
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


def digest(value: Any) -> str:
    """The sha256 of the canonical JSON of ``value``, in hex.

    >>> digest({"eps": 1.0}) == digest({"eps": 1})
    True
    """
    return sha256_hex(canonical_json(value))


def derive_seed(*parts: Any) -> int:
    """A seed in [0, 2**63) from anything plain, so that no result depends on the order of work.

    >>> derive_seed(0, "attack") == derive_seed(0, "train")
    False
    """
    return int(digest(list(parts))[:16], 16) >> 1


def stream(seed: int, *purpose: str | int) -> "Generator":
    """A CPU generator of random numbers for one purpose, such as ``stream(seed, "order", epoch)``.

    A stream per purpose and epoch needs no saved state: a resumed training derives the same streams.

    >>> stream(0, "order", 1).initial_seed() == stream(0, "order", 2).initial_seed()
    False
    """
    import torch

    text = "/".join(str(part) for part in (seed, *purpose))
    return torch.Generator().manual_seed(int.from_bytes(sha256(text.encode()).digest()[:8], "little") >> 1)
