"""Who owns a run folder: of several studies that start in one new folder, exactly one becomes its study."""

import errno
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from secateur.durable import sync_folder, write_durably
from secateur.errors import UserError
from secateur.hashing import canonical
from secateur.store.faults import reach
from secateur.store.files import append_line, children, readable_json, replace_json, writer_mark
from secateur.store.latencies import LATENCIES
from secateur.store.leftovers import QUARANTINE
from secateur.store.record import CELL_ID, SCHEMA_VERSION
from secateur.store.study_file import STUDY, DamagedStudy, match_study, read_study, sealed_study
from secateur.untrusted import own_folder

# What secateur itself writes into a run folder.
OWN = {"cells", "tmp", "scratch", QUARANTINE, "leases", "notes.jsonl", "logs", "report", LATENCIES}
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EACCES}


def claim_folder(root: Path, study: Mapping[str, Any]) -> dict[str, Any]:
    """Make ``root`` the run folder of ``study`` unless it already is; returns the content of its study.json.

    A damaged study.json goes to the quarantine and is written anew if the folder has cells of ``study`` only.

    Raises:
        UserError: it belongs to another study, holds foreign files, or is not suitable for results.
    """
    _refuse_unsafe(root)
    sealed, healing = _sealed(study), False
    while True:
        if not (root / STUDY).exists():
            if not healing:
                _refuse_foreign_files(root)
            root.mkdir(parents=True, exist_ok=True)
            own_folder(root, "cells")
            if _create(root / STUDY, sealed):
                return sealed
        # Of this study or of another one: a runner may have been faster a moment ago.
        try:
            present, _ = match_study(root, lambda: sealed, study_hash=sealed["study_hash"])
        except DamagedStudy as damaged:
            _refuse_other_cells(root, sealed, damaged)
            _set_aside(root, damaged)
            healing = True
            continue
        if present != sealed:  # the same cells under other settings of the run, such as threads
            replace_json(root / STUDY, sealed)
        return sealed


def study_of_folder(
    root: Path, study: Callable[[], Mapping[str, Any]], *, study_hash: str, known: str = ""
) -> tuple[dict[str, Any], str]:
    """The content of the study.json of ``root`` if it is that of ``study``, or would be; changes nothing.

    Returns:
        The content, and the sha256 of the file's bytes; "" of what would be written. ``known`` is for
        :func:`secateur.store.study_file.whole_study`.

    Raises:
        UserError: the folder belongs to another study.
    """
    try:
        return match_study(root, study, study_hash=study_hash, known=known)
    except DamagedStudy as damaged:
        sealed = _sealed(study())
        _refuse_other_cells(root, sealed, damaged)
        return sealed, ""


def _sealed(study: Mapping[str, Any]) -> dict[str, Any]:
    return sealed_study({**canonical(study), "schema_version": SCHEMA_VERSION})


def _create(path: Path, content: Mapping[str, Any]) -> bool:
    """Write ``path`` in one step; False, and nothing is changed, when there is such a file already."""
    temporary = path.with_name(f"{path.name}.{writer_mark()}.tmp")
    try:
        write_durably(temporary, readable_json(content).encode())
        reach("study.written")
        _link(temporary, path)
        reach("study.replaced")
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)
    return True


def _link(source: Path, target: Path) -> None:
    # A rename would replace the file of a faster runner; of two that link a new name, one fails.
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # A file system without links. Here a crash may leave half of the file: it is then written anew.
        write_durably(target, source)


def _refuse_other_cells(root: Path, study: Mapping[str, Any], damaged: DamagedStudy) -> None:
    """Refuse to write a damaged study.json anew for another study than that of the cells in the folder."""
    known = {cell["id"] for cell in study["cells"]}
    strange = [cell for cell in _cells_in(root) if cell not in known]
    if strange:
        raise UserError(
            f"{damaged.message}; {len(strange)} of the cells in it are not of the study '{study['name']}'",
            hint="run the study file that it was made with; its finished cells are then kept",
            code=damaged.code,
        )


def _cells_in(root: Path) -> Iterator[str]:
    for shelf in children(root / "cells"):
        yield from (cell.name for cell in children(shelf) if CELL_ID.fullmatch(cell.name))


def _set_aside(root: Path, damaged: DamagedStudy) -> None:
    path, target = root / STUDY, root / QUARANTINE / f"{STUDY}.{writer_mark()}"
    own_folder(root, QUARANTINE)
    with suppress(FileNotFoundError):
        path.rename(target)
        # Another runner may have written it anew since the damage was seen.
        with suppress(UserError):
            read_study(target.parent, target.name)
            with suppress(FileExistsError):
                _link(target, path)
            target.unlink()
            return
        sentence = f"{STUDY} was moved to {target.relative_to(root)} and written anew: {damaged.message}"
        append_line(root / "notes.jsonl", {"note": sentence})


def _refuse_unsafe(root: Path) -> None:
    resolved, unsafe = root.resolve(), [Path(root.resolve().anchor)]
    with suppress(RuntimeError):  # a user without a name, as in a container, may have no home
        unsafe.append(Path.home().resolve())
    if resolved in unsafe:
        raise UserError(f"{resolved} is not suitable for results", hint="name a folder, such as runs/demo")
    if root.exists() and not root.is_dir():
        raise UserError(f"{root} is a file, not a folder")
    if root.is_symlink() and not root.exists():
        raise UserError(f"{root} is a link to a folder that is not there", hint="make it, or remove the link")


def _refuse_foreign_files(root: Path) -> None:
    strange = [path.name for path in children(root) if not _ours(path.name)]
    if strange:
        raise UserError(
            f"{root} holds other files ({', '.join(strange[:3])}{', ...' if len(strange) > 3 else ''})",
            hint="results go into a folder of their own",
        )


def _ours(name: str) -> bool:
    # A run that died before study.json had its name leaves a temporary file, and must be able to start again.
    # study.json itself appears here when another runner is faster; it is compared afterwards.
    return name in OWN or name == STUDY or (name.startswith(STUDY) and name.endswith(".tmp"))
