"""The distance that is left, in words: with the images that it rests on and the accuracy beside it."""

import math
from dataclasses import dataclass

from secateur.report.aggregate import Grid, GridPoint, dense_of
from secateur.report.budgets import columns, grid_points
from secateur.report.formatting import PERCENT, number, percent
from secateur.report.paired_changes import Against, Change


def left_share(against: Against | None) -> str:
    """The share alone, for what says its images and the accuracy already; empty where none is stated."""
    if against is None or against.share is None:
        return ""
    return "∞" if math.isinf(against.share) else percent(against.share)


def left_text(against: Against | None) -> str:
    """A cell: "87 % (98 images, accuracy 96 %)", or why no share is stated: "collapsed (accuracy 12 %)"."""
    if against is None or (against.left is None and not against.state):
        return "–"
    accuracy = f"accuracy {percent(against.accuracy[1])}"
    if against.state:
        return f"{against.state} ({accuracy})"
    return f"{left_share(against) or '–'} ({against.n} images, {accuracy})"


def left_ends(against: Against | None) -> tuple[float, float, str] | None:
    """The interval of the share and what it is over, trainings or images; None where there is none."""
    if against is None or against.left is None or against.share is None:
        return None
    ends = against.left.over_trainings
    if ends is not None:
        return (*ends, "trainings")
    return (*against.left.over_images, "images") if against.left.over_images else None


def left_interval(against: Against | None) -> str:
    """The interval in words: "80 to 93 %, over images"; empty where there is none."""
    found = left_ends(against)
    if found is None:
        return ""
    return f"{percent(found[0]).removesuffix(PERCENT)} to {percent(found[1])}, over {found[2]}"


def left_sentence(against: Against, norm: str) -> str:
    """One sentence about the distance that is left; empty for an attack of fixed size."""
    if against.left is None:
        return ""
    if against.state:
        return f"The distance left is not stated: {against.state}."
    interval = left_interval(against)
    return (
        f"Distance left on the {against.n} images that both networks classify correctly: "
        f"{left_share(against) or 'unknown'} ({f'95 % interval {interval}; ' if interval else ''}median "
        f"{norm} "
        f"{number(against.left.before)} → {number(against.left.after)})."
    )


@dataclass(frozen=True)
class Tile:
    """A field of the page: the share that is left or the word in its place, and what stands below it.

    ``shade`` is None where colour would mislead: no share, or more than all of it at a lower accuracy.
    """

    text: str
    details: tuple[str, ...]
    shade: float | None
    grade: str


def left_tiles(grid: Grid, change: dict[GridPoint, Change], row: GridPoint) -> list[Tile]:
    """One tile per network of the row, without the dense one that all are compared with."""
    reference = dense_of(row)
    return [_tile(grid, change, where) for where in grid_points(grid, row) if where != reference]


def left_columns(grid: Grid, arm: str) -> tuple[str, ...]:
    """Titles of the tiles of :func:`left_tiles`."""
    return tuple(title for title in columns(grid, arm) if title not in ("dense", "dense, not tuned"))


def _tile(grid: Grid, change: dict[GridPoint, Change], where: GridPoint) -> Tile:
    if where not in grid.points:
        return Tile("✕" if where in grid.holes else "", (), None, "X" if where in grid.holes else "")
    against = change[where].total
    if against is None:
        return Tile("–", ("no dense network",), None, change[where].total_grade)
    accuracy = f"acc. {percent(against.accuracy[1])}"
    if against.share is None:
        return Tile(against.state or "–", (accuracy,), None, against.grade)
    shade = None if overstated(against) or math.isinf(against.share) else min(against.share, 1.0)
    return Tile(left_share(against), (f"{against.n} images", accuracy), shade, against.grade)


def overstated(against: Against) -> bool:
    """More than all of the distance is left, but accuracy fell: no gain, as the hardest images are gone."""
    return against.share is not None and against.share > 1 and against.accuracy_fell
