"""The cells of a run folder as they are found: read, checked, and remembered while nobody touches them."""

import os
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from secateur.store.files import Stamp, stamp
from secateur.store.index import Index, settled, write_index
from secateur.store.record import CELL_ID, RECORD, Newer, Record, artefact_damage, checked, read_record
from secateur.store.science import Damaged

# Records that are read again at once: a cell's own, its parent's, its dense network's.
KEPT = 8


class Look(NamedTuple):
    """What a look at a cell tells, without its numbers: of ten thousand cells, so a tuple.

    Attributes:
        state: ``ok`` and ``failed`` as in its record; ``damaged``; ``newer`` if a newer version wrote it;
            ``absent``.
        seconds: that it took, if it is ``ok`` or ``failed``.
        sentence: why it has no numbers, if there is more to say than that it is absent.
        self_hash: the seal of a failed record.

    >>> Look("ok", 1.5).ok, Look("absent").ok
    (True, False)
    """

    state: Literal["ok", "failed", "damaged", "newer", "absent"]
    seconds: float = 0.0
    sentence: str = ""
    self_hash: str = ""

    @property
    def ok(self) -> bool:
        """Whether the cell has its numbers."""
        return self.state == "ok"


class Reader:
    """Reads the records and artefacts of one run folder.

    What is remembered of a file counts only while its stamp is the same, and none of it is numbers: of ten
    thousand records a few are kept.

    Args:
        root: the run folder.
        stages: the stage of every cell of its study, by id.
        index: what earlier processes found whole; :meth:`look` alone believes it.
    """

    def __init__(self, root: Path, stages: Mapping[str, str], index: Index | None = None) -> None:
        self._cells = os.path.join(root, "cells")  # noqa: PTH118  (text, for very many names)
        self._root, self._stages = root, stages
        known = index.cells if index else {}
        self._looks = {cell: (mark, Look("ok", seconds)) for cell, (mark, seconds) in known.items()}
        self._fresh: set[str] = set()
        self._changed = False
        self._records: dict[str, tuple[Stamp, Record]] = {}
        self._verified: dict[Path, Stamp] = {}

    def folder(self, cell_id: str) -> Path:
        """Where a cell is. Raises ValueError if that is no id."""
        return Path(self._place(cell_id))

    def record(self, cell_id: str) -> Record | None:
        """The record of a cell, read and checked; None when it is absent.

        Raises:
            Damaged: as :func:`secateur.store.record.read_record`.
        """
        now = self._stamp(cell_id)
        known = self._records.get(cell_id)
        if known and now and known[0] == now:
            return known[1]
        fresh = not (now and settled(now, time.time_ns()))
        try:
            record = read_record(self.folder(cell_id), cell_id, self._stages.get(cell_id))
        except Damaged:
            # Also a disk that loses bits without a word: the stamp is that of a whole record.
            self._changed |= self._looks.pop(cell_id, None) is not None
            raise
        if record is not None and now:
            self._records[cell_id] = (now, record)
            while len(self._records) > KEPT:
                del self._records[next(iter(self._records))]
            self._remember(cell_id, now, record, fresh=fresh)
        return record

    def look(self, cell_id: str) -> Look:
        """What can be told of a cell; a record that was found whole before and is untouched is not read."""
        now = self._stamp(cell_id)
        if now is None:
            return Look("absent")
        known = self._looks.get(cell_id)
        if known and known[0] == now and not (cell_id in self._fresh and settled(now, time.time_ns())):
            return known[1]
        try:
            record = self.record(cell_id)
        except Newer as told:
            return Look("newer", sentence=str(told))
        except Damaged as damaged:
            return Look("damaged", sentence=str(damaged))
        return Look("absent") if record is None else _told(record)

    def artefact_damage(self, path: Path, sha256: str) -> str:
        """What is wrong with an artefact whose bytes had this hash; empty when it is sound."""
        now = stamp(path)
        if not now:
            return "it is missing"
        # A large file is hashed once, not at every look.
        if self._verified.get(path) != now:
            if why := artefact_damage(path, sha256):
                return why
            self._verified[path] = now
        return ""

    @property
    def learned(self) -> bool:
        """Whether this process found more records whole than it was told of."""
        return self._changed

    def keep_index(self, study: str) -> None:
        """Let later processes know which records are whole.

        ``study`` is the sha256 of the bytes of the study.json, which was found whole as well.
        """
        whole = {
            cell: (mark, look.seconds)
            for cell, (mark, look) in self._looks.items()
            if look.ok and cell not in self._fresh and cell in self._stages
        }
        write_index(self._root, Index(study, whole))
        self._changed = False

    def _remember(self, cell_id: str, now: Stamp, record: Record, *, fresh: bool) -> None:
        self._looks[cell_id] = (now, _told(record))
        if fresh:
            # Another change in the same tick of the clock would not be noticed; within this process it counts
            # as read just now.
            self._fresh.add(cell_id)
            return
        self._fresh.discard(cell_id)
        self._changed = True

    def _place(self, cell_id: str) -> str:
        return f"{self._cells}{os.sep}{cell_id[:2]}{os.sep}{checked(CELL_ID, cell_id)}"

    def _stamp(self, cell_id: str) -> Stamp | None:
        """The stamp of a cell's record; empty if there is none in its folder, None without a folder."""
        folder = self._place(cell_id)
        try:
            # What is behind a link is no cell of this folder.
            if not stat.S_ISDIR(os.lstat(folder).st_mode):
                return ()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return stamp(f"{folder}{os.sep}{RECORD}")


def _told(record: Record) -> Look:
    if record.ok:
        return Look("ok", record.timing.seconds)
    return Look("failed", record.timing.seconds, record.reason, record.self_hash)
