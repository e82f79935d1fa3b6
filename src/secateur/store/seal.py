"""The seal of a record: the hash of everything else in it, compared without writing the record again."""

import re
from array import array
from collections.abc import Mapping
from itertools import accumulate
from typing import Any

from secateur.hashing import MAX_DEPTH, canonical, digest, sha256_hex
from secateur.store.files import object_of, spelled

SEAL = re.compile(r"[0-9a-f]{64}")
_SPACES = b" \t\n\r"
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")  # one deeper, or one up again, as signed bytes
_ALL_BUT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def seal_of(data: Mapping[str, Any]) -> str:
    """The hash of everything but the seal itself.

    >>> seal_of({"id": "ab", "self_hash": "old"}) == seal_of({"id": "ab"})
    True

    Raises:
        ValueError: ``data`` holds what has no canonical JSON.
    """
    return digest({key: value for key, value in data.items() if key != "self_hash"})


def sealed_text(body: Mapping[str, Any]) -> str:
    r"""``body`` with its seal, laid out for people.

    What is hashed and what is written are spelled together: the numbers of a record are most of its text.

    >>> sealed_text({"id": "ab"}).splitlines()[2] == f'  "self_hash": "{seal_of({"id": "ab"})}"'
    True

    Raises:
        ValueError: ``body`` holds what has no canonical JSON.
    """
    plain = canonical({key: value for key, value in body.items() if key != "self_hash"})
    members = {key: spelled(value, "  ") for key, value in plain.items()}
    seal = sha256_hex(object_of(members)[0])
    return object_of({**members, "self_hash": spelled(seal)})[1] + "\n"


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
    if b"\\" in raw and (b'\\"' in raw or b"\\\\" in raw):
        return None
    line = f'\n  "self_hash": "{seal}",\n'.encode()
    if raw.count(line) != 1:
        return None
    parts = raw.replace(line, b"\n").split(b'"')
    outside = b'"'.join(parts[::2]).translate(None, _SPACES)
    if _depth(outside) > MAX_DEPTH:
        return None
    parts[::2] = outside.split(b'"')
    return b'"'.join(parts)


def _depth(text: bytes) -> int:
    """The deepest nesting of brackets."""
    return max(accumulate(array("b", text.translate(_STEPS, _ALL_BUT_BRACKETS))), default=0)
