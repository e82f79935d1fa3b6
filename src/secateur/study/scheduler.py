"""The scheduler: which cells can run now, which wait for a parent, and which are skipped."""

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from secateur.config import Cell


@dataclass
class Board:
    """The order of work: a cell is ready once its parent is done; the longest chain of work goes first."""

    cells: Mapping[str, Cell]
    ready: list[tuple[float, int, str]] = field(default_factory=list)
    open: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    _children: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    _ranks: dict[str, float] = field(default_factory=dict)
    _order: dict[str, int] = field(default_factory=dict)

    def take(self) -> Cell | None:
        """The next ready cell, or None if all others wait or run."""
        return self.cells[heapq.heappop(self.ready)[2]] if self.ready else None

    def succeed(self, cell_id: str) -> None:
        """A cell is done: its children are ready."""
        self.open.discard(cell_id)
        for child in self._children[cell_id]:
            if child in self.open:
                self._push(child)

    def fail(self, cell_id: str, sentence: str) -> list[Cell]:
        """A cell has failed: its open descendants, which are skipped."""
        self.open.discard(cell_id)
        self.failed[cell_id] = sentence
        skipped = []
        for child in self._children[cell_id]:
            if child in self.open:
                why = f"skipped, because '{self.cells[cell_id].label}' failed"
                skipped += [self.cells[child], *self.fail(child, why)]
        return skipped

    def _push(self, cell_id: str) -> None:
        heapq.heappush(self.ready, (-self._ranks[cell_id], self._order[cell_id], cell_id))


def make_board(cells: Iterable[Cell], done: Iterable[str], units: Mapping[str, float]) -> Board:
    """A board with every cell that is not done; ``units`` is the work of each cell by id."""
    known = {cell.id: cell for cell in cells}
    finished = set(done)
    board = Board(known, open={cell_id for cell_id in known if cell_id not in finished})
    board._order = {cell_id: i for i, cell_id in enumerate(known)}
    # Children come after their parents, so that one backward pass sums the longest chain below every cell.
    for cell in reversed(known.values()):
        below = max((board._ranks[child] for child in board._children[cell.id]), default=0.0)
        board._ranks[cell.id] = below + (units[cell.id] if cell.id in board.open else 0.0)
        if cell.parent:
            board._children[cell.parent].append(cell.id)
    for cell in known.values():
        if cell.id in board.open and (cell.parent is None or cell.parent not in board.open):
            board._push(cell.id)
    return board
