"""``study.json``: which study a run folder belongs to. Any other study is refused, with the differences."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from secateur.errors import ExitCode, UserError
from secateur.hashing import canonical, digest, sha256_hex
from secateur.store.files import strict_json
from secateur.store.record import newer
from secateur.store.science import Damaged
from secateur.store.study_shape import StudyShape
from secateur.untrusted import UNFIT, read_bounded

STUDY = "study.json"
MAX_BYTES = 2**28
SHOWN = 12


class DamagedStudy(UserError):
    """``study.json`` is not what was written; the same study can write it anew."""


def match_study(
    root: Path, study: Callable[[], Mapping[str, Any]], *, study_hash: str, known: str = ""
) -> tuple[dict[str, Any], str]:
    """The content of the study.json of ``root``, and the sha256 of its bytes; see :func:`whole_study`.

    Raises:
        UserError: it is not that of ``study``, or as :func:`read_study`.
    """
    present, sha256 = whole_study(root, known=known)
    if present["study_hash"] != study_hash:
        raise _foreign(root, present, canonical(study()))
    return present, sha256


def study_hash_of(root: Path) -> str | None:
    """The hash of the cells of the study that ``root`` belongs to; None if there is none that can be read."""
    with suppress(UserError):
        return str(read_study(root)["study_hash"])
    return None


def read_study(root: Path, name: str = STUDY) -> dict[str, Any]:
    """The content of ``study.json``.

    Raises:
        UserError: there is none, it is damaged, or a newer version of the software wrote it.
    """
    return whole_study(root, name)[0]


def whole_study(root: Path, name: str = STUDY, *, known: str = "") -> tuple[dict[str, Any], str]:
    """As :func:`read_study`, and the sha256 of the bytes.

    Bytes of the sha256 ``known`` were found whole before: their seal and shape are not checked again.
    """
    path = root / name
    try:
        raw = read_bounded(path, MAX_BYTES)
        sha256 = sha256_hex(raw)
        study = strict_json(raw)
        if sha256 == known:
            return study, sha256
        sealed = isinstance(study, dict) and sealed_study(study)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{root} is not a run folder: it has no {STUDY}") from None
    except OSError as error:
        if error.errno not in UNFIT:
            raise
        raise _damaged(path, str(error.strerror)) from None
    except (ValueError, RecursionError):
        raise _damaged(path, "it is not JSON (truncated?)") from None
    if not isinstance(study, dict):
        raise _damaged(path, "it is not an object")
    # The seal first: one flipped bit makes a version, or a name, of any other.
    if sealed != study:
        try:
            StudyShape.from_json(study)
        except Damaged as damaged:
            raise _damaged(path, str(damaged)) from None
        raise _damaged(path, "it was edited after the study began", code=ExitCode.FOREIGN_FOLDER)
    if told := newer(study.get("schema_version")):
        raise UserError(f"{path} {told}", code=ExitCode.FOREIGN_FOLDER)
    try:
        StudyShape.from_json(study)
    except Damaged as damaged:
        raise _damaged(path, str(damaged)) from None
    return study, sha256


def _damaged(path: Path, why: str, *, code: ExitCode = ExitCode.BAD_INPUT) -> DamagedStudy:
    return DamagedStudy(
        f"{path} is damaged: {why}",
        hint=f"run the study file that it was made with, with out='{path.parent}': "
        "it is written anew, and finished cells are kept",
        command=f"run the study file that it was made with, with --out {path.parent}: "
        "it is written anew, and finished cells are kept",
        code=code,
    )


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
        hint=f"choose another folder by out=; reuse=['{root}'] takes over the cells they share",
        command=f"choose another folder with --out; --reuse {root} takes over the cells they share",
        code=ExitCode.FOREIGN_FOLDER,
    )
