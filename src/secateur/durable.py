"""Files that survive a crash: written whole and synced before anyone refers to them."""

import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

CHUNK = 1 << 20


def write_durably(path: Path, content: bytes | Path) -> str:
    """Write a new file, sync it, and return the sha256 of its bytes in hex.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_durably(Path(folder) / "note", b"")[:16]
    'e3b0c44298fc1c14'
    """
    hasher = sha256()
    with path.open("xb") as file:
        for chunk in _chunks(content):
            hasher.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    return hasher.hexdigest()


def _chunks(content: bytes | Path) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield content
        return
    with content.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable, where the platform can: a file's own sync does not cover them."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
