"""The commands status, show and gc: look at a run folder, at one of its cells, and tidy it up."""

import time
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from secateur.cli.completion import cell_names
from secateur.cli.options import Folder, Json
from secateur.cli.output import note, print_json, print_table, say
from secateur.errors import UserError
from secateur.text import counted, duration, first_few

if TYPE_CHECKING:
    from secateur.config import Cell
    from secateur.store import AttackScience, Record, Store
    from secateur.study import Status

# The columns that fit into 80 characters; --json has all of them.
STATES = {"ok": "done", "failed": "failed", "damaged": "damaged", "running": "running", "open": "open"}
MATCHES = 4


def status(
    folder: Folder,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Look again and again, until no cell is left.")
    ] = False,
    every: Annotated[float, typer.Option(min=0.1, help="With --watch: seconds between two looks.")] = 5.0,
    as_json: Json = False,
) -> None:
    """Show the progress of a run: finished, running and failed cells, and the time left."""
    from secateur.store import Store
    from secateur.study import status as look

    store = Store.open(folder)
    screen = Console()
    while True:
        told = look(store)
        if watch and screen.is_terminal and not as_json:
            screen.clear()
        _print_status(folder, told, as_json=as_json)
        if not watch or not told.counts.keys() & {"open", "running", "damaged"}:
            return
        time.sleep(every)
        if not store.present():
            raise UserError(f"{folder} is no longer there", hint="was the disk taken away?")


def show(
    folder: Folder,
    cell: Annotated[
        str,
        typer.Argument(
            help="Its id, the beginning of it, or words of its label, as 'attack plain/0 l1 0.5 ddn'.",
            show_default=False,
            autocompletion=cell_names,
        ),
    ],
    as_json: Json = False,
) -> None:
    """Show one cell of a run: its state, its numbers, how it was made, and why it failed."""
    from secateur.store import Store

    store = Store.open(folder)
    chosen = find(store, cell)
    record, damage = store.record(chosen.id), store.damage(chosen.id)
    newer = store.newer(chosen.id)
    state = "damaged" if damage and not newer else record.status if record else "open"
    if as_json:
        print_json(
            {
                "schema_version": 1,
                "cell": chosen.to_json(),
                "label": chosen.label,
                "state": "failed" if newer else state,
                "damage": newer or damage or None,
                "record": record.to_json() if record else None,
            }
        )
        return
    say(f"{chosen.label}: {'failed' if newer else STATES[state]}")
    if newer or damage:
        say(newer or f"damaged: {damage}; the next run computes it afresh")
    for name, value in facts(store, chosen, record):
        say(f"  {name:<18} {value}")
    if record and record.error and record.error.traceback:
        say(record.error.traceback.rstrip())


def gc(
    folder: Folder,
    quarantine: Annotated[
        bool, typer.Option("--quarantine", help="Also delete the damaged cells that runs set aside.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would go, and delete nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Delete what dead processes left half-written in a run folder; no finished cell is touched."""
    from secateur.store import Store

    store = Store.open(folder)
    sizes = {path: size_of(path) for path in store.gc(quarantine=quarantine, dry_run=True)}
    if not dry_run:
        store.gc(quarantine=quarantine)
    if as_json:
        told = {str(path.relative_to(folder)): size for path, size in sizes.items()}
        print_json({"schema_version": 1, "deleted": not dry_run, "bytes": told})
        return
    for path, size in sizes.items():
        say(f"{path.relative_to(folder)}  {size / 1e6:.1f} MB")
    verb = "would go" if dry_run else "deleted"
    say(f"{counted(len(sizes), 'leftover')} {verb}, {sum(sizes.values()) / 1e6:.1f} MB")


COMMANDS = (status, show, gc)


def find(store: "Store", wanted: str) -> "Cell":
    """The cell with this id, beginning of an id, label, or words of a label.

    Raises:
        UserError: no cell matches, or several do.
    """
    words = wanted.split()
    if not words:
        raise UserError("no cell is named", hint="give its id or words of its label")
    exact = [cell for cell in store.cells if wanted in (cell.id, cell.label)]
    found = exact or [
        cell
        for cell in store.cells
        if (len(wanted) >= 4 and cell.id.startswith(wanted)) or set(words) <= set(cell.label.split())
    ]
    if len(found) == 1:
        return found[0]
    if not found:
        labels = first_few([cell.label for cell in store.cells], 3, between="; ")
        raise UserError(f"no cell of {store.root} matches '{wanted}'", hint=f"its cells are {labels}")
    labels = first_few([f"{cell.label} ({cell.id[:8]})" for cell in found], MATCHES, between="; ")
    raise UserError(f"{len(found)} cells match '{wanted}': {labels}", hint="give more words, or the id")


def facts(store: "Store", cell: "Cell", record: "Record | None") -> list[tuple[str, str]]:
    """Name and value of everything that is known about a cell, for people."""
    labels = {other.id: other.label for other in store.cells}
    found = [("id", cell.id), ("compared as", cell.role.replace("_", " "))]
    if cell.parent:
        found.append(("starts from", labels.get(cell.parent, cell.parent)))
    if record is None:
        return found
    if record.reason:
        found.append(("failed because", record.reason))
    if record.science is not None:
        found += numbers(record)
    found += [(f"file {name}", digest[:12]) for name, digest in sorted(record.artefacts.items())]
    found.append(("took", duration(record.timing.seconds)))
    made = record.provenance
    if (first := made.get("same_as")) is not None:
        found.append(("numbers of", labels.get(str(first), str(first))))
    for key in ("finished", "host", "device", "torch", "secateur"):
        if made.get(key) is not None:
            found.append((key, str(made[key])))
    return found


def numbers(record: "Record") -> list[tuple[str, str]]:
    """The numbers of a finished cell; those of an attack as counts of images, beside its grade."""
    from secateur.store import AttackScience, NetworkScience, PruneScience

    science = record.science
    if isinstance(science, AttackScience):
        return _of_attack(science)
    if not isinstance(science, NetworkScience):
        return []
    found = [
        (
            "test accuracy",
            f"{100 * science.accuracy.test:.1f} %{' (near chance)' if science.collapsed else ''}",
        ),
        ("parameters", f"{science.parameters:,}"),
        ("multiply-adds", f"{science.macs:,}"),
    ]
    if isinstance(science, PruneScience):
        asked, got = science.sparsity_requested, science.sparsity_achieved
        found.append(("channels removed", f"{100 * got:.1f} %, {100 * asked:g} % asked"))
        error = science.proof.max_error
        words = "weights are masked, nothing was removed" if error is None else f"{error:.1e}"
        found.append(("largest error", words))
    epoch = getattr(science, "best_epoch", None)
    if epoch is not None:
        found.append(("best epoch", str(epoch)))
    return found + [("note", said) for said in science.notes]


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder; links are not followed."""
    inside = path.rglob("*") if path.is_dir() and not path.is_symlink() else [path]
    return sum(each.lstat().st_size for each in inside if not each.is_dir() or each.is_symlink())


def _of_attack(science: "AttackScience") -> list[tuple[str, str]]:
    n, outcomes = len(science.outcome), [str(outcome) for outcome in science.outcome]
    words = {"found": "found", "not_found": "not found", "already_wrong": "wrong before"}
    counts = ", ".join(f"{outcomes.count(key)} {said}" for key, said in words.items())
    found = [
        ("attack", f"{science.attack or 'unknown'}, norm {science.norm}"),
        ("images", f"{n}: {counts}"),
        ("grade", science.grade),
    ]
    return found + [(f"failed {check.id}", check.sentence) for check in science.checks if not check.passed]


def _print_status(folder: Path, told: "Status", *, as_json: bool) -> None:
    if as_json:
        failed: list[dict[str, Any]] = [
            {"cell": label, "sentence": sentence} for label, sentence in told.failed
        ]
        print_json({**told.to_json(), "failed": failed})
        return
    rows = [
        (stage, *(str(states.get(state, 0)) for state in STATES)) for stage, states in told.stages.items()
    ]
    print_table(f"{told.name} in {folder}", ("stage", *STATES.values()), rows)
    for line in _remarks(told):
        say(line)
    if told.failed:
        note(f"more on a cell: secateur show {quote(str(folder))} '{told.failed[0][0]}'")


def _remarks(told: "Status") -> list[str]:
    lines = [f"running: {label}" for label in told.running]
    lines += [f"failed: {label}: {sentence}" for label, sentence in told.failed]
    lines += [
        f"damaged: {label}: {sentence}; the next run computes it afresh" for label, sentence in told.damaged
    ]
    lines += [f"note: {sentence}" for sentence in told.notes]
    if told.limited is not None:
        lines.append(f"these numbers are partial: --limit {told.limited}")
    if told.remaining:
        lines.append(f"about {duration(told.remaining)} of work left for one job")
    return lines
