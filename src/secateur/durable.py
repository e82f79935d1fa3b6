"""Files that survive a crash: written whole and synced before anyone refers to them."""

import errno
import os
import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

CHUNK = 1 << 20
# A disk or network file system that is full, over quota, read-only or not answering: it says nothing about
# what was being written. Not every platform has every name.
_DISK_NAMES = (
    *("ENOSPC", "EDQUOT", "EROFS", "EIO", "ENXIO", "ENODEV", "ENFILE", "ENOLCK"),
    *("ESTALE", "ETIMEDOUT", "ENOTCONN", "EHOSTDOWN", "EHOSTUNREACH", "EREMOTEIO"),
    *("ENETDOWN", "ENETUNREACH", "ENONET", "ECOMM", "ESHUTDOWN", "ECONNABORTED", "ECONNRESET"),
)
DISK = frozenset(getattr(errno, name) for name in _DISK_NAMES if hasattr(errno, name))
# Rust puts the number of the system's error into its text, and safetensors passes on the text alone.
_RUST = re.compile(r"\(os error (\d+)\)")
# What file managers, editors, network file systems and backups leave in a folder without being asked.
_STRAY = re.compile(
    r"""\..* | .*~ | \#.*\# | .*\.(swp|swo|swx) | ~\$.* | Thumbs\.db(:encryptable)? | ehthumbs(_vista)?\.db
    | desktop\.ini | Icon\r | \$RECYCLE\.BIN | System\ Volume\ Information | lost\+found | __MACOSX | @eaDir
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)


def disk_trouble(error: BaseException | None) -> OSError | None:
    """The failure of a disk or network file system behind ``error``, or None if there is none.

    The causes of an error are looked through, and messages of libraries that hide the number of the error.

    >>> full = OSError(errno.ENOSPC, "No space left on device", "weights")
    >>> disk_trouble(full) is full, disk_trouble(FileNotFoundError(errno.ENOENT, "gone"))
    (True, None)
    >>> disk_trouble(RuntimeError("I/O error: No space left on device (os error 28)")).errno == errno.ENOSPC
    True
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError):
            # A write that exceeds a limit on the size of files names no file; readers of too large ones do.
            if error.errno in DISK or (error.errno == errno.EFBIG and error.filename is None):
                return error
        elif (said := _RUST.search(str(error))) and int(said[1]) in DISK:
            return OSError(int(said[1]), os.strerror(int(said[1])))
        error = error.__cause__ or error.__context__
    return None


def is_stray(name: str) -> bool:
    """Whether ``name`` is one of the files that a file manager, an editor or a network file system leaves.

    >>> [is_stray(name) for name in (".DS_Store", ".nfs0001", "Thumbs.db", "notes.txt~", "record.json")]
    [True, True, True, True, False]
    """
    return _STRAY.fullmatch(name) is not None


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
