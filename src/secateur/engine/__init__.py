"""Where cells run. An engine hands out cell ids and tells what becomes of them; the store holds the truth."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from secateur.config import Cell

EXECUTE = "secateur.stages:execute"
"""What carries out a cell, ``module:function``, called ``(study, cell, store, *, on_progress) -> Parts``."""

Kind = Literal[
    "begin", "note", "start", "tick", "ok", "failed", "skipped", "retry", "stopping", "interrupted", "end"
]


@dataclass(frozen=True)
class Event:
    """Something that happened in a run, for whoever shows it.

    Attributes:
        kind: ``begin`` and ``end`` of the run; ``start``, ``tick``, ``ok``, ``failed``, ``skipped`` and
            ``retry`` of a cell; ``stopping`` on a first signal, ``interrupted`` when it took effect; ``note``
            for people.
        cell: the cell it is about.
        done: finished cells of the run, or finished steps of the cell for a ``tick``.
        total: cells of the run, or steps of the cell for a ``tick``.
        seconds: how long the cell or the run took.
        eta: seconds until the run ends, once that can be estimated.
        sentence: what to tell a person.
    """

    kind: Kind
    cell: Cell | None = None
    done: int = 0
    total: int = 0
    seconds: float | None = None
    eta: float | None = None
    sentence: str = ""

    def to_json(self) -> dict[str, Any]:
        """The event as plain JSON data, absent parts left out."""
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
    """What an engine says about a cell.

    ``ok`` and ``failed``: its record is committed. ``lost``: its worker died, again. ``retry``: its worker
    died and it was handed out once more. ``paused``: the machine is in trouble, ``sentence`` says how.
    ``stopped``: it ended early on request and left no record. ``ready``: a worker is up, about no cell.
    """

    kind: Literal["ready", "start", "tick", "ok", "failed", "lost", "retry", "paused", "stopped"]
    cell: str
    done: int = 0
    total: int = 0
    seconds: float = 0.0
    sentence: str = ""


class Engine(Protocol):
    """A resource that carries out cells of one run folder."""

    @property
    def slots(self) -> int:
        """How many cells can run at a time."""

    def submit(self, cell: str) -> None:
        """Hand out a cell whose parent is committed."""

    def poll(self, timeout: float) -> list[Message]:
        """What happened, waiting up to ``timeout`` seconds for something."""

    def stop(self) -> None:
        """Ask running cells to end early."""

    def close(self) -> None:
        """End everything at once; leave no process behind."""
