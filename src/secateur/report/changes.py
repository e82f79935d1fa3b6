"""What pruning changed: every attacked network against its controls, image by image."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from secateur.report.aggregate import (
    AttackPoint,
    Grid,
    Place,
    Samples,
    dense_of,
    dense_tuned_of,
    worst,
)
from secateur.report.intervals import Paired, paired
from secateur.report.rows import Attack
from secateur.stats import Floats


@dataclass(frozen=True)
class Change:
    """A point against its two controls; None where the control is absent or shares no image.

    ``total`` is against the dense network: pruning and fine-tuning together. ``pruning`` is against the dense
    network after the same fine-tuning: pruning alone. Each has the worse grade of the two sides.
    """

    total: Paired | None
    total_grade: str
    pruning: Paired | None
    pruning_grade: str


def changes(grid: Grid) -> dict[Place, Change]:
    """The changes of every attacked place."""
    return {place: _change(grid, point) for place, point in grid.points.items()}


def _change(grid: Grid, point: AttackPoint) -> Change:
    references = dense_of(point.place), dense_tuned_of(point.place)
    grades = [
        worst([point.grade, grid.points[place].grade]) if place in grid.points else "X"
        for place in references
    ]
    total, pruning = (compare_with(grid, point, place) for place in references)
    return Change(total, grades[0], pruning, grades[1])


def compare_with(grid: Grid, point: AttackPoint, reference: Place) -> Paired | None:
    """How the median distance of ``point`` stands to that of ``reference``, seed by seed, image by image.

    Distances are in the attack's own norm, over the images that each network got right. None when the
    reference is absent or no seed has images in common with it.
    """
    other = grid.points.get(reference)
    if other is None:
        return None
    by_seed = {attack.axes.seed: attack for attack in other.attacks}
    pairs = [(by_seed[attack.axes.seed], attack) for attack in point.attacks if attack.axes.seed in by_seed]
    return compare_attacks(pairs, norm=point.norm)


def compare_attacks(
    pairs: Sequence[tuple[Attack, Attack]], *, norm: str, samples: Samples = "correct"
) -> Paired | None:
    """Compare pairs of attacks (before, after) on the images whose hashes they share; None without any."""
    order = shared_images(pairs)
    if not order:
        return None
    return paired(
        [on_images(before, order, norm, samples) for before, _ in pairs],
        [on_images(after, order, norm, samples) for _, after in pairs],
    )


def shared_images(pairs: Sequence[tuple[Attack, Attack]]) -> list[str]:
    """Hashes of the images that every attack of the pairs saw, in the order of the first."""
    if not pairs:
        return []
    common = set(pairs[0][0].hashes)
    for pair in pairs:
        for attack in pair:
            if attack.hashes is not pairs[0][0].hashes:
                common &= set(attack.hashes)
    return [image for image in dict.fromkeys(pairs[0][0].hashes) if image in common]


def on_images(attack: Attack, order: list[str], norm: str, samples: Samples) -> Floats:
    """Distances of the named images; nan where they do not count as ``samples``."""
    values = attack.distances[norm].copy()
    if samples == "correct":
        values[attack.already_wrong] = np.nan
    row = {image: i for i, image in reversed(list(enumerate(attack.hashes)))}
    return values[[row[image] for image in order]]
