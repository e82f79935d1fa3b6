"""Named points in the code that writes, so that tests can kill a process at each of them."""

from collections.abc import Callable

POINTS = {
    "study.written": "the new study.json is complete under a temporary name",
    "study.replaced": "study.json has its name, the folder is not yet synced",
    "commit.started": "the temporary folder of a cell exists and is empty",
    "commit.artefact": "one more artefact is written and synced",
    "commit.record": "the record is written and synced, still in the temporary folder",
    "commit.cleared": "a failed or damaged predecessor has been moved away",
    "commit.renamed": "the cell has its name, the folder is not yet synced",
    "commit.synced": "the cell is durable, its scratch folder still exists",
    "lease.taken": "the lease file of a cell exists, its holder has not noted it yet",
    "quarantine.moved": "a damaged cell has been moved away, the note is not yet written",
}

_listeners: list[Callable[[str], None]] = []


def reach(point: str) -> None:
    """Tell the listeners that ``point`` has been reached.

    Raises:
        KeyError: the point is not registered above.
    """
    if point not in POINTS:
        raise KeyError(point)
    for listener in _listeners:
        listener(point)


def listen(listener: Callable[[str], None]) -> Callable[[], None]:
    """Call ``listener`` at every point from now on; the returned function ends it."""
    _listeners.append(listener)
    return lambda: _listeners.remove(listener)
