"""What a planned study takes on many devices, in time and money, and what it waits for."""

import heapq
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from secateur.study.cost import Clock
from secateur.study.planning import StudyPlan
from secateur.study.scheduler import make_board

# So much longer than the work shared out evenly, and devices have waited for something.
EVEN = 1.05


@dataclass(frozen=True)
class Stage:
    """What the cells of one stage take, over all devices.

    Attributes:
        cells: how many are left to run.
        seconds: of a device, in all.
        longest: seconds of the longest cell.
        bytes: what they write.
    """

    cells: int
    seconds: float
    longest: float
    bytes: int


@dataclass(frozen=True)
class Forecast:
    """A run on some devices.

    Attributes:
        devices: each computes one cell at a time.
        seconds: until the last cell is done.
        busy: the share of that time for which a device computes, on average, in [0, 1].
        chain_seconds: of the longest chain of cells that wait for one another, which no number beats.
        chain: labels of its cells.
        stages: by stage.

    >>> Forecast(2, 3600.0, 0.5, 3600.0, ("train plain/0",), {}).device_hours
    2.0
    """

    devices: int
    seconds: float
    busy: float
    chain_seconds: float
    chain: tuple[str, ...]
    stages: Mapping[str, Stage]

    @property
    def device_hours(self) -> float:
        """Hours to pay for: all devices from the beginning to the end."""
        return self.devices * self.seconds / 3600

    @property
    def waits(self) -> bool:
        """Whether devices wait for cells, rather than cells for devices."""
        return self.busy < 1 / EVEN

    def to_json(self) -> dict[str, Any]:
        """The forecast as plain JSON data."""
        return {**asdict(self), "device_hours": self.device_hours, "waits": self.waits}


def forecast(laid: StudyPlan, devices: int, *, tflops: float | None = None) -> Forecast:
    """Play the rest of a study through: every device takes the ready cell with the longest chain below it.

    Args:
        laid: a plan with a probe.
        devices: how many; each computes one cell at a time.
        tflops: 10¹² floating-point operations that a device carries out in a second, in place of the speed
            that the probe measured here. A multiply-add is two; the sustained rate, not that of the data
            sheet.

    Raises:
        ValueError: the plan has no probe.

    >>> from secateur.config import parse_study
    >>> from secateur.study import Facts, plan
    >>> study = parse_study("{name: small, data: digits, models: {plain: resnet-tiny}, sparsities: [0.5]}")
    >>> facts = Facts("f" * 64, train=1000, validation=100, test=200, shape=(1, 8, 8), classes=10)
    >>> laid = plan(study, facts=facts, probe=True)
    >>> [forecast(laid, devices, tflops=1.0).waits for devices in (1, 2)]
    [False, True]
    """
    if laid.todo and not laid.speeds:
        raise ValueError("a plan without a probe has no times")
    speeds = laid.speeds
    if tflops is not None:
        speeds = {m: replace(each, seconds=2 * each.macs / (tflops * 1e12)) for m, each in speeds.items()}
    clock = Clock(laid.costs, speeds)
    seconds = {cell.id: clock.seconds(cell) or 0.0 for cell in laid.todo}
    end = _played(laid, seconds, devices)
    total = sum(seconds.values())
    chain, whole = _chain(laid, seconds)
    return Forecast(
        devices=devices,
        seconds=end,
        busy=total / (devices * end) if end else 1.0,
        chain_seconds=whole,
        chain=chain,
        stages=_stages(laid, seconds),
    )


def _played(laid: StudyPlan, seconds: Mapping[str, float], devices: int) -> float:
    """When the last cell ends."""
    board = make_board(laid.cells, laid.done, {**seconds, **dict.fromkeys(laid.done, 0.0)})
    now, running = 0.0, list[tuple[float, str]]()
    while True:
        while len(running) < devices and (cell := board.take()):
            heapq.heappush(running, (now + seconds[cell.id], cell.id))
        if not running:
            return now
        now, ended = heapq.heappop(running)
        board.succeed(ended)


def _chain(laid: StudyPlan, seconds: Mapping[str, float]) -> tuple[tuple[str, ...], float]:
    """The longest chain of cells of which each waits for the one before, and its seconds."""
    known = {cell.id: cell for cell in laid.cells}
    ends: dict[str, float] = {}
    for cell in laid.cells:
        ends[cell.id] = seconds.get(cell.id, 0.0) + ends.get(cell.parent or "", 0.0)
    last = max(laid.todo, key=lambda cell: ends[cell.id], default=None)
    labels: list[str] = []
    at = last
    while at is not None:
        if at.id in seconds:
            labels.append(at.label)
        at = known.get(at.parent or "")
    return tuple(reversed(labels)), ends[last.id] if last else 0.0


def _stages(laid: StudyPlan, seconds: Mapping[str, float]) -> dict[str, Stage]:
    found = {}
    for stage in laid.counts:
        cells = [cell for cell in laid.todo if cell.stage == stage]
        found[stage] = Stage(
            cells=len(cells),
            seconds=sum(seconds[cell.id] for cell in cells),
            longest=max((seconds[cell.id] for cell in cells), default=0.0),
            bytes=sum(laid.bytes_of(cell) for cell in cells),
        )
    return found
