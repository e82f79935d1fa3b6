"""The cost of a cell: exact numbers of images through the network, and an estimate of time from them."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from secateur.config import Cell, repeats
from secateur.study.cells import Facts

# The share of the time per image that pruning does not reduce. The rest shrinks with the channels, not with
# the multiply-adds, which go with their square: an image of ResNet-20 at sparsity 0.2, 0.4, 0.6, 0.8 takes
# 0.90, 0.86, 0.37, 0.23 of the dense time on one core, in batches of 100; its multiply-adds are 0.58 to 0.03.
OVERHEAD = 0.1


@dataclass(frozen=True)
class Cost:
    """The work of one cell.

    Attributes:
        forwards: images through the network.
        backwards: images through the gradient.
        share: estimated time per image, relative to the dense network: of its channels, and what does not
            shrink with them.
    """

    forwards: int
    backwards: int
    share: float

    @property
    def units(self) -> float:
        """Work in forward passes of one image through the dense network; a gradient counts as two."""
        return (self.forwards + 2 * self.backwards) * self.share


@dataclass(frozen=True)
class Footprint:
    """Bytes of a model's dense network: its weights, and an image of a batch with gradients and without."""

    weights: int
    gradient: int
    forward: int


@dataclass(frozen=True)
class Speed:
    """The speed of a model's dense network on this machine, in seconds per unit of work, and its size."""

    seconds: float
    macs: int
    parameters: int
    footprint: Footprint | None = None


def cost_of(cell: Cell, facts: Facts) -> Cost:
    """The work of ``cell``; for attacks the most it can be, since wrong and converged images leave early."""
    # A masked network is no faster: it multiplies by its zeros.
    share = 1.0 if cell.masked else OVERHEAD + (1 - OVERHEAD) * (1 - (cell.axes["sparsity"] or 0.0))
    if cell.stage == "prune":
        # The proof needs few images; the accuracy is that of the test set.
        return Cost(facts.test, 0, 1.0)
    if cell.stage == "attack":
        images = cell.settings.get("images") or facts.test
        # At most: an image that fell at a smaller size is not attacked again, and size 0 needs no attack.
        eps = cell.settings.get("eps")
        sizes = (
            sum(isinstance(size, int | float) and size > 0 for size in eps)
            if isinstance(eps, list | tuple)
            else 1
        )
        passes = images * cell.settings.get("steps", 1) * sizes
        return Cost(passes + 2 * images, passes, share)
    # Every step of the adversary needs a gradient, as the step of the optimiser does.
    recipe = cell.settings.get("recipe", {})
    epochs = recipe.get("epochs", 0)
    seen = epochs * facts.train
    steps = (recipe.get("adversary") or {"steps": 0})["steps"]
    trained_on = cell.settings.get("train_sample", facts.train)
    evaluated = epochs * facts.validation + trained_on + facts.validation + facts.test
    return Cost(seen * (1 + steps) + evaluated, seen * (1 + steps), share)


def costs_of(cells: Iterable[Cell], facts: Facts) -> dict[str, Cost]:
    """The work of every cell of a study, by id; attacks that repeat another one are not computed."""
    known = tuple(cells)
    free = dict.fromkeys(repeats(known), Cost(0, 0, 1.0))
    return {cell.id: free.get(cell.id) or cost_of(cell, facts) for cell in known}


class Clock:
    """Predicts the time of cells from finished ones, per unit of work of their model and stage."""

    def __init__(self, costs: Mapping[str, Cost], speeds: Mapping[str, Speed] | None = None) -> None:
        self._costs = costs
        self._speeds = speeds or {}
        self._seconds: dict[tuple[str, ...], float] = defaultdict(float)
        self._units: dict[tuple[str, ...], float] = defaultdict(float)

    def learn(self, cell: Cell, seconds: float) -> None:
        """Note that ``cell`` took ``seconds``."""
        # Sums, not a mean of rates: a pruning of half a second does little work, and its rate would make each
        # attack that has not run yet look ten times too long.
        for key in _keys(cell):
            self._seconds[key] += seconds
            self._units[key] += self._costs[cell.id].units

    def seconds(self, cell: Cell) -> float | None:
        """The time that ``cell`` will take; None if nothing has been finished or probed."""
        units, speed = self._costs[cell.id].units, self._speeds.get(cell.axes["model"])
        # A probe of this network tells more than finished cells of another kind.
        for key in _keys(cell) if speed is None else _keys(cell)[:-1]:
            if key in self._seconds:
                return units * self._seconds[key] / max(self._units[key], 1.0)
        return None if speed is None else units * speed.seconds

    def remaining(
        self, cells: Iterable[Cell], jobs: int, *, done: Mapping[str, float] | None = None
    ) -> float | None:
        """The time until ``jobs`` workers have finished ``cells``; None while it cannot be estimated.

        ``done`` is the finished share, in [0, 1], of cells that are partly done, by id.
        """
        left = []
        for cell in cells:
            seconds = self.seconds(cell)
            if seconds is None:
                return None
            left.append(seconds * (1 - (done or {}).get(cell.id, 0.0)))
        # A cell runs on one worker, so no run is shorter than its longest cell.
        return max(sum(left) / jobs, max(left, default=0.0))


def _keys(cell: Cell) -> tuple[tuple[str, ...], ...]:
    """From the most to the least similar: same network and work, same work, anything."""
    kind = f"{cell.stage}:{cell.axes['attack'] or cell.axes['arm']}"
    return (str(cell.axes["model"]), kind), (kind,), ()
