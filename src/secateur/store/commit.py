"""A cell is committed by one rename of a complete, synced folder: how it is written, and put in its place."""

import errno
import os
from collections.abc import Mapping
from pathlib import Path

from secateur.durable import sync_folder, write_durably
from secateur.store.faults import reach
from secateur.store.record import ARTEFACT, RECORD, SCHEMA_VERSION, Record, checked
from secateur.store.seal import sealed_text


def write_cell(folder: Path, record: Record, artefacts: Mapping[str, bytes | Path]) -> None:
    """Write artefacts and the sealed record of a cell into a new folder, and sync all of it.

    Raises:
        ValueError: the record holds a NaN or something that is not plain data, or an artefact has no name.
    """
    reach("commit.started")
    hashes = {}
    for name, content in sorted(artefacts.items()):
        hashes[name] = write_durably(folder / checked(ARTEFACT, name), content)
        reach("commit.artefact")
    body = {**record.to_json(), "artefacts": hashes, "schema_version": SCHEMA_VERSION}
    write_durably(folder / RECORD, sealed_text(body).encode())
    sync_folder(folder)
    reach("commit.record")


def put_in_place(temporary: Path, folder: Path) -> bool:
    """Give a complete folder the name of its cell; False if there is a cell of that name already."""
    try:
        os.rename(temporary, folder)  # noqa: PTH104  (Path.rename reads as a method of the target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    reach("commit.renamed")
    sync_folder(folder.parent)
    reach("commit.synced")
    return True
