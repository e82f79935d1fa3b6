"""Plan a pruning: decide which channels to remove so that the result fits the model's own code."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from inspect import Parameter, signature
from typing import Any, TypedDict

import torch
from torch import nn

from secateur.errors import UserError
from secateur.graph.dependency import DependencyGraph
from secateur.graph.groups import Group
from secateur.graph.trace.named_tensors import shapes_of
from secateur.graph.width_attributes import parts_of, tie_of
from secateur.hashing import sha256_hex
from secateur.pruning.budget import budget_of, smallest_within
from secateur.pruning.calibration_stats import CalibrationStats
from secateur.pruning.channel_selection import (
    Named,
    checked_scores,
    cut_group,
    notes_of,
    protected_groups,
    ties_by_part,
    traced_shapes,
)
from secateur.pruning.keep_counts import (
    SCOPES,
    Request,
    Scores,
    check_limits,
    check_sparsity,
    keep_counts,
    scored_by_shortcut,
)
from secateur.registry import CRITERIA, RATES
from secateur.repair.alive import keep_alive
from secateur.repair.shapes import fit_plan, repairs_of
from secateur.surgery.cut import temporarily_zeroed
from secateur.surgery.plan import Cut, Plan, masks_of

SELECTIONS = ("independent", "greedy")


# The keyword arguments of ``plan`` as types, for the functions that pass them on.
class SelectionOptions(TypedDict, total=False):
    """Which channels are removed, however many."""

    criterion: str | Callable[..., torch.Tensor]
    scope: str
    selection: str
    reduction: str
    keep: Sequence[Named]
    min_channels: int
    max_sparsity: float | None
    round_to: int
    batch: tuple[Any, torch.Tensor] | None


class PlanOptions(SelectionOptions, total=False):
    """All keyword arguments of ``plan``."""

    sparsity: float
    rates: str | Mapping[Any, float] | None
    parameters: float | int | None
    macs: float | int | None
    latency: float | str | None
    seed: int
    dense_sizes: Mapping[str, int] | None


def plan(
    graph: DependencyGraph,
    *,
    criterion: str | Callable[..., torch.Tensor] = "l1",
    sparsity: float = 0.5,
    scope: str = "local",
    selection: str = "independent",
    reduction: str = "mean",
    keep: Sequence[Named] = (),
    rates: str | Mapping[Any, float] | None = None,
    parameters: float | int | None = None,
    macs: float | int | None = None,
    latency: float | str | None = None,
    min_channels: int = 1,
    max_sparsity: float | None = None,
    round_to: int = 1,
    batch: tuple[Any, torch.Tensor] | None = None,
    seed: int = 0,
    dense_sizes: Mapping[str, int] | None = None,
) -> Plan:
    """Decide which channels to remove.

    Args:
        graph: from ``trace``.
        criterion: a registered name (l1, random, ...) or a function ``score(group, model)`` that returns one
            score per channel; the lowest are removed. Parameters with these names are passed to it:
            ``generator``, ``reduction``, ``batch``, and ``calibration``, the :class:`CalibrationStats` of
            ``batch``.
        sparsity: fraction of each group's channels to remove, in [0, 1); a group of C keeps
            max(1, floor(C (1 - s))), each head, half of a gate or normalisation group separately.
        scope: ``local``: every group loses that fraction; ``global``: that fraction of all channels, those
            with the lowest scores relative to the mean of their group, down to the floor of each part.
        selection: ``independent``: groups are scored on the dense weights; ``greedy``: without the input
            channels that are already removed (thesis Fig. 3.4).
        reduction: how the scores of the layers of a group are combined: mean, sum, max, first, or shortcut
            (the projection shortcut decides for the layers it is added to).
        keep: modules and parameters, themselves or by name, and names of groups, that keep all channels,
            inputs and outputs.
        rates: sparsity of single layers, by the name of a module, parameter or group; 0 prunes nothing there.
            Or the name of published rates, such as ``li2017:resnet56-a``.
        parameters: instead of a sparsity, an upper limit on parameters (a count, or a fraction of the dense).
        macs: the same for multiply-adds of one pass of the example inputs.
        latency: the same for the measured median latency of such a pass: a fraction of the dense, or a time
            such as ``5ms``. The notes of the plan state what was measured, with its spread.
        min_channels: the fewest channels any part keeps.
        max_sparsity: the largest fraction any part loses.
        round_to: widths of parts are rounded up to a multiple of this.
        batch: images [N, C, H, W], or inputs of any form with N rows, and labels [N] for the criteria that
            need data (taylor, hessian, activation).
        seed: for the random criterion; the same seed gives the same plan.
        dense_sizes: channels of each group before earlier rounds, by name; sparsity counts from these.

    Raises:
        UserError: an invalid argument, a budget that cannot be reached, a model that changed after the trace,
            or nothing that can be removed.

    >>> import torch
    >>> from secateur.graph import trace
    >>> from secateur.models import build
    >>> graph = trace(build("resnet-tiny", widths=(4, 8)), torch.rand(1, 1, 8, 8))
    >>> [(cut.group, cut.channels, cut.kept) for cut in plan(graph, sparsity=0.5).cuts[:2]]
    [('conv1.weight[0]', 4, 2), ('layer1.0.conv1.weight[0]', 4, 2)]
    """
    fraction = check_sparsity(sparsity)
    _check_names(scope, selection)
    shapes = shapes_of(graph.model)
    if shapes != traced_shapes(graph):
        raise UserError("the model has changed since it was traced", hint="trace it again")
    request = Request(
        fraction,
        protected_groups(graph, keep),
        dense_sizes or {},
        _scores(graph, scorer(criterion, graph.model, batch, graph.logits), seed, reduction),
        scope,
        _rates(graph, rates or {}),
        check_limits(min_channels, max_sparsity, round_to),
        selection == "greedy",
    )
    name = criterion if isinstance(criterion, str) else getattr(criterion, "__name__", "custom")

    def at(level: Fraction) -> Plan:
        asked = replace(request, sparsity=level)
        blank = Plan(
            *(name, float(level), scope, seed, shapes, graph.inputs, ()),
            heads=graph.heads,
            logits=graph.logits,
            graph=graph,
        )
        return fit_plan(graph, lambda: draft_plan(graph, blank, asked))

    budget = budget_of(graph, parameters=parameters, macs=macs, latency=latency)
    while True:
        chosen = smallest_within(graph, budget, at) if budget else at(fraction)
        chosen, blocked = keep_alive(graph, chosen)
        if not blocked:
            break
        graph.learned.blocked.update(blocked)
    # Budgets and later rounds may need nothing removed; a sparsity alone must remove something.
    asked = fraction > 0 or any(request.rates.values())
    if asked and not (chosen.cuts or budget or dense_sizes):
        raise UserError(
            f"sparsity {sparsity} cannot remove a single channel from this model",
            hint="; ".join(chosen.notes[:3]) or _why_nothing(graph),
        )
    return chosen


def _why_nothing(graph: DependencyGraph) -> str:
    if len(graph.tape.outputs) > 1:
        return "every output keeps its shape: name the logits, as in trace(..., logits='logits')"
    return "see graph.explain() for what is frozen and why"


def _check_names(scope: str, selection: str) -> None:
    if scope not in SCOPES:
        raise UserError(f"unknown scope '{scope}'", hint=f"known: {', '.join(SCOPES)}")
    if selection not in SELECTIONS:
        raise UserError(f"unknown selection '{selection}'", hint=f"known: {', '.join(SELECTIONS)}")


def _rates(graph: DependencyGraph, rates: str | Mapping[Any, float]) -> dict[int, Fraction]:
    """The sparsity of each named group; later names override earlier ones."""
    found: dict[int, Fraction] = {}
    chosen: Mapping[Any, float] = RATES.get(rates)() if isinstance(rates, str) else rates
    if not isinstance(chosen, Mapping):
        raise UserError(f"rates are {chosen!r}", hint="for example rates={'layer1': 0.3}")
    for name, value in chosen.items():
        for number in protected_groups(graph, [name]):
            found[number] = check_sparsity(value, f"the rate of {name}")
    return found


def _scores(graph: DependencyGraph, score: Callable[..., torch.Tensor], seed: int, reduction: str) -> Scores:
    """Scores of a group by index; those on the dense weights are computed once."""
    known: dict[int, torch.Tensor] = {}

    def scores(number: int, removed: Mapping[tuple[str, int], tuple[int, ...]]) -> torch.Tensor:
        group = graph.groups[number]
        gone = {
            key: indices for key, indices in removed.items() if key[0] in {m.tensor for m in group.members}
        }
        if not gone and number in known:
            return known[number]
        judged = scored_by_shortcut(graph, group) if reduction == "shortcut" else group
        # One generator per group: the draws must not depend on the order or number of calls.
        digest = sha256_hex(f"{seed}:{group.name}:{number}")
        generator = torch.Generator().manual_seed(int(digest[:14], 16))
        with temporarily_zeroed(graph.model, gone):
            found = checked_scores(
                score, judged, graph.model, generator, "mean" if reduction == "shortcut" else reduction
            )
        if not gone:
            known[number] = found
        return found

    return scores


def scorer(
    criterion: str | Callable[..., torch.Tensor],
    model: nn.Module,
    batch: tuple[Any, torch.Tensor] | None,
    logits: str | int | None = None,
) -> Callable[..., torch.Tensor]:
    """The scoring function, with the calibration batch or its statistics bound if it takes them."""
    if isinstance(criterion, str) and CRITERIA.entry(criterion).facts.get("kind") == "weights":
        raise UserError(
            f"the criterion {criterion} scores single weights, not channels",
            hint="use it with secateur.pruning.mask, or in a study",
        )
    score: Callable[..., torch.Tensor] = criterion if callable(criterion) else CRITERIA.get(criterion)
    known = signature(score).parameters
    if batch is None and "batch" in known and known["batch"].default is Parameter.empty:
        name = criterion if isinstance(criterion, str) else getattr(criterion, "__name__", "custom")
        raise UserError(
            f"the criterion {name} needs a calibration batch",
            hint="pass batch=(images, labels) to plan or prune",
        )
    if "evidence" in known:
        raise UserError(
            "a criterion's parameter 'evidence' is called 'calibration' now",
            hint="rename it; it receives a CalibrationStats",
        )
    if batch is not None and "calibration" in known:
        score = partial(score, calibration=CalibrationStats(model, *batch, logits=logits))
    if batch is not None and "batch" in known:
        score = partial(score, batch=batch)
    if any(parameter.kind is Parameter.VAR_KEYWORD for parameter in known.values()):
        return score

    def asked(group: Group, model: nn.Module, **offered: object) -> torch.Tensor:
        return score(group, model, **{name: offered[name] for name in offered if name in known})

    return asked


def draft_plan(graph: DependencyGraph, blank: Plan, request: Request) -> Plan:
    """The plan for what is known so far: counts, indices, and width attributes to set."""
    parts, channels = parts_of(graph.groups, graph.atoms)
    found = (tie_of(graph.tape, graph.marks, match, parts, channels) for match in graph.learned.matches)
    ties = (*graph.ties, *(tie for tie in found if tie is not None))
    blocked = {number for number, group in enumerate(graph.groups) if group.name in graph.learned.blocked}
    counts, tied = keep_counts(graph, request, blocked, ties), ties_by_part(ties)
    cuts: list[Cut] = []
    removed: dict[tuple[str, int], tuple[int, ...]] = {}
    for number, group in enumerate(graph.groups):
        scores = request.scores(number, removed if request.greedy else {})
        cut = cut_group(group, scores, counts, tied)
        if cut is not None:
            cuts.append(cut)
            for part in cut.slices if request.greedy else ():
                key = (part.tensor, part.dim)
                removed[key] = tuple(sorted({*removed.get(key, ()), *part.removed}))
    plan = replace(blank, cuts=tuple(cuts), notes=notes_of(graph, request, cuts))
    if not graph.learned.literals:
        return plan
    return replace(plan, repairs=repairs_of(graph, masks_of(graph, plan)))
