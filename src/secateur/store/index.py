"""Which records were found whole before, told by the identity of their files: an index that may be lost.

To check the seals of ten thousand records takes as long as to read them all, which is too long to ask what
is done. An entry counts only while the record is the very file that was read: same device, inode, size, time
of writing and time of change, and no program can choose the last of these. It says nothing about the content:
whoever uses the numbers of a record checks its seal.

The index lies in the user's own cache, not in the run folder: a folder may come from somebody else, and to
look at one changes nothing in it.
"""

import os
import secrets
import socket
import stat
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from secateur.store.files import Stamp
from secateur.store.science import Fields
from secateur.untrusted import cache_folder

MAX_BYTES = 2**28
FEW = 100
"""Fewer records are checked in a moment, and leave no index."""
KEPT_SECONDS = 90 * 86_400
"""After so long without a look at its run folder an index is deleted."""
# Two changes in one tick of a file system's clock leave the same time; all clocks tick faster than this.
TICK_NS = 2_000_000_000
# FAT and its kin have no time of change but that of writing, which programs set; they count in these steps.
COARSE_NS = 10_000_000
# The time of change is something else on other systems.
AVAILABLE = os.name == "posix"
DIGEST = 64

Seconds = Annotated[float, Field(ge=0, le=1e30)]


@dataclass(frozen=True)
class Index:
    """What is known of a run folder: sha256 of its study.json, and the stamp and seconds of whole records.

    >>> Index().cells
    {}
    """

    study: str = ""
    cells: Mapping[str, tuple[Stamp, float]] = field(default_factory=dict)


class _File(Fields):
    version: Literal[1]
    # Another version of the software may find other records whole.
    software: str
    root: tuple[str, int, int]
    study: str
    cells: dict[str, tuple[tuple[int, int, int, int, int], Seconds]]


def settled(stamp: Stamp, now_ns: int) -> bool:
    """Whether any change of a file since ``now_ns``, when it had this stamp, has given it another one.

    >>> second = 1_000_000_000
    >>> settled((1, 2, 3, 4, second + 1), 9 * second), settled((1, 2, 3, 4, 8 * second + 1), 9 * second)
    (True, False)
    """
    changed = stamp[-1]
    return changed % COARSE_NS != 0 and now_ns - changed > TICK_NS


def read_index(root: Path) -> Index:
    """The index of a run folder; an empty one where it is lost, damaged, of another folder or of others."""
    with suppress(OSError, RuntimeError, ValidationError):
        if AVAILABLE:
            file = _File.model_validate_json(_body(_own_bytes(_place(root))))
            if (file.software, file.root) == (version("secateur"), _identity(root)):
                return Index(file.study, file.cells)
    return Index()


def write_index(root: Path, index: Index) -> None:
    """Replace the index of a run folder in one step, if this user's cache takes it."""
    if not AVAILABLE:
        return
    with suppress(OSError, RuntimeError):
        known = {"study": index.study, "cells": dict(index.cells), "root": _identity(root)}
        file = _File.from_json({"version": 1, "software": version("secateur"), **known})
        body = file.model_dump_json().encode()
        place = _place(root)
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _forget_old(place.parent)
        temporary = place.with_name(f"{place.name}.{secrets.token_hex(8)}.tmp")
        try:
            _write(temporary, sha256(body).hexdigest().encode() + body)
            temporary.replace(place)
        finally:
            temporary.unlink(missing_ok=True)


def _identity(root: Path) -> tuple[str, int, int]:
    status = root.stat()
    return str(root.resolve()), status.st_dev, status.st_ino


def _place(root: Path) -> Path:
    # Machines that share a home see other devices.
    name = sha256("\0".join(map(str, (socket.gethostname(), *_identity(root)))).encode()).hexdigest()
    return cache_folder() / "index" / f"{name[:32]}.json"


def _own_bytes(path: Path) -> bytes:
    """The bytes of a file that nobody else could have written. Raises OSError otherwise."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    with os.fdopen(os.open(path, flags), "rb") as file:
        status = os.fstat(file.fileno())
        others = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) or status.st_uid != os.geteuid()
        if others or not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
            raise OSError(f"{path} is not a file of this user alone")
        return file.read(MAX_BYTES)


def _body(raw: bytes) -> bytes:
    """What was written; nothing, which is no index, if it is not whole."""
    seal, body = raw[:DIGEST], raw[DIGEST:]
    return body if sha256(body).hexdigest().encode() == seal else b""


def _write(path: Path, content: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o600)
    # Not synced: half an index is none.
    with os.fdopen(handle, "wb") as file:
        file.write(content)


def _forget_old(folder: Path) -> None:
    for path in folder.iterdir():
        with suppress(OSError):
            if time.time() - path.lstat().st_mtime > KEPT_SECONDS:
                path.unlink()
