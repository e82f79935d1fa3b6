"""The scheduler: which cells can run now, which wait for a parent, and which are skipped."""

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from secateur.config import Cell, repeats


@dataclass
class Board:
    """The order of work: a cell is ready once its parent is done; the longest chain of work goes first.

    An attack that repeats another waits for that one, whose numbers it takes over; should that one fail, it
    is computed.
    """

    cells: Mapping[str, Cell]
    ready: list[tuple[float, int, str]] = field(default_factory=list)
    open: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    _children: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    _ranks: dict[str, float] = field(default_factory=dict)
    _order: dict[str, int] = field(default_factory=dict)
    _firsts: dict[str, str] = field(default_factory=dict)
    _repeats: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def take(self) -> Cell | None:
        """The next ready cell, or None if all others wait or run."""
        return self.cells[heapq.heappop(self.ready)[2]] if self.ready else None

    def succeed(self, cell_id: str) -> None:
        """A cell is done: its children and its repetitions are ready."""
        self.open.discard(cell_id)
        self._release(self._children[cell_id])
        self._release(self._repeats[cell_id])

    def fail(self, cell_id: str, sentence: str) -> list[Cell]:
        """A cell has failed: its open descendants, which are skipped."""
        self.open.discard(cell_id)
        self.failed[cell_id] = sentence
        skipped = []
        for child in self._children[cell_id]:
            if child in self.open:
                why = f"skipped, because '{self.cells[cell_id].label}' failed"
                skipped += [self.cells[child], *self.fail(child, why)]
        self._release(self._repeats[cell_id])
        return skipped

    def _release(self, waiting: Iterable[str]) -> None:
        for cell_id in waiting:
            if cell_id in self.open and self._is_free(cell_id):
                self._push(cell_id)

    def _is_free(self, cell_id: str) -> bool:
        """Whether a cell waits for no other one."""
        return self.cells[cell_id].parent not in self.open and self._firsts.get(cell_id) not in self.open

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
    board._firsts = repeats(known.values())
    for cell_id, first in board._firsts.items():
        board._repeats[first].append(cell_id)
    board._release(known)
    return board
