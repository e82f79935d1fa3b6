"""Rows of single seeds: seeds that give one network, because nothing is drawn from them, share a row."""

from collections.abc import Hashable, Iterable
from typing import TypeVar

from secateur.registry import ATTACKS
from secateur.report.aggregate import Grid, NetworkPoint, grid_point_of
from secateur.report.records import Attack, Network

Row = TypeVar("Row", Network, Attack)


def trainings(point: NetworkPoint) -> list[Network]:
    """The networks of a grid point without those that have the weights of an earlier one."""
    return [network for network, _ in _once((each, each.science.weights_hash) for each in point.networks)]


def undrawn(grid: Grid) -> bool:
    """Whether there are several seeds and none of them changes a network."""
    several = [point for point in grid.networks.values() if len(point.networks) > 1]
    return bool(several) and all(len(trainings(point)) == 1 for point in several)


def networks_once(grid: Grid) -> list[tuple[Network, str]]:
    """The networks of a study, and the seeds that gave the same weights: "1, 2", mostly none."""
    return _once(
        (network, (grid_point_of(network.axes), network.science.weights_hash))
        for network in grid.study.networks
    )


def attacks_once(grid: Grid) -> list[tuple[Attack, str]]:
    """The attacks of a study, and the seeds that gave the same weights, of attacks that draw nothing."""
    return _once(
        (
            attack,
            (
                grid_point_of(attack.axes),
                attack.network.science.weights_hash,
                attack.axes.seed if ATTACKS.facts(attack.method).get("random", True) else None,
            ),
        )
        for attack in grid.study.attacks
    )


def _once(rows: Iterable[tuple[Row, Hashable]]) -> list[tuple[Row, str]]:
    first: dict[Hashable, Row] = {}
    others: dict[Hashable, list[int]] = {}
    for row, key in rows:
        if first.setdefault(key, row) is not row:
            others.setdefault(key, []).append(row.axes.seed)
    return [(row, ", ".join(map(str, others.get(key, [])))) for key, row in first.items()]
