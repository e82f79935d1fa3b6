"""``study.json``: which study a run folder belongs to. Any other study is refused, with the differences."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from secateur.config import Role, Stage
from secateur.errors import ExitCode, UserError
from secateur.hashing import canonical, digest
from secateur.store.files import replace_json, strict_json
from secateur.store.record import CELL_ID, SCHEMA_VERSION, refuse_newer
from secateur.store.science import Damaged, Fields

STUDY = "study.json"
SHOWN = 12
# What secateur itself writes into a run folder.
OWN = {"cells", "tmp", "scratch", "quarantine", "leases", "notes.jsonl", "logs", "report"}


class _Axes(Fields):
    model: str
    seed: int
    criterion: str | None
    sparsity: float | None
    arm: str | None
    attack: str | None


class _Cell(Fields):
    id: Annotated[str, Field(pattern=rf"^{CELL_ID.pattern}$")]
    stage: Stage
    parent: str | None
    axes: _Axes
    role: Role
    settings: dict[str, Any]


class _StudyFile(Fields):
    name: str
    study_hash: str
    config: dict[str, Any]
    facts: dict[str, Any]
    science: dict[str, Any]
    limited: int | None
    cells: list[_Cell]


def claim_folder(root: Path, study: Mapping[str, Any]) -> dict[str, Any]:
    """Make ``root`` the run folder of ``study`` unless it already is; returns the content of its study.json.

    Raises:
        UserError: it belongs to another study, holds foreign files, or is not suitable for results.
    """
    _refuse_unsafe(root)
    wanted = {**canonical(study), "schema_version": SCHEMA_VERSION}
    if not (root / STUDY).exists():
        _refuse_foreign_files(root)
        (root / "cells").mkdir(parents=True, exist_ok=True)
    # Looked up again: another runner of the same study may have been faster.
    if (root / STUDY).exists():
        present = match_study(root, wanted)
        if present == sealed_study(wanted):
            return present
    sealed = sealed_study(wanted)
    replace_json(root / STUDY, sealed)
    return sealed


def match_study(root: Path, study: Mapping[str, Any]) -> dict[str, Any]:
    """The content of the study.json of ``root``. Raises UserError if it is not that of ``study``."""
    present = read_study(root)
    if present["study_hash"] != study["study_hash"]:
        raise _foreign(root, present, canonical(study))
    return present


def read_study(root: Path) -> dict[str, Any]:
    """The content of ``study.json``.

    Raises:
        UserError: there is none, it is damaged, or a newer version of the software wrote it.
    """
    path = root / STUDY
    try:
        study = strict_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{root} is not a run folder: it has no {STUDY}") from None
    except (ValueError, RecursionError):
        raise _damaged(path, "it is not JSON") from None
    if not isinstance(study, dict):
        raise _damaged(path, "it is not an object")
    refuse_newer(study.get("schema_version"), path)
    try:
        _StudyFile.from_json(study)
        sealed = sealed_study(study)
    except Damaged as damaged:
        raise _damaged(path, str(damaged)) from None
    except (ValueError, RecursionError):
        raise _damaged(path, "it is not JSON") from None
    if sealed != study:
        raise UserError(
            f"{path} was edited after the study began",
            hint="put the changes into the study file and use a new folder",
            code=ExitCode.FOREIGN_FOLDER,
        )
    return study


def _damaged(path: Path, why: str) -> UserError:
    return UserError(f"{path} is damaged: {why}", hint="restore it, or use a new folder")


def sealed_study(study: Mapping[str, Any]) -> dict[str, Any]:
    """``study`` with the hash of everything else in it."""
    body = {key: value for key, value in study.items() if key != "self_hash"}
    return {**body, "self_hash": digest(body)}


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """The settings in which two studies differ, a sentence each, for the error that refuses the folder."""
    sides = []
    for side in (ours, theirs):
        plugins = {f"plugin {plugin['file']}": plugin["version"] for plugin in side.get("plugins", ())}
        versions = {"science": side.get("science", {}), **plugins}
        sides.append(_flat({**side.get("config", {}), **side.get("facts", {}), **versions}))
    keys = sorted({key for side in sides for key in side if sides[0].get(key) != sides[1].get(key)})
    shown = [(key, *(side.get(key, "nothing") for side in sides)) for key in keys]
    return [f"{key}: {there} in the folder, {here} now" for key, there, here in shown]


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping):
        found: dict[str, Any] = {}
        for key, item in value.items():
            found |= _flat(item, f"{prefix}.{key}" if prefix else str(key))
        return found
    return {prefix: value}


def _foreign(root: Path, present: Mapping[str, Any], wanted: Mapping[str, Any]) -> UserError:
    lines = differences(present, wanted)
    more = [f"... and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    listing = "\n".join(f"  {line}" for line in [*lines[:SHOWN], *more])
    return UserError(
        f"{root} belongs to another study, '{present.get('name')}':\n{listing}",
        hint=f"choose another folder with --out; --reuse {root} takes over the cells they share",
        code=ExitCode.FOREIGN_FOLDER,
    )


def _refuse_unsafe(root: Path) -> None:
    resolved = root.resolve()
    if resolved in (Path(resolved.anchor), Path.home().resolve()):
        raise UserError(f"{resolved} is not suitable for results", hint="name a folder, such as runs/demo")
    if root.exists() and not root.is_dir():
        raise UserError(f"{root} is a file, not a folder")


def _refuse_foreign_files(root: Path) -> None:
    if not root.is_dir():
        return
    strange = sorted(path.name for path in root.iterdir() if not _ours(path.name))
    if strange:
        raise UserError(
            f"{root} holds other files ({', '.join(strange[:3])}{', ...' if len(strange) > 3 else ''})",
            hint="results go into a folder of their own",
        )


def _ours(name: str) -> bool:
    # A run that died before study.json had its name leaves a temporary file, and must be able to start again.
    # study.json itself appears here when another runner is faster; it is compared afterwards.
    return name in OWN or name == STUDY or (name.startswith(STUDY) and name.endswith(".tmp"))
