"""Files and folders that others may have made: read within limits, never written through a link."""

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from secateur.errors import UserError

MIB = 2**20
# Of the errors below, those that say what a file is, not what the disk has.
UNFIT = frozenset({errno.EISDIR, errno.EINVAL, errno.EFBIG})
# Neither waits for the other end of a pipe nor makes a terminal ours.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)


def read_bounded(path: Path, limit: int) -> bytes:
    """The bytes of a regular file of at most ``limit`` bytes; links to such files are followed.

    Raises:
        OSError: there is none, it is a folder, a pipe, a socket or a device, which could block or never end,
            or it is larger.

    >>> read_bounded(Path("/dev/zero"), MIB)
    Traceback (most recent call last):
    OSError: [Errno 22] it is not a regular file: '/dev/zero'
    """
    refuse_irregular(path, limit)
    handle = os.open(path, _FLAGS)
    with os.fdopen(handle, "rb") as file:
        # A read makes room for all it asks for, which must not be the limit.
        content = file.read(os.fstat(handle).st_size + 1)
        while more := file.read(MIB):  # it grows, or its size is not known
            content += more
            if len(content) > limit:
                break
    if len(content) > limit:
        raise _too_large(path, limit)
    return content


def refuse_irregular(path: Path, limit: int) -> None:
    """Raise the OSError of :func:`read_bounded` unless ``path`` is a regular file within ``limit`` bytes.

    >>> refuse_irregular(Path(os.devnull), MIB)
    Traceback (most recent call last):
    OSError: [Errno 22] it is not a regular file: '/dev/null'
    """
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder", str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    if status.st_size > limit:
        raise _too_large(path, limit)


def open_to_append(path: Path) -> BinaryIO:
    """Open a regular file to write at its end; other names of the file keep what they have.

    Raises:
        UserError: ``path`` is a link, a folder, a pipe or a device.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as root:
    ...     with open_to_append(Path(root) / "notes.jsonl") as file:
    ...         file.write(b"{}")
    2
    """
    refuse_link(path)
    with suppress(FileNotFoundError):
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UserError(f"'{path}' is not a regular file", hint="remove it")
        if status.st_nlink > 1:
            content = path.read_bytes()
            cleared(path).write_bytes(content)
    return path.open("ab")


def own_folder(parent: Path, *names: str) -> Path:
    """The folder ``parent/name/...``, made if missing; ``parent`` itself may be or lie behind a link.

    Raises:
        UserError: on the way below ``parent`` there is a link, or something else that is no folder.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as root:
    ...     (Path(root) / "report").symlink_to("/")
    ...     own_folder(Path(root), "report", "tables")
    Traceback (most recent call last):
    secateur.errors.UserError: '...report' is a link, through which nothing is written (remove it)
    """
    folder = parent
    for name in names:
        folder = folder / name
        refuse_link(folder)
        try:
            folder.mkdir(exist_ok=True)
        except FileExistsError:
            raise UserError(f"'{folder}' is not a folder", hint="remove it") from None
    return folder


def refuse_link(path: Path) -> None:
    """Refuse to write to ``path`` if it is a link.

    Raises:
        UserError: it is one.

    >>> refuse_link(Path("runs/demo/notes.jsonl"))
    """
    if path.is_symlink():
        raise UserError(f"'{path}' is a link, through which nothing is written", hint="remove it")


def write_new(path: Path, text: str) -> Path:
    """Write a text, in place of whatever had the name ``path``, which is returned; no link is followed.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as root:
    ...     write_new(Path(root) / "index.html", "<p>").read_text()
    '<p>'
    """
    cleared(path).write_text(text, encoding="utf-8", newline="\n")
    return path


def cleared(path: Path) -> Path:
    """``path``, free for a new file: what had the name is removed, so that no link is followed.

    A file that other names share keeps its content under those names.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as root:
    ...     kept, link = Path(root) / "kept", Path(root) / "link"
    ...     _ = kept.write_text("mine")
    ...     link.symlink_to(kept)
    ...     _ = cleared(link).write_text("new")
    ...     kept.read_text(), link.read_text()
    ('mine', 'new')
    """
    path.unlink(missing_ok=True)
    return path


def cache_folder() -> Path:
    """The folder of this user's downloads and indices; all in it can be made again.

    Raises:
        RuntimeError: there is no home to put it.
    """
    if chosen := os.environ.get("SECATEUR_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "secateur"


def _too_large(path: Path, limit: int) -> OSError:
    return OSError(errno.EFBIG, f"it has more than {limit / MIB:,.0f} MiB", str(path))
