"""What may be deleted or set aside in a run folder: halves left by dead processes, and damaged cells."""

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from secateur.store.faults import reach
from secateur.store.files import children, machine_errors, writer_is_gone, writer_mark
from secateur.store.record import CELL_ID, damage_of, is_done
from secateur.untrusted import own_folder

QUARANTINE = "quarantine"


def sweep(
    root: Path, committed: Callable[[str], bool], *, quarantine: bool = False, dry_run: bool = False
) -> list[Path]:
    """Delete what dead processes left half-written, and the scratch and leases of finished cells; what went.

    Names that are not ours are left alone: the folder may be looked at with other programs.

    Args:
        root: the run folder.
        committed: whether the cell with an id is done.
        quarantine: also delete the damaged cells that were set aside.
        dry_run: only list what would go.
    """
    gone = _leftovers(root, committed, quarantine=quarantine)
    for path in () if dry_run else gone:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return gone


def _leftovers(root: Path, committed: Callable[[str], bool], *, quarantine: bool) -> list[Path]:
    def done(path: Path) -> bool:
        cell_id = path.name.partition(".")[0]
        return CELL_ID.fullmatch(cell_id) is not None and committed(cell_id)

    gone = [path for path in _inside(root, "tmp") if writer_is_gone(path.name)]
    gone += [path for path in _inside(root, "scratch") if done(path)]
    gone += [path for path in _inside(root, "leases") if done(path)]
    gone += [path for path in children(root) if path.suffix == ".tmp" and writer_is_gone(path.stem)]
    if quarantine:
        gone += [path for path in _inside(root, QUARANTINE) if CELL_ID.fullmatch(path.name.partition(".")[0])]
    return gone


def _inside(root: Path, name: str) -> list[Path]:
    """The entries of a folder; none of one that is a link, behind which nothing is ours to delete."""
    return [] if (root / name).is_symlink() else list(children(root / name))


def set_aside(root: Path, cell: Path, stage: str | None = None) -> Path | None:
    """Move the folder of a damaged cell to the quarantine; its place there, or None if it was not damaged.

    Another runner may have put a sound cell there since the damage was seen.
    """
    target = root / QUARANTINE / f"{cell.name}.{writer_mark()}"
    with machine_errors(root):
        own_folder(root, QUARANTINE)
        moved = _moved(cell, target, unless=lambda folder: not damage_of(folder, cell.name, stage))
        if moved:
            reach("quarantine.moved")
    return target if moved else None


def discard_failure(root: Path, cell: Path) -> None:
    """Delete the record of a failed cell, unless another runner has put a finished one there meanwhile."""
    old = root / "tmp" / f"{cell.name}.{writer_mark()}"
    if _moved(cell, old, unless=lambda folder: is_done(folder, cell.name)):
        shutil.rmtree(old, ignore_errors=True)


def _moved(cell: Path, target: Path, *, unless: Callable[[Path], bool]) -> bool:
    """Move a cell's folder away, look at what was moved, and put it back if it was another than expected."""
    with suppress(FileNotFoundError):
        cell.rename(target)
        if not unless(target):
            return True
        # A third runner may have been faster still; then its cell stands, and this one is a copy of it.
        with suppress(OSError):
            target.rename(cell)
    return False
