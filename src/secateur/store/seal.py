"""The seal of a record: the hash of everything else in it, compared without writing the record again."""

import re
from collections.abc import Mapping
from typing import Any

from secateur.hashing import MAX_DEPTH, digest, sha256_hex

SEAL = re.compile(r"[0-9a-f]{64}")
_SPACES = b" \t\n\r"
_ALL_BUT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def seal_of(data: Mapping[str, Any]) -> str:
    """The hash of everything but the seal itself.

    >>> seal_of({"id": "ab", "self_hash": "old"}) == seal_of({"id": "ab"})
    True

    Raises:
        ValueError: ``data`` holds what has no canonical JSON.
    """
    return digest({key: value for key, value in data.items() if key != "self_hash"})


def is_sealed(raw: bytes, data: Mapping[str, Any]) -> bool:
    r"""Whether ``data``, parsed from the text ``raw``, is what its ``self_hash`` was computed from.

    Records are written in canonical spelling, only laid out for people. So the text without its layout is
    what was hashed, and no number has to be spelled again: that would take most of the time of reading. Where
    the text is spelled in another way, it is spelled again. The answer is the same: a text with the hash of
    the seal is the text that was sealed.

    >>> text = '{\n  "id": "ab",\n  "self_hash": "%s",\n  "stage": "tune"\n}'
    >>> data = {"id": "ab", "stage": "tune"}
    >>> data["self_hash"] = seal_of(data)
    >>> is_sealed((text % data["self_hash"]).encode(), data)
    True

    Raises:
        ValueError: ``data`` holds what has no canonical JSON.
    """
    seal = data.get("self_hash")
    if isinstance(seal, str) and SEAL.fullmatch(seal):
        plain = _without_layout(raw, seal)
        if plain is not None and sha256_hex(plain) == seal:
            return True
    return seal_of(data) == seal


def _without_layout(raw: bytes, seal: str) -> bytes | None:
    """The text without the seal's line and without spaces outside strings; None where that takes a parser."""
    # With these the ends of strings cannot be seen from the quotes alone.
    if b'\\"' in raw or b"\\\\" in raw:
        return None
    line = f'\n  "self_hash": "{seal}",\n'.encode()
    if raw.count(line) != 1:
        return None
    parts = raw.replace(line, b"\n").split(b'"')
    outside = [part.translate(None, _SPACES) for part in parts[::2]]
    if _depth(b"".join(outside)) > MAX_DEPTH:
        return None
    parts[::2] = outside
    return b'"'.join(parts)


def _depth(text: bytes) -> int:
    """The deepest nesting of brackets."""
    depth = deepest = 0
    for bracket in text.translate(None, _ALL_BUT_BRACKETS):
        depth += 1 if bracket in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest
