"""How many channels each part keeps: exact fractions, floors, and equal counts where the model needs them."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from numbers import Rational, Real
from typing import Any

import numpy as np
import torch

from secateur.budgets import finite, plain
from secateur.errors import UserError
from secateur.graph.dependency import DependencyGraph
from secateur.graph.groups import Group, Row, Tie
from secateur.kinds import is_whole

SCOPES = ("local", "global")
Scores = Callable[[int, Mapping[tuple[str, int], tuple[int, ...]]], torch.Tensor]


def check_sparsity(sparsity: Any, name: str = "sparsity") -> Fraction:
    """A sparsity in [0, 1), called ``name``, as an exact fraction of its decimal form.

    Raises:
        UserError: not a number in [0, 1).
    """
    sparsity = sparsity if isinstance(sparsity, Real) else plain(sparsity)
    if isinstance(sparsity, bool) or not isinstance(sparsity, Real):
        raise UserError(f"{name} must be a number, got {sparsity!r}", hint="for example sparsity=0.5")
    exact = (
        Fraction(sparsity if isinstance(sparsity, Rational) else str(sparsity)) if finite(sparsity) else None
    )
    if exact is None or not 0 <= exact < 1:
        raise UserError(
            f"{name} must be in [0, 1), got {sparsity}",
            hint="for example 0.5 to remove half of the channels",
        )
    return exact


def kept_count(channels: int | Fraction, sparsity: Fraction) -> int:
    """``max(1, floor(C (1 - s)))`` in exact arithmetic: with floats, 640 channels at 0.9 would keep 63.

    >>> kept_count(640, check_sparsity(0.9)), int(640 * (1 - 0.9))
    (64, 63)
    """
    left = sparsity.denominator - sparsity.numerator
    return max(1, channels.numerator * left // (channels.denominator * sparsity.denominator))


@dataclass(frozen=True)
class Limits:
    """Lower limits of every part, and the multiple to which widths are rounded up."""

    min_channels: int = 1
    max_sparsity: Fraction = Fraction(1)
    round_to: int = 1

    def floor(self, size: int, dense: int | Fraction) -> int:
        """The fewest channels that a part of ``size``, formerly ``dense``, may keep."""
        least = math.ceil(dense * (1 - self.max_sparsity)) if self.max_sparsity < 1 else 0
        return min(size, max(1, self.min_channels, least))

    def bounded(self, kept: int, size: int, dense: int | Fraction) -> int:
        """``kept`` raised to the floor and to a multiple of ``round_to``, at most ``size``."""
        kept = max(kept, self.floor(size, dense))
        return min(size, -(-kept // self.round_to) * self.round_to)


@dataclass(frozen=True)
class Request:
    """What to prune; ``scores(number, removed)`` are a group's scores, given the slices removed so far.

    ``protected`` are group indices that keep everything, ``dense_sizes`` the channels before earlier rounds.
    """

    sparsity: Fraction
    protected: set[int]
    dense_sizes: Mapping[str, int]
    scores: Scores
    scope: str = "local"
    rates: Mapping[int, Fraction] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    greedy: bool = False

    def rate(self, number: int) -> Fraction:
        """The sparsity of one group."""
        return self.rates.get(number, self.sparsity)

    def dense(self, group: Group, size: int) -> int | Fraction:
        """How many channels ``size`` channels of a group were before earlier rounds."""
        before = self.dense_sizes.get(group.name, group.size)
        return size if before == group.size else Fraction(size * before, group.size)


def check_limits(min_channels: Any, max_sparsity: Any, round_to: Any) -> Limits:
    """Limits from the user's arguments.

    Raises:
        UserError: a count that is not a positive integer, or an invalid sparsity.
    """
    for name, value in (("min_channels", min_channels), ("round_to", round_to)):
        if not is_whole(value, least=1):
            raise UserError(f"{name} must be a positive integer, got {value!r}", hint="1 is the default")
    most = Fraction(1) if max_sparsity is None else check_sparsity(max_sparsity, "max_sparsity")
    return Limits(min_channels, most, round_to)


def keep_counts(
    graph: DependencyGraph, request: Request, blocked: set[int], ties: Sequence[Tie]
) -> dict[int, int]:
    """How many channels each part keeps, raised where ties require equal counts."""
    whole = request.protected | blocked
    sizes = {part: size for group in graph.groups for part, size in group.part_sizes.items()}
    wanted = _global_counts(graph, request, whole) if request.scope == "global" else {}
    counts: dict[int, int] = {}
    for number, group in enumerate(graph.groups):
        unchanged = number in whole or request.rate(number) == 0
        for part, size in group.part_sizes.items():
            dense = request.dense(group, size)
            kept = wanted.get(part, kept_count(dense, request.rate(number)))
            counts[part] = size if unchanged else request.limits.bounded(min(size, kept), size, dense)
    _equalise(ties, counts, sizes, request.limits.round_to)
    return counts


def global_target(graph: DependencyGraph, request: Request, whole: set[int]) -> tuple[list[int], int]:
    """Global scope: the competing groups, and how many of their channels to remove."""
    competing = [
        number for number in range(len(graph.groups)) if number not in whole and number not in request.rates
    ]
    groups = [graph.groups[number] for number in competing]
    dense = sum((request.dense(group, group.size) for group in groups), Fraction(0))
    return competing, max(0, sum(group.size for group in groups) - kept_count(dense, request.sparsity))


def _global_counts(graph: DependencyGraph, request: Request, whole: set[int]) -> dict[int, int]:
    """Global scope: remove the channels with the lowest scores, each divided by its group's mean."""
    competing, missing = global_target(graph, request, whole)
    if not competing:
        return {}
    scores, parts, floors = [], [], {}
    for number in competing:
        group, own = graph.groups[number], request.scores(number, {}).numpy()
        # Scores of different layers are on different scales; their means are not.
        scores.append(own / max(float(np.abs(own).mean()), 1e-300))
        parts.append(group.parts)
        for part, size in group.part_sizes.items():
            floors[part] = (size, request.limits.floor(size, request.dense(group, size)))
    flat, owner = np.concatenate(scores), np.concatenate(parts)
    kept = {part: size for part, (size, _) in floors.items()}
    for channel in np.argsort(flat, kind="stable"):
        part = int(owner[channel])
        if missing > 0 and kept[part] > floors[part][1]:
            kept[part] -= 1
            missing -= 1
    return kept


def _equalise(ties: Sequence[Tie], counts: dict[int, int], sizes: Mapping[int, int], step: int) -> None:
    """Raise counts until the rows of every tie agree; in the worst case nothing is removed."""
    # Counts only rise and are bounded by the sizes, so this ends.
    changed = True
    while changed:
        changed = False
        for tie in ties:
            totals = [_total(row, counts) for row in tie.rows]
            target = max(totals)
            for row, total in zip(tie.rows, totals, strict=True):
                if total < target:
                    changed |= _keep_more(row, target - total, counts, sizes, step)


def _total(row: Row, counts: Mapping[int, int]) -> int:
    return row.fixed + sum(counts[part] * times for part, times in row.parts)


def _keep_more(row: Row, missing: int, counts: dict[int, int], sizes: Mapping[int, int], step: int) -> bool:
    """Keep more channels in the parts of a row, the most pruned part first."""
    changed = False
    while missing > 0:
        open_parts = [
            (counts[part] / sizes[part], part, times)
            for part, times in row.parts
            if counts[part] < sizes[part]
        ]
        if not open_parts:
            break
        _, part, times = min(open_parts)
        # In steps of ``round_to``, so that widths stay multiples of it.
        more = min(step, sizes[part] - counts[part])
        counts[part] += more
        missing -= times * more
        changed = True
    return changed


def scored_by_shortcut(graph: DependencyGraph, group: Group) -> Group:
    """The group as seen by ``reduction="shortcut"``: only its projection shortcuts count as producers.

    Without a projection, the first producer decides (thesis Fig. 3.5; Li et al. 2017, section 3.3).
    """
    # A projection reads the input of its block, as the first layer of the block does: its input has several
    # readers. The other layers of the block read channels that nothing else reads.
    readers: dict[str, int] = {}
    for other in graph.groups:
        inside = {member.tensor for member in other.members if member.role == "in"}
        for tensor in inside:
            readers[tensor] = max(readers.get(tensor, 0), len(inside))
    producers = [member for member in group.members if member.role == "out"]
    projections = [member for member in producers if readers.get(member.tensor, 0) > 1]
    chosen = {id(member) for member in (projections or producers[:1])}
    members = tuple(
        member
        if member.role != "out" or id(member) in chosen
        else type(member)(member.tensor, member.dim, member.indices, member.channels, "with")
        for member in group.members
    )
    return Group(group.name, group.size, members, group.parts)
