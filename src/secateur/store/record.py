"""The record of a cell: one JSON file of numbers, sealed by a hash, and how damage to it is noticed."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from secateur.config import Cell, Role, Stage
from secateur.hashing import file_sha256
from secateur.store.files import held, stamp, strict_json
from secateur.store.science import SCIENCE, Damaged, Fields, Real, Science
from secateur.store.seal import is_sealed, seal_of
from secateur.untrusted import UNFIT, read_bounded, refuse_irregular

SCHEMA_VERSION = 1
RECORD = "record.json"
# An attack on a hundred thousand images writes less.
MAX_BYTES = 2**26
MAX_ARTEFACT = 2**36
ARTEFACT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
CELL_ID = re.compile(r"[0-9a-f]{8,64}")
Id = Annotated[str, Field(pattern=rf"^{CELL_ID.pattern}$")]


@dataclass(frozen=True)
class Parts:
    """What a stage returns: numbers that must be reproducible, files, how long it took, and how it went.

    >>> from secateur.store import TuneScience
    >>> measured = TuneScience(
    ...     parameters=12, macs=30, accuracy={"test": 0.5}, collapsed=False, weights_hash="ab"
    ... )
    >>> Parts(measured, {"weights.bin": b"abc"}, {"seconds": 1.5}).science.accuracy.test
    0.5
    """

    science: Science
    artefacts: Mapping[str, bytes | Path] = field(default_factory=dict)
    timing: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)


class Failure(Fields):
    """Why a cell has no numbers: a sentence for people, and where it happened.

    >>> Failure(sentence="the training diverged").to_json()
    {'sentence': 'the training diverged'}
    """

    sentence: str
    traceback: str = ""


class Timing(Fields):
    """Seconds of the whole cell, and ``times`` of an attack's batches.

    >>> Timing(seconds=1.5).times is None
    True
    """

    seconds: Real
    times: list[Real] | None = None


class Record(Fields):
    """What one cell leaves behind.

    ``id`` to ``settings`` are those of the :class:`secateur.config.Cell`. ``science`` holds the numbers, the
    same on every run, and is None if the cell failed; ``timing`` and ``provenance`` differ between runs.
    ``artefacts`` maps the names of files to their sha256; ``self_hash`` is the hash of all other keys.

    >>> record = Record.from_json({
    ...     "schema_version": 1, "id": "0123456789abcdef", "stage": "tune", "parent": "fedcba9876543210",
    ...     "axes": {}, "role": "pruned", "settings": {}, "status": "ok", "error": None, "artefacts": {},
    ...     "science": {"parameters": 12, "macs": 30, "accuracy": {"test": 0.5}, "collapsed": False,
    ...                 "weights_hash": "ab"},
    ...     "timing": {"seconds": 1.5}, "provenance": {}, "self_hash": "",
    ... })
    >>> record.science.accuracy.test, record.science.best_epoch, record.science.says("best_epoch")
    (0.5, None, False)
    """

    schema_version: int = SCHEMA_VERSION
    id: Id
    stage: Stage
    parent: Id | None
    axes: dict[str, Any]
    role: Role
    settings: dict[str, Any]
    status: Literal["ok", "failed"]
    science: Science | None
    error: Failure | None
    artefacts: dict[str, str] = Field(default_factory=dict)
    timing: Timing
    provenance: dict[str, Any]
    self_hash: str = ""

    @classmethod
    def from_json(cls, data: object) -> Self:
        """The record of a JSON object, its ``science`` typed by stage.

        Raises:
            Damaged: a key is missing or holds something else; the message names it.
        """
        if not isinstance(data, Mapping):
            raise Damaged("it is no object")
        kind = next((kind for stage, kind in SCIENCE.items() if stage == data.get("stage")), None)
        science = data.get("science")
        if data.get("status") == "ok" and kind is not None:
            try:
                science = kind.from_json(science)
            except Damaged as damaged:
                raise Damaged(f"science.{damaged}") from None
        return super().from_json({**data, "science": science or None})

    @classmethod
    def of(cls, cell: Cell, **fields: Any) -> Self:
        """The record of a cell; ``fields`` are those that the cell does not have."""
        return cls(**cell.to_json(), **fields)

    def to_json(self) -> dict[str, Any]:
        """The record as plain data; ``science`` is an empty object where there is none."""
        plain = self.model_dump(exclude_unset=True, exclude={"science"})
        return {**plain, "science": self.science.to_json() if self.science else {}}

    @property
    def ok(self) -> bool:
        """Whether the cell has its numbers."""
        return self.status == "ok"

    @property
    def reason(self) -> str:
        """Why the cell failed, in a sentence; empty of one that did not."""
        return self.error.sentence if self.error else ""


def sealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """``record`` with its schema version and the hash of everything else in it."""
    body = {**record, "schema_version": SCHEMA_VERSION}
    return {**body, "self_hash": seal_of(body)}


def checked(pattern: re.Pattern[str], name: str) -> str:
    """``name``, if it is one for a cell or an artefact. Raises ValueError otherwise."""
    if not pattern.fullmatch(name) or name == RECORD:
        raise ValueError(f"{name!r} is no name for a cell or an artefact")
    return name


class Newer(Damaged):
    """A sound record of a newer version of the software, which this one cannot read and leaves alone."""


def read_record(folder: Path, cell_id: str, stage: str | None = None) -> Record | None:
    """The record in the folder of a cell, of which ``stage`` may be known; None when there is no such folder.

    Raises:
        Damaged: it is truncated, edited, of another cell, or not shaped as a record.
        Newer: it is sound, and a newer version of the software wrote it.
    """
    raw = _content(folder)
    if raw is None:
        return None
    try:
        data = strict_json(raw)
        if not isinstance(data, dict):
            raise Damaged("its record is no object")
        sound = is_sealed(raw, data)
    except (ValueError, RecursionError):
        # Also text that is no Unicode, and lists nested too deeply to be read.
        raise Damaged("its record is not JSON (truncated?)") from None
    # An edited number is noticed here, whatever its shape.
    if not sound:
        raise Damaged("its record was edited after it was committed")
    # Only now: one flipped bit makes a version of any other.
    if told := newer(data.get("schema_version")):
        raise Newer(f"its record {told}")
    try:
        record = Record.from_json(data)
    except Damaged as damaged:
        raise Damaged(f"its {RECORD} cannot be used: {damaged}") from None
    if not all(ARTEFACT.fullmatch(name) and name != RECORD for name in record.artefacts):
        raise Damaged("it names a file outside its folder")
    if record.id != cell_id:
        raise Damaged(f"its record belongs to cell {record.id}")
    if stage not in (None, record.stage):
        raise Damaged(f"its record is that of another stage, {record.stage}")
    return record


def damage_of(folder: Path, cell_id: str, stage: str | None = None) -> str:
    """What is wrong with a cell's folder, wherever it lies: its record, or the bytes of an artefact."""
    try:
        record = read_record(folder, cell_id, stage)
    except Newer:
        return ""
    except Damaged as damaged:
        return str(damaged)
    if record is None:
        return "it is missing"
    for name, sha256 in record.artefacts.items():
        if why := artefact_damage(folder / name, sha256):
            return f"{name}: {why}"
    return ""


def artefact_damage(path: Path, sha256: str) -> str:
    """What is wrong with an artefact whose bytes had this hash; empty when it is sound."""
    try:
        refuse_irregular(path, MAX_ARTEFACT)
        return "" if file_sha256(path) == sha256 else "its bytes have changed"
    except (FileNotFoundError, NotADirectoryError):
        return "it is missing"
    except OSError as error:
        if error.errno not in UNFIT:
            raise
        return str(error.strerror)


def is_done(folder: Path, cell_id: str) -> bool:
    """Whether a folder, wherever it lies, holds the record of this cell with its numbers, or a newer one."""
    try:
        record = read_record(folder, cell_id)
    except Newer:
        return True
    except Damaged:
        return False
    return record is not None and record.ok


def _content(folder: Path) -> bytes | None:
    """The bytes of a cell's record; None when there is no such folder."""
    # What happens to a folder would happen elsewhere.
    if folder.is_symlink():
        raise Damaged("its folder is a link")
    while True:
        there = bool(stamp(folder))
        with held(folder) as same:
            raw = _bytes(folder / RECORD)
            if raw is not None or not there:
                return raw
            # A folder appears with its record, so one without is damaged; unless another runner has moved it
            # away or replaced it between the two looks.
            if same():
                raise Damaged("its record is missing")


def _bytes(path: Path) -> bytes | None:
    try:
        return read_bounded(path, MAX_BYTES)
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        raise Damaged(f"{path} is not a file in a folder of its own") from None
    except OSError as error:
        if error.errno not in UNFIT:
            raise
        raise Damaged(f"its {RECORD} cannot be used: {error.strerror}") from None


def newer(version: Any) -> str:
    """Says so if a schema version is one that this software does not know; empty otherwise."""
    if not isinstance(version, int) or version <= SCHEMA_VERSION:
        return ""
    known = f"schema {version}, this one knows {SCHEMA_VERSION}"
    return f"was written by a newer secateur ({known}): update secateur"
