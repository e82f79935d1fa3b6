"""What a cell costs: exact numbers of images through the network, and from them an estimate of time."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean

from secateur.config import Cell
from secateur.study.cells import Facts

# What an image costs however small the network: without it, the time of a network pruned to almost nothing
# would say that whole networks take days.
OVERHEAD = 0.05


@dataclass(frozen=True)
class Cost:
    """The work of one cell.

    Attributes:
        forwards: images through the network.
        backwards: images through the gradient.
        share: estimated time per image, relative to the dense network: its multiply-accumulates, and what
            does not shrink with them.
    """

    forwards: int
    backwards: int
    share: float

    @property
    def units(self) -> float:
        """Work in forward passes of one image through the dense network; a gradient counts as two."""
        return (self.forwards + 2 * self.backwards) * self.share


@dataclass(frozen=True)
class Speed:
    """How fast the dense network of a model is here: seconds per unit of work, and its size."""

    seconds: float
    macs: int
    parameters: int


def cost_of(cell: Cell, facts: Facts) -> Cost:
    """The work of ``cell``; for attacks the most it can be, since wrong and converged images leave early."""
    # A masked network computes its zeros.
    share = 1.0 if cell.masked else OVERHEAD + (1 - OVERHEAD) * (1 - cell.axes["sparsity"]) ** 2
    if cell.stage == "prune":
        # The proof runs a few images, the accuracy the test set.
        return Cost(facts.test, 0, 1.0)
    if cell.stage == "attack":
        images = cell.settings["images"] or facts.test
        # At a size where an image has fallen it is not attacked again; at 0 nothing is.
        eps = cell.settings.get("eps")
        sizes = sum(size > 0 for size in eps) if isinstance(eps, list | tuple) else 1
        passes = images * cell.settings.get("steps", 1) * sizes
        return Cost(passes + 2 * images, passes, share)
    recipe = cell.settings["recipe"]
    seen = recipe["epochs"] * facts.train
    steps = (recipe["adversary"] or {"steps": 0})["steps"]
    evaluated = recipe["epochs"] * facts.validation + facts.train + facts.validation + facts.test
    return Cost(seen * (1 + steps) + evaluated, seen * (1 + steps), share)


class Clock:
    """Learns from finished cells how long a unit of work takes, by model and stage, and predicts the rest."""

    def __init__(self, costs: Mapping[str, Cost], speeds: Mapping[str, Speed] | None = None) -> None:
        self._costs = costs
        self._speeds = speeds or {}
        self._seen: dict[tuple[str, ...], list[float]] = defaultdict(list)

    def learn(self, cell: Cell, seconds: float) -> None:
        """Note that ``cell`` took ``seconds``."""
        rate = seconds / max(self._costs[cell.id].units, 1.0)
        for key in _keys(cell):
            self._seen[key].append(rate)

    def seconds(self, cell: Cell) -> float | None:
        """The time that ``cell`` will take; None when nothing like it has been seen or probed."""
        rates = next((self._seen[key] for key in _keys(cell) if self._seen.get(key)), None)
        if rates:
            return fmean(rates) * self._costs[cell.id].units
        speed = self._speeds.get(cell.axes["model"])
        if speed:
            return speed.seconds * self._costs[cell.id].units
        return fmean(self._seen[()]) * self._costs[cell.id].units if self._seen.get(()) else None

    def remaining(
        self, cells: Iterable[Cell], jobs: int, *, done: Mapping[str, float] | None = None
    ) -> float | None:
        """The time until all of ``cells`` are done by ``jobs`` workers; None when it cannot be known yet.

        ``done`` is the share in [0, 1] of the cells, by id, that are partly done.
        """
        left = []
        for cell in cells:
            seconds = self.seconds(cell)
            if seconds is None:
                return None
            left.append(seconds * (1 - (done or {}).get(cell.id, 0.0)))
        return max(sum(left) / jobs, max(left, default=0.0))


def _keys(cell: Cell) -> tuple[tuple[str, ...], ...]:
    """From the most to the least alike: same network and work, same work, anything."""
    kind = f"{cell.stage}:{cell.axes['attack'] or cell.axes['arm']}"
    return (str(cell.axes["model"]), kind), (kind,), ()
