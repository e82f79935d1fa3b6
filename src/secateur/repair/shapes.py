"""Fit a plan to the model's own code: run the pruned shapes, and learn width attributes and equal counts.

The pruned model runs on the meta device. Where it fails, or a shape differs from the labels, the operation
shows which sizes are at stake. A candidate (an attribute that holds such a size, or two counts that were one
number in the dense model) is accepted only if the run gets further with it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from secateur.graph.channel_masks import ChannelMasks
from secateur.graph.dependency import DependencyGraph
from secateur.graph.trace.decisions import Decisions, by_order
from secateur.graph.trace.example_inputs import inputs_near, meta_inputs, random_inputs
from secateur.graph.trace.input_tree import call_model
from secateur.graph.trace.isolated_forward import isolated_forward
from secateur.graph.trace.named_tensors import named_tensors
from secateur.graph.trace.recorder import Recorder, record
from secateur.graph.trace.tape import Tape
from secateur.graph.trace.told import comparing_told, told_in_order
from secateur.graph.width_attributes import Literal, Match, literal_value, siblings, slots
from secateur.proof.lifetimes import writes_parameters
from secateur.proof.matching import computing_calls, departs, detours, match_calls, matched_results
from secateur.repair.candidates import candidates, needs_shapes, states_a_width, with_number
from secateur.repair.constants import describe, groups_to_block, same_fills, written_width
from secateur.repair.meta_shapes import ShapeRecorder, TapeFollower
from secateur.surgery.cut import cut_tensors, temporarily_cut, temporarily_on_meta
from secateur.surgery.plan import Plan, Repair, masks_of
from secateur.text import first_line

Draft = Callable[[], Plan]
_TRIES = 60
_ROUNDS = 400


@dataclass(frozen=True)
class ShapeRun:
    """How far the pruned model ran: calls that agreed, and the failing call (``None``: all agreed).

    ``fills`` are the calls that filled tensors of the same size as in the dense run.
    """

    progress: int
    place: int | None
    why: str = ""
    fills: tuple[int, ...] = ()


def fit_plan(graph: DependencyGraph, draft: Draft) -> Plan:
    """The plan of ``draft`` once it runs through the model's own code.

    ``draft`` is called again whenever something was learned. Groups without a repair are left whole, with the
    reason in ``graph.learned.blocked``.
    """
    plan = draft()
    if not plan.cuts:
        return plan
    masks = masks_of(graph, plan)
    if not needs_shapes(graph, masks) or runs_as_recorded(plan, graph, masks):
        return plan
    outcome = shape_run(plan, graph)
    for _ in range(_ROUNDS):
        if outcome.place is None or not plan.cuts:
            break
        better = _learn(graph, draft, plan, outcome)
        if better is None and (real := _off_meta(plan, graph, outcome)) is not None:
            better = plan, real
        if better is None:
            call = graph.tape.calls[outcome.place]
            width, instead = written_width(graph, plan, outcome.place, outcome.fills)
            for name in groups_to_block(plan, graph, call, width):
                graph.learned.blocked[name] = describe(call, outcome.why) + instead
            plan = draft()
            better = plan, shape_run(plan, graph) if plan.cuts else ShapeRun(0, None)
        plan, outcome = better
    return plan


def repairs_of(graph: DependencyGraph, masks: ChannelMasks) -> tuple[Repair, ...]:
    """The attributes to set for the kept channels of ``masks``, from what was learned."""
    modules = dict(graph.model.named_modules())
    values: dict[tuple[str, str], tuple[Any, Any]] = {}
    for literal in graph.learned.literals:
        number = slots(graph.tape.calls[literal.spot.call])[literal.spot.slot]
        dense = graph.tape.values[number].shape[literal.spot.dim]
        after = literal.value * masks.expected_shape(number)[literal.spot.dim] / dense
        if after != int(after) or int(after) == literal.value:
            continue
        before = modules[literal.module].__dict__.get(literal.attribute)
        old, new = values.get((literal.module, literal.attribute), (before, before))
        values[literal.module, literal.attribute] = (old, with_number(new, literal.index, int(after)))
    return tuple(Repair(*key, before, after) for key, (before, after) in values.items())


def runs_as_recorded(plan: Plan, graph: DependencyGraph, masks: ChannelMasks) -> bool:
    """Whether the pruned model on the meta device runs the calls of the tape with the expected shapes.

    ``False`` is no verdict: devices and layouts change which operations run, and ``shape_run`` decides.
    """
    follower, inputs = TapeFollower(graph.tape, masks.fits), meta_inputs(graph.inputs)
    try:
        with (
            temporarily_on_meta(graph.model, plan),
            isolated_forward(graph.model),
            torch.inference_mode(False),
            torch.no_grad(),
            follower,
        ):
            call_model(graph.model, inputs)
    except Exception:
        # The model's code may raise anything on smaller shapes; ``shape_run`` finds out where and why.
        return False
    return follower.arrived


def shape_run(plan: Plan, graph: DependencyGraph) -> ShapeRun:
    """Run the pruned model for its shapes, on the meta device if the model runs there."""
    if graph.learned.meta is not False:
        outcome = _run(plan, graph, meta=True)
        # Memory layouts may differ on the meta device, and change which operations run.
        sure = (
            graph.learned.meta
            and outcome.why.startswith("fails after surgery")
            and "meta" not in outcome.why.lower()
        )
        if outcome.place is None or sure:
            return outcome
        real = _run(plan, graph, meta=False)
        graph.learned.meta = real.place is not None and real.place == outcome.place
        return real
    return _run(plan, graph, meta=False)


def _off_meta(plan: Plan, graph: DependencyGraph, outcome: ShapeRun) -> ShapeRun | None:
    """The run on the real device, if it ends elsewhere than the run on the meta device."""
    if not graph.learned.meta:
        return None
    real = _run(plan, graph, meta=False)
    graph.learned.meta = real.place == outcome.place
    return None if graph.learned.meta else real


def _run(plan: Plan, graph: DependencyGraph, *, meta: bool) -> ShapeRun:
    """A run that follows the way of the example, where the code decides by numbers, or the last one tried."""
    for draw in range(1 if meta else 1 + detours(graph.tape)):
        tape, why = _drawn_run(plan, graph, meta=meta, draw=draw)
        if not departs(graph.tape, tape):
            break
    outcome = _outcome(graph, plan, tape, why)
    if meta or outcome.place is None or comparing_told(graph.tape) is None:
        return outcome
    told = _outcome(graph, plan, *_drawn_run(plan, graph, meta=meta, draw=0, told=True))
    return told if told.place is None or told.progress > outcome.progress else outcome


def _drawn_run(
    plan: Plan, graph: DependencyGraph, *, meta: bool, draw: int, told: bool = False
) -> tuple[Tape, str]:
    """The calls of the pruned model on one draw of inputs, and why it failed, if it did."""
    model, own = graph.model, named_tensors(graph.model)
    device = next((tensor.device for tensor in own.values()), torch.device("cpu"))
    start = torch.Generator().manual_seed(draw)
    inputs = meta_inputs(graph.inputs) if meta else random_inputs(graph.inputs, start, device)
    dense = {name: tensor.data for name, tensor in own.items()}
    # Slices of the dense weights have the right shapes, unless the model writes into its weights.
    near = draw > 0 and graph.example is not None
    cut = cut_tensors if writes_parameters(graph.tape) or near else _sized
    if near:
        inputs = inputs_near(graph.example, start)
    recorder: Recorder | None = None
    compact = masks_of(graph, plan).compact
    known, numbers = by_order(graph.tape, compact), told_in_order(graph.tape, compact) if told else {}
    why = ""
    try:
        with (
            temporarily_on_meta(model, plan)
            if meta
            else temporarily_cut(model, plan, cut(dense, plan, model))
        ):
            recorder = ShapeRecorder(model) if meta else Recorder(model, sources=False)
            # The meta device has no numbers to compare; what depends on them fails there.
            recorder.decisions = Decisions(known={} if meta else known, told=numbers)
            record(model, inputs, recorder, logits=graph.logits)
    except Exception as error:
        # The model's code may raise anything on smaller shapes; that is the finding.
        why = f"fails after surgery: {type(error).__name__}: {first_line(error)}"
    return recorder.tape if recorder else Tape(), why


def _sized(tensors: Mapping[str, Tensor], plan: Plan, model: nn.Module) -> dict[str, Tensor]:
    """The first elements of the tensors in the shapes after surgery, for runs that only look at shapes.

    Contiguous tensors are not copied.
    """
    shapes = plan.shapes_after()
    return {
        name: tensor
        if tuple(tensor.shape) == shapes[name]
        else tensor.flatten()[: prod(shapes[name])].view(shapes[name])
        for name, tensor in tensors.items()
    }


def _outcome(graph: DependencyGraph, plan: Plan, tape: Tape, why: str) -> ShapeRun:
    masks = masks_of(graph, plan)
    matched, odd = match_calls(graph.tape, tape)
    fills = same_fills(graph.tape, tape, matched)
    progress = 0
    for place, results in matched_results(graph.tape, tape, matched):
        if not all(masks.fits(mine, tape.values[theirs].shape) for mine, theirs in results):
            return ShapeRun(progress, place, "gives another shape than expected", fills)
        progress += 1
    if why and odd is None:
        odd = computing_calls(graph.tape)[-1]
    return ShapeRun(progress, odd, why or "is missing or another operation", fills)


def _learn(
    graph: DependencyGraph, draft: Draft, plan: Plan, outcome: ShapeRun
) -> tuple[Plan, ShapeRun] | None:
    """Try candidates, most likely first; keep what the first one that gets further needs."""
    assert outcome.place is not None
    known = graph.learned
    before = list(known.literals), list(known.matches)
    for number, candidate in enumerate(candidates(graph, masks_of(graph, plan), outcome.place)):
        if number >= _TRIES:
            break
        better = _trial(graph, draft, candidate, outcome.progress + 1)
        if better is None:
            continue
        # A count (heads, groups) may equal or divide a width by chance; drop it if the run needs no repair.
        sizes = [item for item in candidate if isinstance(item, Literal)]
        for item in [item for item in sizes if not states_a_width(graph, item)]:
            fewer = [other for other in candidate if other is not item]
            learned = known.literals, known.matches
            known.literals, known.matches = list(before[0]), list(before[1])
            if fewer and (less := _trial(graph, draft, fewer, better[1].progress)) is not None:
                better, candidate = less, fewer
            else:
                known.literals, known.matches = learned
        return better
    return None


def _trial(
    graph: DependencyGraph, draft: Draft, items: list[Literal | Match], least: int
) -> tuple[Plan, ShapeRun] | None:
    """The plan with these findings, for the whole class if possible; ``None`` if it gets less far."""
    known = graph.learned
    before = known.literals, known.matches
    for more in ([found for item in items for found in _with_siblings(graph, item)], items):
        known.literals, known.matches = list(before[0]), list(before[1])
        _adopt(graph, more)
        plan = draft()
        if not plan.cuts:
            continue
        outcome = shape_run(plan, graph)
        if outcome.place is None or outcome.progress >= least:
            return plan, outcome
    known.literals, known.matches = before
    return None


def _adopt(graph: DependencyGraph, found: list[Literal | Match]) -> None:
    for item in found:
        if isinstance(item, Match):
            graph.learned.matches.append(item)
        else:
            key = (item.module, item.attribute, item.index)
            kept = [old for old in graph.learned.literals if (old.module, old.attribute, old.index) != key]
            graph.learned.literals = [*kept, item]


def _with_siblings(graph: DependencyGraph, found: Literal | Match) -> list[Literal | Match]:
    """The finding and its counterparts in the other modules of the class."""
    modules = dict(graph.model.named_modules())
    result: list[Literal | Match] = [found]
    if isinstance(found, Match):
        owner = graph.tape.calls[found.second.call].module
        for _, (first, second) in siblings(graph.model, graph.tape, [found.first, found.second], owner):
            result.append(Match(first, second))
        return result
    for name, (spot,) in siblings(graph.model, graph.tape, [found.spot], found.module):
        twin = Literal(name, found.attribute, found.index, found.value, spot)
        value = literal_value(modules[name], twin)
        if isinstance(value, int):
            result.append(Literal(name, found.attribute, found.index, value, spot))
    return result
