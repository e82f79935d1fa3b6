"""Selection: how many channels each group keeps, in exact arithmetic, and which ones."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import nn

from secateur.errors import UserError
from secateur.graph.dependency import DependencyGraph
from secateur.graph.groups import Group, Row, Tie
from secateur.graph.tracing import shapes_of
from secateur.pruning.plans import Cut, Slice

SCOPES = ("local",)


def check_sparsity(sparsity: Any) -> Fraction:
    """A sparsity in [0, 1) as an exact fraction of its decimal form.

    Raises:
        UserError: it is not a number in [0, 1).
    """
    if isinstance(sparsity, bool) or not isinstance(sparsity, (int, float, Fraction)):
        raise UserError(f"sparsity must be a number, got {sparsity!r}", hint="for example sparsity=0.5")
    if not math.isfinite(sparsity) or not 0 <= sparsity < 1:
        raise UserError(
            f"sparsity must be in [0, 1), got {sparsity}", hint="0.5 removes half of the channels"
        )
    return Fraction(sparsity) if isinstance(sparsity, (int, Fraction)) else Fraction(str(sparsity))


def kept_count(channels: int | Fraction, sparsity: Fraction) -> int:
    """``max(1, floor(C (1 - s)))`` without rounding errors: 0.9 of 640 leaves 64."""
    return max(1, math.floor(channels * (1 - sparsity)))


def leaf_shapes(graph: DependencyGraph) -> dict[str, tuple[int, ...]]:
    """Names and shapes of parameters and buffers when the model was traced."""
    return {value.name: value.shape for value in graph.tape.values if value.kind in {"parameter", "buffer"}}


def scored(
    score: Callable[..., torch.Tensor],
    group: Group,
    model: nn.Module,
    generator: torch.Generator,
    reduction: str,
) -> torch.Tensor:
    """Scores of one group, checked.

    Raises:
        UserError: the criterion does not give one finite number per channel.
    """
    scores = score(group, model, generator=generator, reduction=reduction)
    if scores.shape != (group.size,) or not bool(torch.isfinite(scores).all()):
        raise UserError(
            f"the criterion gives no finite score for every channel of {group.name}",
            hint="check the weights for NaN and infinity",
        )
    return scores


def kept_groups(graph: DependencyGraph, keep: Sequence[str]) -> set[int]:
    """Numbers of the groups that touch what ``keep`` names.

    Raises:
        UserError: a name fits nothing.
    """
    if isinstance(keep, str):
        raise UserError("keep must be a list of names", hint=f"for example keep=['{keep}']")
    protected: set[int] = set()
    known = {name for name, _ in graph.model.named_modules()} | set(shapes_of(graph.model))
    for name in keep:
        hit = {
            number
            for number, group in enumerate(graph.groups)
            if group.name == name
            or any(f"{member.tensor}.".startswith(f"{name}.") for member in group.members)
        }
        if not hit and name not in known:
            raise UserError(f"keep names '{name}', which is no module, parameter or group of this model")
        protected |= hit
    return protected


@dataclass(frozen=True)
class Choice:
    """What was asked for: a sparsity, protected groups, sizes before earlier rounds, and all scores."""

    sparsity: Fraction
    protected: set[int]
    dense_sizes: Mapping[str, int]
    scores: list[torch.Tensor]


def keep_counts(
    graph: DependencyGraph, choice: Choice, blocked: set[int], ties: Sequence[Tie]
) -> dict[int, int]:
    """How many channels each cell keeps, raised where ties ask for equal counts."""
    sizes: dict[int, int] = {}
    counts: dict[int, int] = {}
    for number, group in enumerate(graph.groups):
        for cell, size in zip(*np.unique(group.cells, return_counts=True), strict=True):
            sizes[int(cell)] = int(size)
            dense = Fraction(int(size) * choice.dense_sizes.get(group.name, group.size), group.size)
            kept = min(int(size), kept_count(dense, choice.sparsity))
            whole = number in choice.protected or number in blocked
            counts[int(cell)] = int(size) if whole else kept
    changed = True
    while changed:
        changed = False
        for tie in ties:
            totals = [_total(row, counts) for row in tie.rows]
            target = max(totals)
            for row, total in zip(tie.rows, totals, strict=True):
                if total < target:
                    changed |= _raise(row, target - total, counts, sizes)
    return counts


def _total(row: Row, counts: dict[int, int]) -> int:
    return row.fixed + sum(counts[cell] * times for cell, times in row.cells)


def _raise(row: Row, missing: int, counts: dict[int, int], sizes: dict[int, int]) -> bool:
    """Keep more of a row's cells, the emptiest first."""
    changed = False
    while missing > 0:
        open_cells = [
            (counts[cell] / sizes[cell], cell, times)
            for cell, times in row.cells
            if counts[cell] < sizes[cell]
        ]
        if not open_cells:
            break
        _, cell, times = min(open_cells)
        counts[cell] += 1
        missing -= times
        changed = True
    return changed


def cut_group(
    group: Group, scores: torch.Tensor, counts: Mapping[int, int], ties: Sequence[Tie]
) -> Cut | None:
    """What a group loses: in each cell the channels with the smallest scores, ``None`` if nothing."""
    removed = np.zeros(group.size, dtype=bool)
    for cell in np.unique(group.cells):
        inside = np.flatnonzero(group.cells == cell)
        order = torch.argsort(scores[torch.from_numpy(inside)], stable=True).numpy()
        removed[inside[order[: len(inside) - counts[int(cell)]]]] = True
    if not removed.any():
        return None
    slices = []
    for member in group.members:
        gone = member.indices[removed[member.channels]]
        slices.append(Slice(member.tensor, member.dim, tuple(int(index) for index in np.sort(gone))))
    cells = set(group.cells.tolist())
    tied = tuple(
        number
        for number, tie in enumerate(ties)
        if any(cell in cells for row in tie.rows for cell, _ in row.cells)
    )
    return Cut(group.name, group.size, int(group.size - removed.sum()), tuple(slices), tied)


def notes_of(graph: DependencyGraph, choice: Choice, cut: set[str]) -> tuple[str, ...]:
    """In words: which groups stay whole, and why."""
    notes = []
    for number, group in enumerate(graph.groups):
        if number in choice.protected:
            notes.append(f"{group.name} stays because keep names it")
        elif group.name in graph.learned.blocked:
            notes.append(f"left whole: {group.name}: {graph.learned.blocked[group.name]}")
        elif group.size == 1:
            notes.append(f"{group.name} has a single channel and stays")
        elif choice.sparsity > 0 and group.name not in cut:
            notes.append(f"{group.name} keeps all {group.size} channels: one per cell, or equal counts")
    return tuple(notes)
