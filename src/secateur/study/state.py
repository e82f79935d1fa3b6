"""The status of a run, read from its folder at any time, also while runners work on it."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from secateur.config import Cell
from secateur.store import Leases, Store
from secateur.store.reading import Look
from secateur.study.cells import Facts
from secateur.study.cost import Clock, costs_of

# The state of a cell by what a look at it tells; where there is nothing, a runner may be at work.
_STATES: Mapping[str, str] = {"ok": "ok", "failed": "failed", "damaged": "damaged", "newer": "failed"}


@dataclass(frozen=True)
class Status:
    """A run at one moment.

    Attributes:
        name: of the study.
        limited: the trial run's number of images, or None; such numbers are partial.
        stages: cells by stage and state: ok, failed, damaged, running, open.
        running: labels of the cells that a living runner holds.
        failed: label and sentence of every failed cell.
        damaged: label and sentence of every cell that the next run computes afresh.
        seconds: work that the finished cells took.
        remaining: estimated work that is left, in seconds for one worker; None before any cell finished.
        notes: remarks that runs wrote to the folder.

    >>> Status("small", None, {"train": {"ok": 2, "open": 1}}, (), (), (), 3.5, 1.5, ()).counts
    {'ok': 2, 'open': 1}
    """

    name: str
    limited: int | None
    stages: dict[str, dict[str, int]]
    running: tuple[str, ...]
    failed: tuple[tuple[str, str], ...]
    damaged: tuple[tuple[str, str], ...]
    seconds: float
    remaining: float | None
    notes: tuple[str, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Cells by state, over all stages."""
        total: Counter[str] = Counter()
        for states in self.stages.values():
            total.update(states)
        return dict(total)

    def to_json(self) -> dict[str, Any]:
        """The status as plain JSON data."""
        return {**asdict(self), "counts": self.counts}


def status(store: Store) -> Status:
    """The status of the run in this folder; its artefacts are not read.

    A record is checked once; later its file need only be the same one, untouched (:meth:`Store.look`).

    >>> import tempfile
    >>> from secateur.config import parse_study
    >>> from secateur.study import plan
    >>> study = parse_study("{name: small, data: digits, models: {plain: resnet18}, sparsities: [0.5]}")
    >>> facts = Facts("f" * 64, train=1000, validation=100, test=200, shape=(1, 8, 8), classes=10)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     status(Store.create(folder, plan(study, facts=facts).to_json())).stages
    {'train': {'open': 1}, 'prune': {'open': 1}}
    """
    held = Leases(store.root).holders()
    stages: dict[str, Counter[str]] = {}
    found: dict[str, list[tuple[Cell, Look]]] = defaultdict(list)
    for cell in store.cells:
        look = store.look(cell.id)
        state = _STATES.get(look.state) or ("running" if cell.id in held else "open")
        stages.setdefault(cell.stage, Counter())[state] += 1
        found[state].append((cell, look))
    store.keep_index()
    done = {cell.id: look.seconds for cell, look in found["ok"]}
    return Status(
        name=store.study["name"],
        limited=store.study["limited"],
        stages={stage: dict(states) for stage, states in stages.items()},
        running=tuple(cell.label for cell, _ in found["running"]),
        failed=tuple((cell.label, look.sentence) for cell, look in found["failed"]),
        damaged=tuple((cell.label, look.sentence) for cell, look in found["damaged"]),
        seconds=sum(done.values()),
        remaining=_remaining(store, done),
        notes=tuple(str(note["note"]) for note in store.notes()),
    )


def _remaining(store: Store, done: Mapping[str, float]) -> float | None:
    left = [cell for cell in store.cells if cell.id not in done]
    if not left:
        return 0.0
    clock = Clock(costs_of(store.cells, Facts.from_json(store.study["facts"])))
    for cell in store.cells:
        if cell.id in done:
            clock.learn(cell, done[cell.id])
    return clock.remaining(left, 1)
