"""The folder of a check: what is finished is kept, so that an interrupted check goes on where it was."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from secateur.durable import write_durably
from secateur.errors import ExitCode, UserError
from secateur.untrusted import own_folder

WORK, KEY = "work", "check.json"


def claim(folder: Path, key: Mapping[str, Any]) -> Path:
    """The folder for intermediate results of the check that ``key`` describes, created if it is missing.

    Args:
        folder: of the whole check; empty, missing, or of the same check.
        key: everything that the results depend on, as JSON.

    Raises:
        UserError: the folder holds another check, or something else (code FOREIGN_FOLDER).
    """
    work = folder / WORK
    wanted = json.loads(json.dumps(key))
    found = read(work / KEY)
    trouble = ""
    if found is None and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        trouble = "exists and holds no check"
    if found is not None and found != wanted:
        names = sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))
        trouble = f"holds a check with another {', '.join(names)}"
    if trouble:
        raise UserError(
            f"{folder} {trouble}",
            hint="choose another folder by out=",
            command="choose another folder with --out",
            code=ExitCode.FOREIGN_FOLDER,
        )
    folder.mkdir(parents=True, exist_ok=True)
    # The folder may come from somebody else: nothing in it leads what is written elsewhere.
    work = own_folder(folder, WORK)
    if found is None:
        write(work / KEY, wanted)
    return work


def remembered(path: Path, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The JSON object in the file ``path``; computed and written first if there is none.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     first = remembered(Path(folder) / "answer.json", lambda: {"answer": 42})
    ...     again = remembered(Path(folder) / "answer.json", lambda: {"answer": 0})
    >>> again
    {'answer': 42}
    """
    found = read(path)
    if found is None:
        found = json.loads(json.dumps(compute(), allow_nan=False))
        write(path, found)
    return found


def read(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None if the file is missing or damaged: then it is computed again."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def write(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object in one step: after a crash the file is whole, or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.tmp")
    # A crash in an earlier write may have left it.
    draft.unlink(missing_ok=True)
    write_durably(draft, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode())
    draft.replace(path)
