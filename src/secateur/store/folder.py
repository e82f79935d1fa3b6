"""The run folder of a study: cells are committed in one step, and checked whenever they are read."""

import shutil
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from secateur.config import Cell
from secateur.durable import sync_folder
from secateur.errors import UserError
from secateur.store.claim import claim_folder, study_of_folder
from secateur.store.commit import put_in_place, write_cell
from secateur.store.faults import reach
from secateur.store.files import append_line, held, machine_errors, read_lines, writer_mark
from secateur.store.index import FEW, Index, read_index
from secateur.store.leftovers import discard_failure, set_aside, sweep
from secateur.store.reading import Look, Reader
from secateur.store.record import CELL_ID, Newer, Record, checked
from secateur.store.science import Damaged, NetworkScience
from secateur.store.study_file import STUDY, whole_study
from secateur.untrusted import own_folder


class Store:
    """A run folder: ``study.json``, ``cells/<id[:2]>/<id>/record.json`` with artefacts, ``quarantine/``.

    Reading never changes the folder. A cell is committed by one rename of a complete, synced folder; the
    first writer wins. Whatever is damaged counts as absent until :meth:`repair` moves it to the quarantine.

    >>> import tempfile
    >>> study = {"name": "demo", "study_hash": "ab", "config": {}, "facts": {}, "science": {},
    ...          "limited": None, "cells": []}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = Store.create(f"{folder}/run", study)
    ...     store.note("a remark")
    ...     store.records(), store.notes()
    ([], [{'note': 'a remark'}])
    """

    def __init__(
        self, root: Path, study: Mapping[str, Any], *, sha256: str = "", index: Index | None = None
    ) -> None:
        self.root = root
        self.study = study
        self._stages: dict[str, str] = {cell["id"]: cell["stage"] for cell in study["cells"]}
        self._sha256 = sha256
        self._children: dict[str | None, list[Cell]] = defaultdict(list)
        # An index is of one content of study.json, which says what the cells are.
        self._sealed = index is not None and index.study == sha256 != ""
        self._reader = Reader(root, self._stages, index if self._sealed else None)

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """The cells of the study, parents before children."""
        return tuple(Cell.from_json(cell) for cell in self.study["cells"])

    @cached_property
    def _by_id(self) -> dict[str, Cell]:
        return {cell.id: cell for cell in self.cells}

    @classmethod
    def create(cls, folder: str | Path, study: Mapping[str, Any]) -> "Store":
        """Open ``folder`` for this study, or make it.

        Args:
            folder: a new or empty folder, or the run folder of the same study.
            study: the content of ``study.json``: name, study_hash, config, facts, cells.

        Raises:
            UserError: the folder belongs to another study (the settings that differ are listed), holds other
                files, or is not suitable for results.
        """
        root = Path(folder)
        with machine_errors(root):
            return cls(root, claim_folder(root, study))

    @classmethod
    def matching(
        cls, folder: str | Path, study: Callable[[], Mapping[str, Any]], *, study_hash: str
    ) -> "Store":
        """As :meth:`create`, changing nothing; ``study`` is called if the folder is not plainly its own."""
        index = read_index(root := Path(folder))
        content, sha256 = study_of_folder(root, study, study_hash=study_hash, known=index.study)
        return cls(root, content, sha256=sha256, index=index)

    @classmethod
    def open(cls, folder: str | Path) -> "Store":
        """Open the run folder of a study. Raises UserError when it is none."""
        root = Path(folder)
        index = read_index(root)
        study, sha256 = whole_study(root, known=index.study)
        return cls(root, study, sha256=sha256, index=index)

    def record(self, cell_id: str) -> Record | None:
        """The record of a cell, failed ones included; None when it is absent or damaged."""
        with suppress(Damaged):
            return self._read(cell_id)
        return None

    def records(self) -> list[Record]:
        """Every undamaged record of this study, in the order of the study."""
        found = (self.record(cell.id) for cell in self.cells)
        return [record for record in found if record is not None]

    def look(self, cell_id: str) -> Look:
        """What became of a cell; not read again if this user found its record whole and it is untouched.

        Whoever uses the numbers of a record reads it by :meth:`record`, which checks its seal.
        """
        return self._reader.look(cell_id)

    def keep_index(self) -> None:
        """Remember for later looks, in the user's cache, which records were found whole."""
        if len(self._stages) >= FEW and (self._reader.learned or not self._sealed):
            self._sha256 = self._sha256 or whole_study(self.root)[1]
            self._reader.keep_index(self._sha256)
            self._sealed = True

    def cell(self, cell_id: str) -> Cell:
        """The cell of this id. Raises KeyError if the study has none."""
        return self._by_id[cell_id]

    def children(self, cell_id: str) -> Sequence[Cell]:
        """The cells that start from this one."""
        if not self._children:
            for cell in self.cells:
                self._children[cell.parent].append(cell)
        return self._children.get(cell_id, ())

    def committed(self, cell_id: str) -> bool:
        """Whether the cell is done: an undamaged record of status ``ok``."""
        record = self.record(cell_id)
        return record is not None and record.ok

    def artefact(self, cell_id: str, name: str) -> Path:
        """The path of an artefact whose bytes are those that were committed.

        Raises:
            UserError: the cell has no such artefact, or it is damaged.
        """
        record = self.record(cell_id)
        if record is None or name not in record.artefacts:
            raise UserError(f"cell {cell_id} has no artefact '{name}' in {self.root}")
        path = self._cell_folder(cell_id) / name
        if why := self._reader.artefact_damage(path, record.artefacts[name]):
            raise UserError(
                f"{path} is damaged: {why}", hint="run the study again; the cell will be computed afresh"
            )
        return path

    def artefacts(self, cell_id: str) -> Path:
        """The folder of a cell's artefacts, after all of them were compared with what was committed.

        Raises:
            UserError: the cell is not finished, or an artefact is damaged.
        """
        record = self.record(cell_id)
        if record is None or not record.ok:
            raise UserError(f"cell {cell_id} is not finished in {self.root}", hint="run the study again")
        for name in record.artefacts:
            self.artefact(cell_id, name)
        return self._cell_folder(cell_id)

    def network_science(self, cell_id: str) -> NetworkScience:
        """The numbers of the network that a finished cell left behind.

        Raises:
            UserError: the cell is not finished, or leaves no network.
        """
        record = self.record(cell_id)
        if record is None or not isinstance(record.science, NetworkScience):
            raise UserError(f"cell {cell_id} has no network in {self.root}", hint="run the study again")
        return record.science

    def scratch(self, cell_id: str) -> Path:
        """A folder for the checkpoints of an unfinished cell; it is deleted when the cell has its numbers."""
        with machine_errors(self.root):
            return own_folder(self.root, "scratch", checked(CELL_ID, cell_id))

    def commit(self, record: Record, artefacts: Mapping[str, bytes | Path] | None = None) -> bool:
        """Make a cell durable in one step; False when another writer had already done so.

        A failed record is replaced by any later one, an ``ok`` record by none.

        Raises:
            UserError: the disk is full, read-only, or failing.
            ValueError: the record holds a NaN or something that is not plain data.
        """
        with machine_errors(self.root):
            parent = own_folder(self.root, "tmp")
            temporary = parent / f"{checked(CELL_ID, record.id)}.{writer_mark()}"
            temporary.mkdir()
            try:
                write_cell(temporary, record, artefacts or {})
                return self._publish(temporary, record)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)

    def adopt(self, other: "Store", cell: Cell) -> bool:
        """Take over a finished cell from another run folder; False when it has none that is sound.

        Equal ids mean equal numbers; the labels of the other study are replaced by those of ``cell``.
        """
        record = other.record(cell.id)
        if record is None or not record.ok or other.damage(cell.id):
            return False
        artefacts = {name: other.artefact(cell.id, name) for name in record.artefacts}
        return self.commit(record.model_copy(update=cell.to_json()), artefacts)

    def note(self, sentence: str, **facts: Any) -> None:
        """Append a remark about this folder to ``notes.jsonl``."""
        with machine_errors(self.root):
            append_line(self.root / "notes.jsonl", {"note": sentence, **facts})

    def notes(self) -> list[dict[str, Any]]:
        """The remarks so far."""
        return [line for line in read_lines(self.root / "notes.jsonl") if isinstance(line.get("note"), str)]

    def damage(self, cell_id: str, *, artefacts: bool = True) -> str:
        """What is wrong with a cell's record or its artefacts; empty when it is absent or sound."""
        folder = self._cell_folder(cell_id)
        seen = ""
        while True:
            with held(folder) as same:
                try:
                    record = self._read(cell_id)
                except Damaged as damaged:
                    return str(damaged)
                hashes = record.artefacts if record and artefacts else {}
                found = ((name, self._reader.artefact_damage(folder / name, hashes[name])) for name in hashes)
                why = next((f"{name}: {why}" for name, why in found if why), "")
                # Another runner may have put a new cell in the place of an old one between the two looks.
                if not why or (why == seen and same()):
                    return why
            seen = why

    def newer(self, cell_id: str) -> str:
        """Says so if a newer version of the software wrote the cell's record, which is then left alone."""
        try:
            self._read(cell_id)
        except Damaged as told:
            return str(told) if isinstance(told, Newer) else ""
        return ""

    def present(self) -> bool:
        """Whether the folder is still there; a disk may have been taken away."""
        return (self.root / STUDY).exists()

    def repair(self) -> list[str]:
        """Move every damaged cell of this study to the quarantine; sentences that say which and why."""
        return [
            f"{cell.label} is computed afresh: {why}"
            for cell in self.cells
            if (why := self.damage(cell.id)) and not self.newer(cell.id) and self._quarantine(cell.id, why)
        ]

    def gc(self, *, quarantine: bool = False, dry_run: bool = False) -> list[Path]:
        """Delete what dead processes left half-written, and the scratch of finished cells; what went."""
        return sweep(self.root, self.committed, quarantine=quarantine, dry_run=dry_run)

    def _cell_folder(self, cell_id: str) -> Path:
        return self._reader.folder(cell_id)

    def _read(self, cell_id: str) -> Record | None:
        return self._reader.record(cell_id)

    def _publish(self, temporary: Path, record: Record) -> bool:
        cell_id = record.id
        folder = self._cell_folder(cell_id)
        own_folder(self.root, "cells", folder.parent.name)
        sync_folder(folder.parent.parent)
        self._clear(cell_id)
        reach("commit.cleared")
        if not put_in_place(temporary, folder):
            return False
        # A cell that failed or was lost is tried again, from its last checkpoint.
        if record.ok:
            shutil.rmtree(self.root / "scratch" / cell_id, ignore_errors=True)
        return True

    def _clear(self, cell_id: str) -> None:
        """Move a failed or damaged predecessor out of the way."""
        try:
            record = self._read(cell_id)
        except Newer:
            return
        except Damaged as damaged:
            self._quarantine(cell_id, str(damaged))
            return
        if record is not None and not record.ok:
            discard_failure(self.root, self._cell_folder(cell_id))

    def _quarantine(self, cell_id: str, why: str) -> bool:
        if target := set_aside(self.root, self._cell_folder(cell_id), self._stages.get(cell_id)):
            self.note(f"cell {cell_id} was moved to {target.relative_to(self.root)}: {why}", cell=cell_id)
        return target is not None
