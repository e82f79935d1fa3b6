"""Selection: how many channels each group keeps, in exact arithmetic, and which ones."""

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import nn

from secateur.errors import UserError
from secateur.graph.dependency import DependencyGraph
from secateur.graph.groups import Group, Row
from secateur.graph.tracing import shapes_of
from secateur.pruning.plans import Cut, Plan, Slice
from secateur.registry import CRITERIA

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


def plan(
    graph: DependencyGraph,
    *,
    criterion: str = "l1",
    sparsity: float = 0.5,
    scope: str = "local",
    keep: Sequence[str] = (),
    seed: int = 0,
    reduction: str = "mean",
    dense_sizes: Mapping[str, int] | None = None,
) -> Plan:
    """Decide which channels go.

    Args:
        graph: from ``trace``.
        criterion: a registered name (l1, random) or a function ``score(group, model, generator=,
            reduction=)`` that returns one score per channel; the smallest go.
        sparsity: fraction of each group's channels that goes, in [0, 1); a group of C keeps
            max(1, floor(C (1 - s))), each head, half or normalisation group for itself.
        scope: ``local``: every group loses that fraction.
        keep: names of modules, parameters or groups whose channels stay, inputs and outputs alike.
        seed: of the random criterion; the same seed gives the same plan.
        reduction: how the scores of the layers of one group are combined.
        dense_sizes: channels of each group before earlier rounds, by name; ``sparsity`` then counts from
            there.

    Raises:
        UserError: a bad sparsity, name or scope, a model that changed since the trace, or nothing that can
        go.
    """
    fraction = check_sparsity(sparsity)
    if scope not in SCOPES:
        raise UserError(f"unknown scope '{scope}'", hint=f"known: {', '.join(SCOPES)}")
    if shapes_of(graph.model) != leaf_shapes(graph):
        raise UserError("the model has changed since it was traced", hint="trace it again")
    score = criterion if callable(criterion) else CRITERIA.get(criterion)
    protected = kept_groups(graph, keep)
    counts = keep_counts(graph, fraction, protected, dense_sizes or {})
    generator = torch.Generator().manual_seed(seed)
    cuts = []
    for group in graph.groups:
        scores = scored(score, group, graph.model, generator, reduction)
        if (cut := _cut(graph, group, scores, counts)) is not None:
            cuts.append(cut)
    notes = _notes(graph, fraction, protected, {cut.group for cut in cuts})
    if fraction > 0 and not cuts:
        raise UserError(
            f"sparsity {sparsity} cannot remove a single channel from this model",
            hint="; ".join(notes[:3]) or "see graph.explain() for what is frozen and why",
        )
    name = criterion if isinstance(criterion, str) else getattr(criterion, "__name__", "custom")
    return Plan(
        name,
        float(sparsity),
        scope,
        seed,
        shapes_of(graph.model),
        graph.inputs,
        tuple(cuts),
        (),
        tuple(notes),
        graph,
    )


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


def keep_counts(
    graph: DependencyGraph, sparsity: Fraction, protected: set[int], dense_sizes: Mapping[str, int]
) -> dict[int, int]:
    """How many channels each cell keeps, raised where ties ask for equal counts."""
    sizes: dict[int, int] = {}
    counts: dict[int, int] = {}
    for number, group in enumerate(graph.groups):
        for cell, size in zip(*np.unique(group.cells, return_counts=True), strict=True):
            sizes[int(cell)] = int(size)
            dense = Fraction(int(size) * dense_sizes.get(group.name, group.size), group.size)
            kept = min(int(size), kept_count(dense, sparsity))
            counts[int(cell)] = int(size) if number in protected else kept
    changed = True
    while changed:
        changed = False
        for tie in graph.ties:
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


def _cut(graph: DependencyGraph, group: Group, scores: torch.Tensor, counts: dict[int, int]) -> Cut | None:
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
    ties = tuple(
        number
        for number, tie in enumerate(graph.ties)
        if any(cell in cells for row in tie.rows for cell, _ in row.cells)
    )
    return Cut(group.name, group.size, int(group.size - removed.sum()), tuple(slices), ties)


def _notes(graph: DependencyGraph, sparsity: Fraction, protected: set[int], cut: set[str]) -> list[str]:
    notes = []
    for number, group in enumerate(graph.groups):
        if number in protected:
            notes.append(f"{group.name} stays because keep names it")
        elif group.size == 1:
            notes.append(f"{group.name} has a single channel and stays")
        elif sparsity > 0 and group.name not in cut:
            notes.append(
                f"{group.name} keeps all {group.size} channels: each cell must keep one, or equal counts"
            )
    return notes
