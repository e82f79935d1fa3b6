"""One spelling for every value, so that equal settings have equal hashes on every machine."""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

EXACT_INTEGERS = 2**53


def canonical(value: Any) -> Any:
    """``value`` as plain JSON data in one spelling.

    Keys become strings, tuples become lists, a float with an integer value becomes that integer (so ``1`` and
    ``1.0`` are the same setting), and infinity becomes ``"inf"`` or ``"-inf"``.

    Raises:
        ValueError: a NaN, or an object that is not plain data.
    """
    if isinstance(value, bool) or value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, Mapping):
        return {str(key): canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [canonical(item) for item in value]
    raise ValueError(f"{type(value).__name__} is not plain data")


def _number(value: float) -> float | int | str:
    if math.isnan(value):
        raise ValueError("NaN has no canonical spelling")
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return int(value) if value.is_integer() and abs(value) < EXACT_INTEGERS else value


def restore(value: Any) -> Any:
    """The inverse of :func:`canonical` for infinities: ``"inf"`` becomes a float again."""
    if isinstance(value, Mapping):
        return {key: restore(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [restore(item) for item in value]
    return float(value) if value in ("inf", "-inf") and isinstance(value, str) else value


def canonical_json(value: Any) -> str:
    """``value`` as canonical JSON: sorted keys, no spaces, shortest exact floats, UTF-8."""
    return json.dumps(
        canonical(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def digest(value: Any) -> str:
    """The sha256 of the canonical JSON of ``value``, in hex."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def derive_seed(*parts: Any) -> int:
    """A seed in [0, 2**63) from anything plain, so that no result depends on the order of work."""
    return int(digest(list(parts))[:16], 16) >> 1
