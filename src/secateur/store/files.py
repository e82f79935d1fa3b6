"""JSON files of a run folder: replaced in one step, appended line by line, read strictly."""

import errno
import json
import os
import secrets
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from secateur.durable import DISK, disk_trouble, is_stray, sync_folder, write_durably
from secateur.errors import ExitCode, UserError
from secateur.hashing import canonical, canonical_json, sha256_hex
from secateur.store.faults import reach
from secateur.untrusted import UNFIT, open_to_append, read_bounded

Stamp = tuple[int, ...]
MAX_LINES = 2**24
# Errors of the machine, not of a cell: the study pauses, and the same command resumes it.
MACHINE = DISK | {errno.EACCES, errno.EPERM, errno.EMFILE}


def replace_json(path: Path, data: Any) -> None:
    """Write ``data`` to ``path`` so that a reader sees the old file or the new one, never a part."""
    temporary = path.with_name(f"{path.name}.{writer_mark()}.tmp")
    try:
        write_durably(temporary, readable_json(data).encode())
        reach("study.written")
        temporary.replace(path)
        reach("study.replaced")
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def readable_json(data: Any) -> str:
    """Canonical values laid out for people: objects indented, lists of plain values in one line.

    Raises:
        ValueError: a NaN, or something that is not plain data.
    """
    return spelled(canonical(data))[1] + "\n"


def spelled(value: Any, indent: str = "") -> tuple[str, str]:
    r"""The JSON of canonical values, and the same laid out for people, with every number spelled once.

    >>> spelled({"b": [1, 2], "a": {}})
    ('{"a":{},"b":[1,2]}', '{\n  "a": {},\n  "b": [1, 2]\n}')
    """
    kind = type(value)
    if kind is float:
        text = float.__repr__(value)
    elif kind is dict and value:
        return object_of({key: spelled(value[key], indent + "  ") for key in value}, indent)
    elif kind is list and value:
        kinds = set(map(type, value))
        if kinds.isdisjoint((dict, list)):
            return _line(value)
        return (_rows(value, indent) if kinds == {dict} else None) or _lines(value, indent)
    else:
        text = _word(value)
    return text, text


def object_of(members: Mapping[str, tuple[str, str]], indent: str = "") -> tuple[str, str]:
    """The two spellings of an object from those of its members, which are indented two spaces more."""
    plain, lines = [], []
    for key in sorted(members):
        word, (short, laid_out) = _word(key), members[key]
        plain.append(f"{word}:{short}")
        lines.append(f"{indent}  {word}: {laid_out}")
    return "{" + ",".join(plain) + "}", "{\n" + ",\n".join(lines) + f"\n{indent}}}"


def _lines(value: list[Any], indent: str) -> tuple[str, str]:
    inner = indent + "  "
    items = [spelled(item, inner) for item in value]
    lines = [inner + laid_out for _, laid_out in items]
    return "[" + ",".join(short for short, _ in items) + "]", "[\n" + ",\n".join(lines) + f"\n{indent}]"


def _line(value: list[Any]) -> tuple[str, str]:
    text = _words(value)
    # Where no text of the list has a comma of its own.
    if text.count(",") == len(value) - 1:
        return text, text.replace(",", ", ")
    return text, _word(value)


def _rows(value: list[dict[str, Any]], indent: str) -> tuple[str, str] | None:
    """A list of objects with the same keys and numbers alone, as the epochs of a training; None of others."""
    keys, inner = sorted(value[0]), indent + "  "
    if not keys or any(item.keys() != value[0].keys() for item in value):
        return None
    numbers = [item[key] for item in value for key in keys]
    if not _NUMBERS.issuperset(map(type, numbers)):
        return None
    slots = {key.replace("%", "%%"): ("%s", "%s") for key in keys}
    words, (short, laid_out) = tuple(_words(numbers)[1:-1].split(",")), object_of(slots, inner)
    plain, lines = (
        separator.join([row] * len(value)) % words
        for separator, row in ((",", short), (f",\n{inner}", laid_out))
    )
    return f"[{plain}]", f"[\n{inner}{lines}\n{indent}]"


_NUMBERS = frozenset({bool, int, float, type(None)})
# Made once: json.dumps makes one at every call, which for a long history is most of the time of a commit.
_word = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
_words = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def append_line(path: Path, data: Any) -> None:
    """Append one JSON line; a line cut short by a crash is ignored by :func:`read_lines`."""
    with open_to_append(path) as file:
        file.write((canonical_json(data) + "\n").encode())


def read_lines(path: Path) -> list[Any]:
    """The JSON objects of a file, one per line, without lines that are no object.

    None where there is no file, or something else, such as a pipe, or more than was ever appended.
    """
    found = []
    try:
        raw = read_bounded(path, MAX_LINES)
    except OSError as error:
        if error.errno not in (*UNFIT, errno.ENOENT):
            raise
        return []
    for line in raw.split(b"\n"):
        with suppress(ValueError, RecursionError):
            found.append(strict_json(line))
    return [line for line in found if isinstance(line, dict)]


def strict_json(raw: bytes) -> Any:
    """Parse JSON by the standard, more strictly than Python's own reader, and several times as fast.

    Raises:
        ValueError: it is not JSON: ``NaN``, ``Infinity``, text that is not Unicode, as half a surrogate, or
            more than 200 lists and objects in each other.
    """
    return from_json(raw, allow_inf_nan=False)


def writer_mark() -> str:
    """A name for what this process writes: machine, process id and a random part."""
    return f"{_machine()}.{os.getpid()}.{secrets.token_hex(4)}"


@cache
def _machine() -> str:
    """This machine or container since its start: the scope within which a process id is unique."""
    parts = [socket.gethostname()]
    for read in (Path("/proc/sys/kernel/random/boot_id").read_text, Path("/proc/self/ns/pid").readlink):
        with suppress(OSError):
            parts.append(str(read()))
    host = "".join(c if c.isalnum() else "-" for c in parts[0])[:40]
    return f"{host}-{sha256_hex('|'.join(parts))[:8]}"


def writer_is_gone(mark: str) -> bool:
    """Whether the process that made ``mark`` has ended; False for processes of other machines."""
    parts = mark.split(".")[-3:]
    if len(parts) < 3 or parts[0] != _machine() or not parts[1].isdigit():
        return False
    pid = int(parts[1])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    # Where the first process of a container collects no children, dead processes stay in the table.
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return False


@contextmanager
def machine_errors(folder: Path, *, which: frozenset[int] = MACHINE) -> Iterator[None]:
    """Turn a full or failing disk into a UserError, which pauses the study instead of failing the cell.

    A disk that fails counts however it is said: some libraries and stages wrap its error in one of their own.
    """
    try:
        yield
    except Exception as error:
        trouble = disk_trouble(error)
        if trouble is None and isinstance(error, OSError) and error.errno in which:
            trouble = error
        if trouble is None or (isinstance(error, UserError) and error.code is ExitCode.ENVIRONMENT):
            raise
        raise UserError(
            f"cannot use {trouble.filename or folder}: {trouble.strerror}",
            hint="nothing is lost; run the same command again when this is solved",
            code=ExitCode.ENVIRONMENT,
        ) from error


def stamp(path: Path | str) -> Stamp:
    """What changes when a file is written anew or in place; empty where there is none.

    Inode, device, size, and the times of writing and of change: programs set the first of the two, no program
    can set the second.
    """
    try:
        status = os.stat(path)  # noqa: PTH116  (called for each of very many records)
    except (FileNotFoundError, NotADirectoryError):
        return ()
    return (status.st_ino, status.st_dev, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@contextmanager
def held(folder: Path) -> Iterator[Callable[[], bool]]:
    """Within, a function that says whether ``folder`` is still the one that it was; False if there was none.

    A folder that is open gives its inode to no other one, so that none can be taken for it.
    """
    before = stamp(folder)[:2]
    try:
        place = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    except OSError:
        # Gone, or nothing that can be held open here.
        yield lambda: bool(before) and stamp(folder)[:2] == before
        return
    try:
        status = os.fstat(place)
        yield lambda: stamp(folder)[:2] == (status.st_ino, status.st_dev)
    finally:
        os.close(place)


def children(folder: Path) -> Iterator[Path]:
    """The entries of a folder by name, without stray files; none where there is no folder."""
    with suppress(FileNotFoundError, NotADirectoryError):
        yield from sorted(path for path in folder.iterdir() if not is_stray(path.name))
