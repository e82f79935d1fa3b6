"""Planning: which channels go, so that the result fits the model's own code."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from inspect import signature

import torch
from torch import nn

from secateur.errors import UserError
from secateur.graph.dependency import DependencyGraph
from secateur.graph.learned import cells_of, tie_of
from secateur.graph.tracing import shapes_of
from secateur.pruning.evidence import Evidence
from secateur.pruning.fit import fitted, masks_of, repairs_of
from secateur.pruning.plans import Plan
from secateur.pruning.select import (
    SCOPES,
    Choice,
    check_sparsity,
    cut_group,
    keep_counts,
    kept_groups,
    leaf_shapes,
    notes_of,
    scored,
)
from secateur.registry import CRITERIA


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
    batch: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> Plan:
    """Decide which channels go.

    Args:
        graph: from ``trace``.
        criterion: a registered name (l1, random, ...) or a function ``score(group, model, generator=,
            reduction=)`` that returns one score per channel; the smallest go. A function with a parameter
            ``evidence`` gets what the images of ``batch`` say (see ``pruning.evidence.Evidence``).
        sparsity: fraction of each group's channels that goes, in [0, 1); a group of C keeps
            max(1, floor(C (1 - s))), each head, half or normalisation group for itself.
        scope: ``local``: every group loses that fraction.
        keep: names of modules, parameters or groups whose channels stay, inputs and outputs alike.
        seed: of the random criterion; the same seed gives the same plan.
        reduction: how the scores of the layers of one group are combined.
        dense_sizes: channels of each group before earlier rounds, by name, from which to count.
        batch: images and labels for the criteria that look at data (taylor, hessian, activation).

    Raises:
        UserError: a bad sparsity, name or scope, a model changed since the trace, or nothing that can go.
    """
    fraction = check_sparsity(sparsity)
    if scope not in SCOPES:
        raise UserError(f"unknown scope '{scope}'", hint=f"known: {', '.join(SCOPES)}")
    if shapes_of(graph.model) != leaf_shapes(graph):
        raise UserError("the model has changed since it was traced", hint="trace it again")
    score = scorer(criterion, graph.model, batch)
    generator = torch.Generator().manual_seed(seed)
    protected = kept_groups(graph, keep)
    scores = [scored(score, group, graph.model, generator, reduction) for group in graph.groups]
    choice = Choice(fraction, protected, dense_sizes or {}, scores)
    name = criterion if isinstance(criterion, str) else getattr(criterion, "__name__", "custom")
    blank = Plan(name, float(sparsity), scope, seed, shapes_of(graph.model), graph.inputs, (), graph=graph)
    chosen = fitted(graph.model, graph, lambda: draft(graph, blank, choice))
    if fraction > 0 and not chosen.cuts:
        raise UserError(
            f"sparsity {sparsity} cannot remove a single channel from this model",
            hint="; ".join(chosen.notes[:3]) or "see graph.explain() for what is frozen and why",
        )
    return chosen


def scorer(
    criterion: str | Callable[..., torch.Tensor],
    model: nn.Module,
    batch: tuple[torch.Tensor, torch.Tensor] | None,
) -> Callable[..., torch.Tensor]:
    """The function that scores, with what the images say if it asks for it."""
    score: Callable[..., torch.Tensor] = criterion if callable(criterion) else CRITERIA.get(criterion)
    if batch is not None and "evidence" in signature(score).parameters:
        return partial(score, evidence=Evidence(model, *batch))
    return score


def draft(graph: DependencyGraph, blank: Plan, choice: Choice) -> Plan:
    """The plan as far as is known now: counts, indices, and attributes to set."""
    cells = cells_of(graph.groups, graph.atoms.axes, graph.atoms.size)
    found = (tie_of(graph.tape, graph.marks, match, cells) for match in graph.learned.matches)
    ties = (*graph.ties, *(tie for tie in found if tie is not None))
    blocked = {number for number, group in enumerate(graph.groups) if group.name in graph.learned.blocked}
    counts = keep_counts(graph, choice, blocked, ties)
    cuts = tuple(
        cut
        for group, scores in zip(graph.groups, choice.scores, strict=True)
        if (cut := cut_group(group, scores, counts, ties)) is not None
    )
    plan = replace(blank, cuts=cuts, notes=notes_of(graph, choice, {cut.group for cut in cuts}))
    if not graph.learned.literals:
        return plan
    return replace(plan, repairs=repairs_of(graph.model, graph, masks_of(graph, plan)))
