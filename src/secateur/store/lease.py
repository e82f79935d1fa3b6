"""Leases: which runner works on which cell, when several runners share a folder.

A lease is a small file that its holder rewrites every few seconds. It only saves double work: a cell that two
runners compute has the same numbers twice, and the first commit wins. Clocks of different machines are never
compared: a lease is stale when its holder is known to be dead, or when the observer's own clock saw it
unchanged for :data:`STALE_BEATS` beats. A holder that computes in other processes renews a lease only while
it sees them make progress: that it is alive itself says nothing about a worker that hangs.
"""

import json
import os
import secrets
import shutil
import stat
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from secateur.store.faults import reach
from secateur.store.files import machine_errors, writer_is_gone, writer_mark
from secateur.untrusted import own_folder, read_bounded

BEAT_SECONDS = 5.0
MAX_BYTES = 65_536
STALE_BEATS = 6


@dataclass
class Leases:
    """The leases that one runner holds in a run folder, and when it last saw those of others change.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     mine, other = Leases(Path(folder)), Leases(Path(folder))
    ...     before = mine.claim("0123456789abcdef"), other.claim("0123456789abcdef")
    ...     mine.close()
    ...     after = other.claim("0123456789abcdef")
    ...     other.close()
    >>> before, after
    ((True, False), True)
    """

    root: Path
    beat_seconds: float = BEAT_SECONDS
    by_progress: bool = False
    _mark: str = field(default_factory=writer_mark)
    _held: dict[str, str] = field(default_factory=dict)
    _seen: dict[str, tuple[str, float]] = field(default_factory=dict)
    _lively: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _ended: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def claim(self, cell_id: str) -> bool:
        """Take the lease of a cell; False while another living runner holds it."""
        path = self._path(cell_id)
        with machine_errors(self.root):
            own_folder(self.root, "leases")
            if self._is_stale(cell_id, path):
                self._steal(path)
            nonce = secrets.token_hex(8)
            try:
                # The nonce tells this lease from a later one of the same cell.
                _create(path, self._content(nonce, 0))
            except FileExistsError:
                return False
        reach("lease.taken")
        with self._lock:
            self._held[cell_id] = nonce
            self._lively.add(cell_id)
        self._beat_from_now_on()
        return True

    def release(self, cell_id: str) -> None:
        """Give a lease back, unless another runner has taken it over meanwhile."""
        with self._lock:
            nonce = self._held.pop(cell_id, None)
        if nonce and _nonce_of(self._path(cell_id)) == nonce:
            self._path(cell_id).unlink(missing_ok=True)

    def alive(self, cell_id: str) -> None:
        """Note progress of a cell; with ``by_progress``, its lease is renewed once for it."""
        with self._lock:
            self._lively.add(cell_id)

    def holders(self) -> dict[str, str]:
        """The holder of every leased cell, by id; holders that are known to be dead are left out."""
        found = {}
        for path in sorted((self.root / "leases").glob("*.json")):
            holder = _holder_of(_read(path) or "")
            if holder and not writer_is_gone(holder):
                found[path.name.partition(".")[0]] = holder
        return found

    def close(self) -> None:
        """Give all leases back."""
        self._ended.set()
        if self._thread:
            self._thread.join()
        for cell_id in list(self._held):
            self.release(cell_id)

    def _path(self, cell_id: str) -> Path:
        return self.root / "leases" / f"{cell_id}.json"

    def _content(self, nonce: str, beat: int) -> str:
        return json.dumps({"nonce": nonce, "holder": self._mark, "beat": beat})

    def _is_stale(self, cell_id: str, path: Path) -> bool:
        # A runner writes regular files only; a link, pipe or folder would never seem to become old.
        if os.path.lexists(path) and not _is_regular(path):
            return True
        content = _read(path)
        if content is None:
            self._seen.pop(cell_id, None)
            return False
        if writer_is_gone(_holder_of(content)):
            return True
        known = self._seen.get(cell_id)
        if known is None or known[0] != content:
            self._seen[cell_id] = (content, time.monotonic())
            return False
        return time.monotonic() - known[1] > STALE_BEATS * self.beat_seconds

    @staticmethod
    def _steal(path: Path) -> None:
        # Of two runners that rename the stale file one succeeds; the other then meets the new lease.
        with suppress(FileNotFoundError):
            aside = path.with_name(f"{path.name}.{secrets.token_hex(4)}.stale")
            path.rename(aside)
            if aside.is_dir() and not aside.is_symlink():
                shutil.rmtree(aside)
            else:
                aside.unlink()

    def _beat_from_now_on(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._beat, daemon=True)
            self._thread.start()

    def _progresses(self, cell_id: str) -> bool:
        return not self.by_progress or cell_id in self._lively

    def _beat(self) -> None:
        beat = 0
        while not self._ended.wait(self.beat_seconds):
            beat += 1
            with self._lock:
                held = {cell: self._held[cell] for cell in self._held if self._progresses(cell)}
                self._lively.clear()
            for cell_id, nonce in held.items():
                path = self._path(cell_id)
                # A lease that was taken over while this process slept is not ours to write.
                if _nonce_of(path) == nonce:
                    with suppress(OSError):
                        _overwrite(path, self._content(nonce, beat))


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except FileNotFoundError:  # given back a moment ago
        return True


def _create(path: Path, content: str) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o666)
    with os.fdopen(handle, "w") as file:
        file.write(content)


def _overwrite(path: Path, content: str) -> None:
    # In place and without O_CREAT: a lease that was stolen a moment ago must not reappear.
    handle = os.open(path, os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0))
    with os.fdopen(handle, "w") as file:
        file.write(content)
        file.truncate()


def _read(path: Path) -> str | None:
    try:
        return read_bounded(path, MAX_BYTES).decode(errors="replace")
    except OSError:
        return None


def _field(content: str | None, name: str) -> str:
    with suppress(ValueError, TypeError, KeyError, RecursionError):
        return str(json.loads(content or "")[name])
    return ""


def _nonce_of(path: Path) -> str:
    return _field(_read(path), "nonce")


def _holder_of(content: str) -> str:
    return _field(content, "holder")
