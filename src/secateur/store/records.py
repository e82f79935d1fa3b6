"""One record: how it is spelled, and how damage is noticed."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from secateur.errors import ExitCode, UserError
from secateur.hashing import digest
from secateur.store.files import strict_json

SCHEMA_VERSION = 1
RECORD = "record.json"
ARTEFACT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
CELL_ID = re.compile(r"[0-9a-f]{8,64}")
NEEDED = {"schema_version", "id", "stage", "status", "axes", "role", "settings", "artefacts", "self_hash"}


class Damaged(Exception):
    """A record or artefact is not what was committed; the message says how."""


def sealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """``record`` with its schema version and the hash of everything else in it."""
    body = {**record, "schema_version": SCHEMA_VERSION}
    body.pop("self_hash", None)
    return {**body, "self_hash": digest(body)}


def read_record(folder: Path, cell_id: str) -> dict[str, Any] | None:
    """The record in a cell's folder; None when there is no such folder.

    Raises:
        Damaged: it is truncated, edited, or of another cell.
        UserError: a newer version of the software wrote it.
    """
    try:
        raw = (folder / RECORD).read_bytes()
    except FileNotFoundError:
        if folder.is_dir():
            raise Damaged("its record is missing") from None
        return None
    try:
        record = strict_json(raw)
    except ValueError:
        raise Damaged("its record is not JSON (truncated?)") from None
    if not isinstance(record, dict) or not record.keys() >= NEEDED:
        raise Damaged("its record lacks fields")
    refuse_newer(record.get("schema_version"), folder / RECORD)
    body = {key: value for key, value in record.items() if key != "self_hash"}
    if digest(body) != record["self_hash"]:
        raise Damaged("its record was edited after it was committed")
    if not all(ARTEFACT.fullmatch(name) and name != RECORD for name in record["artefacts"]):
        raise Damaged("it names a file outside its folder")
    if record["id"] != cell_id:
        raise Damaged(f"its record belongs to cell {record['id']}")
    return record


def refuse_newer(version: Any, path: Path) -> None:
    """Raise a UserError when ``path`` has a schema version that this software does not know."""
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise UserError(
            f"{path} was written by a newer secateur (schema {version}, this one knows {SCHEMA_VERSION})",
            hint="update secateur",
            code=ExitCode.FOREIGN_FOLDER,
        )
