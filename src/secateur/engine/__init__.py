"""Where cells run: an engine takes cell ids and reports messages about them; records go to the store."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from secateur.config import Cell

EXECUTE = "secateur.stages:execute"
"""What computes a cell, ``module:function``, called as ``(study, cell, store, *, on_progress) -> Parts``."""

Kind = Literal[
    "begin", "note", "start", "tick", "ok", "failed", "skipped", "retry", "stopping", "interrupted", "end"
]


@dataclass(frozen=True)
class Event:
    """Something that happened in a run, for progress displays.

    Attributes:
        kind: ``begin`` and ``end`` of the run; ``start``, ``tick``, ``ok``, ``failed``, ``skipped`` and
            ``retry`` of a cell; ``stopping`` after a first signal, ``interrupted`` once cells have stopped;
            ``note`` for a remark.
        cell: the cell it is about.
        done: finished cells of the run, or finished steps of the cell for a ``tick``.
        total: cells of the run, or steps of the cell for a ``tick``.
        seconds: duration of the cell or the run.
        eta: estimated seconds until the run ends; None while there is no estimate.
        sentence: a message for the user.

    >>> Event("end", done=18, total=18, seconds=3.5).to_json()
    {'event': 'end', 'done': 18, 'total': 18, 'seconds': 3.5}
    """

    kind: Kind
    cell: Cell | None = None
    done: int = 0
    total: int = 0
    seconds: float | None = None
    eta: float | None = None
    sentence: str = ""

    def to_json(self) -> dict[str, Any]:
        """The event as plain JSON data, without fields that are None."""
        cell: Mapping[str, Any] = {}
        if self.cell:
            cell = {"id": self.cell.id, "stage": self.cell.stage, "label": self.cell.label}
        parts = {
            "event": self.kind,
            "cell": cell or None,
            "done": self.done,
            "total": self.total,
            "seconds": self.seconds,
            "eta": self.eta,
            "sentence": self.sentence or None,
        }
        return {key: value for key, value in parts.items() if value is not None}


@dataclass(frozen=True)
class Message:
    """A message of an engine about a cell.

    ``ok`` and ``failed``: its record is committed. ``retry``: its worker died and the cell is submitted once
    more; ``lost``: its worker died again. ``paused``: the machine has a problem, which ``sentence`` names.
    ``stopped``: it ended early on request, without a record. ``ready``: a worker has started; no cell.
    ``alive``: its worker computes, reads or writes, although it has nothing to say. ``silent``: it has made
    no step for very long, though its worker is busy.

    >>> Message("failed", "0" * 32, sentence="out of memory").kind
    'failed'
    """

    kind: Literal[
        "ready", "start", "tick", "ok", "failed", "lost", "retry", "paused", "stopped", "alive", "silent"
    ]
    cell: str
    done: int = 0
    total: int = 0
    seconds: float = 0.0
    sentence: str = ""


class Engine(Protocol):
    """A resource that computes cells of one run folder."""

    @property
    def slots(self) -> int:
        """How many cells can run at a time."""

    def submit(self, cell: str) -> None:
        """Compute a cell whose parent is committed."""

    def poll(self, timeout: float) -> list[Message]:
        """New messages, waiting up to ``timeout`` seconds for the first."""

    def stop(self) -> None:
        """Ask running cells to end early."""

    def close(self) -> None:
        """End all cells and processes at once."""
