"""Verify that the pruned network computes what the dense one computes with the removed channels masked.

Both run in float64 on random inputs and randomly perturbed parameters, because ones, zeros and symmetries of
real weights can hide a wrong index. Outputs and input gradients must agree to 1e-10.
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from secateur.cpu.malloc import kept_heap
from secateur.graph.channel_masks import ChannelMasks
from secateur.graph.dependency import DependencyGraph
from secateur.graph.trace.decisions import Decisions, by_order
from secateur.graph.trace.example_inputs import inputs_near, random_inputs
from secateur.graph.trace.input_tree import mapped, tensors_in
from secateur.graph.trace.named_tensors import named_tensors
from secateur.graph.trace.recorder import record
from secateur.graph.trace.tape import Call, Tape
from secateur.graph.trace.told import comparing_told, told_in_order
from secateur.models import device_of
from secateur.proof.alive import depends, why_nothing
from secateur.proof.checkpointing import with_gradient
from secateur.proof.first_wrong import first_wrong
from secateur.proof.float64 import Float64Recorder, to_float64
from secateur.proof.following_widths import following_widths
from secateur.proof.lifetimes import SAVED_BYTES, choose_boundaries
from secateur.proof.matching import departs, detours, match_calls, matched_results
from secateur.proof.relative_error import TOLERANCE
from secateur.proof.relative_error import relative_error as relative_error
from secateur.proof.smaller_inputs import on_smaller_inputs
from secateur.proof.suspects import groups_reaching
from secateur.proof.ties import with_same_picks
from secateur.surgery.cut import cut_tensors, temporarily_cut
from secateur.surgery.perturbed import perturbed
from secateur.surgery.plan import Plan, kept_atoms, masks_of
from secateur.text import first_line

# A draw on which all gradients are zero proves nothing and is repeated.
Told = Mapping[Any, Any]
_DRAWS = 4
_NEAR = 0.02
_ASTRAY = "and in every draw the code, which decides by numbers, took another way than on the example"


@dataclass(frozen=True)
class Proof:
    """The result of a verification; both errors are relative to the largest value compared.

    ``gradient_error`` is ``None`` where inputs are integers or the network has no gradient. On failure
    ``reason`` says what went wrong where, and ``suspects`` names the groups involved. ``nothing`` says why
    nothing was compared; then the network may be pruned, but is not proved. ``alive`` is whether the output
    depends on the input, and ``outputs`` are those of the masked dense network. ``same_picks`` is the tape to
    compare with instead where rounding may have decided what was picked.
    """

    error: float
    gradient_error: float | None
    pruned: Tape | None
    reason: str = ""
    suspects: frozenset[str] = frozenset()
    changed_by_design: tuple[str, ...] = ()
    alive: bool = True
    nothing: str = ""
    outputs: tuple[Tensor, ...] = field(default=(), repr=False, compare=False)
    same_picks: Tape | None = field(default=None, repr=False, compare=False)

    @property
    def ok(self) -> bool:
        """Whether the pruned network computes what the masked dense one computes."""
        return not self.reason


def verify(plan: Plan, graph: DependencyGraph) -> Proof:
    """Apply the plan to perturbed float64 weights, compare with the masked dense network, restore the model.

    Large images and long videos are made smaller where the network does the same with smaller ones.
    """
    smaller = on_smaller_inputs(graph)
    proof = _drawn(plan, smaller)
    if proof.nothing and smaller is not graph:
        # A small image may show nothing that a detector finds.
        proof = _drawn(plan, graph)
    return proof


def _drawn(plan: Plan, graph: DependencyGraph) -> Proof:
    """The first draw that proves something, or the last one, with what the draws have in common."""
    dead: list[Proof] = []
    more = detours(graph.tape)
    for attempt in range(_DRAWS + more):
        generator = torch.Generator().manual_seed((_DRAWS * plan.seed + attempt) % 2**63)
        proof = _attempt(plan, graph, generator, near=attempt >= _DRAWS and attempt % 2 == 0)
        # A draw on which the code took another way than on the example tells nothing.
        astray = more and proof.reason and proof.pruned and departs(graph.tape, proof.pruned)
        if astray and attempt < _DRAWS + more - 1:
            continue
        if astray:
            proof = replace(proof, reason=f"{proof.reason}, {_ASTRAY}")
        if proof.reason:
            return _told_as_the_example(plan, graph) or replace(proof, outputs=())
        if proof.alive:
            return replace(proof, outputs=())
        dead.append(proof)
        if len(dead) == _DRAWS:
            break
    return replace(dead[-1], outputs=(), nothing=why_nothing([proof.outputs for proof in dead]))


def _told_as_the_example(plan: Plan, graph: DependencyGraph) -> Proof | None:
    """A proof whose runs tell the code the numbers of the example, and compare them; None if it fails too."""
    if (tape := comparing_told(graph.tape)) is None:
        return None
    for attempt in range(_DRAWS):
        generator = torch.Generator().manual_seed((_DRAWS * plan.seed + attempt) % 2**63)
        told = told_in_order(graph.tape, masks_of(graph, plan).compact)
        proof = _attempt(plan, replace(graph, tape=tape), generator, near=False, told=told)
        if proof.alive or proof.reason:
            return None if proof.reason else replace(proof, outputs=())
    return None


def _attempt(
    plan: Plan, graph: DependencyGraph, start: torch.Generator, *, near: bool, told: Told | None = None
) -> Proof:
    """One draw, and the same once more for the same picks if it fails where there are picks."""
    state = start.get_state()
    proof = _once(plan, graph, start, near=near, told=told)
    if proof.same_picks is None or told:
        return proof
    alike = replace(graph, tape=proof.same_picks)
    second = _once(plan, alike, start.set_state(state), near=near)
    return second if second.ok else proof


def _once(
    plan: Plan, graph: DependencyGraph, generator: torch.Generator, *, near: bool, told: Told | None = None
) -> Proof:
    """One draw of weights and inputs; ``near`` the model's own and the example, where these are known."""
    model, near = graph.model, near and graph.example is not None
    # Other numbers would take the code another way.
    spread = _NEAR if near else 1.0
    dense = perturbed(named_tensors(model), generator, fixed=graph.numbers, spread=spread)
    inputs = random_inputs(graph.inputs, generator, device_of(model))
    if near:
        inputs = inputs_near(graph.example, generator)
    kept = SAVED_BYTES + sum(t.numel() * t.element_size() for t in named_tensors(model).values())
    boundaries = choose_boundaries(graph.tape, kept)
    recorder: Float64Recorder | None = None
    compact = masks_of(graph, plan).compact
    try:
        smaller = cut_tensors(dense, plan, model)
        with temporarily_cut(model, plan, smaller), kept_heap() if boundaries else nullcontext():
            recorder = Float64Recorder(model)
            recorder.decisions = Decisions(known=by_order(graph.tape, compact), told=told)
            wide = mapped(lambda _, tensor: to_float64(tensor), inputs)
            pruned, outputs = record(model, wide, recorder, logits=graph.logits)
    except Exception as error:
        return _crashed(recorder.tape if recorder else Tape(), error, plan, graph)
    matched, odd = match_calls(graph.tape, pruned)
    masks = ChannelMasks(kept_atoms(graph, plan), graph.marks, graph.statistics, pruned, matched)
    if (place := _first_difference(graph, masks, odd)) is not None:
        return _refused(place, "gives another shape than expected", plan, graph, pruned)
    if len(outputs) != len(graph.tape.outputs):
        return _refused(odd, "returns or decides by another number of values", plan, graph, pruned)
    leaves = [to_float64(item) for item in tensors_in(inputs)]
    try:
        again = with_gradient(pruned, smaller, leaves, boundaries=choose_boundaries(pruned, kept))
        # They can be cut again from the dense ones; the dense replay needs the memory.
        smaller.clear()
        seen = (outputs, *again)
        return _compare(seen, plan, graph, masks, dense=dense, inputs=leaves, boundaries=boundaries)
    except (IndexError, RuntimeError) as error:
        # Recorded steps that fit the example's numbers alone (an index read from them) fail on others.
        why = f"cannot be compared on other numbers: {type(error).__name__}: {first_line(error)}"
        return _refused(None, why, plan, graph, pruned)


def _named(call: Call) -> str:
    return call.short_name + (f" at {call.source}" if call.source else f" in {call.module}")


def _compare(
    seen: tuple[list[Tensor], list[Tensor], Tensor | None],
    plan: Plan,
    graph: DependencyGraph,
    masks: ChannelMasks,
    *,
    dense: Mapping[str, Tensor],
    inputs: list[Tensor],
    boundaries: Sequence[int],
) -> Proof:
    """Compare the pruned network's outputs (run and replay) and gradient with the masked dense ones."""
    try:
        reference, wanted = with_gradient(graph.tape, dense, inputs, masks, boundaries=boundaries)
        error, gradient_error = _errors(seen, (reference, wanted), graph, masks)
    except (RuntimeError, ValueError, IndexError) as trouble:
        # Other inputs may need more or fewer results than the example: one for each chosen expert.
        why = f"cannot be compared: {type(trouble).__name__}: {first_line(trouble)}"
        return _refused(None, why, plan, graph, masks.pruned)
    changing = (graph.tape.calls[place] for place in sorted(graph.statistics))
    changed_by_design = tuple(
        _named(call) for call in changing if any(masks.loses_channels(number) for number in call.refs)
    )
    following = (
        f"a number that follows a width, in {_named(call)}" for call in following_widths(graph.tape, masks)
    )
    changed_by_design += tuple(following)
    if error <= TOLERANCE and (gradient_error is None or gradient_error <= TOLERANCE):
        alive = depends(graph, dense, masks, reference) if wanted is None else bool((wanted != 0).any())
        # Labels hide small differences, and an empty output all of them: the values before are compared.
        hidden = not alive or not any(item.is_floating_point() for item in reference)
        place = (
            first_wrong(graph, dense, cut_tensors(dense, plan, graph.model), inputs, masks)
            if hidden
            else None
        )
        if place is not None:
            return _refused(place, "differs from the masked dense network", plan, graph, masks.pruned)
        kept = () if alive else tuple(reference)
        return Proof(error, gradient_error, masks.pruned, "", frozenset(), changed_by_design, alive, "", kept)
    smaller = cut_tensors(dense, plan, graph.model)
    place = first_wrong(graph, dense, smaller, inputs, masks)
    why = f"differs from the masked dense network by {max(error, gradient_error or 0.0):.1e}"
    refused = _refused(place, why, plan, graph, masks.pruned, error, gradient_error)
    return replace(refused, same_picks=with_same_picks(graph, masks, smaller, inputs))


def _errors(
    seen: tuple[list[Tensor], list[Tensor], Tensor | None],
    reference: tuple[list[Tensor], Tensor | None],
    graph: DependencyGraph,
    masks: ChannelMasks,
) -> tuple[float, float | None]:
    """The largest errors of the pruned network's outputs (run and replay) and of its gradient."""
    outputs, again, found = seen
    wanted = reference[1]
    left = [masks.compact(*pair) for pair in zip(graph.tape.outputs, reference[0], strict=True)]
    error = max(relative_error(a, b) for a, b in zip([*outputs, *again], [*left, *left], strict=True))
    return error, None if wanted is None or found is None else relative_error(found, wanted)


def _first_difference(graph: DependencyGraph, masks: ChannelMasks, odd: int | None) -> int | None:
    """The first call whose result has an unexpected shape, else the missing call ``odd``."""
    for place, results in matched_results(graph.tape, masks.pruned, masks.matches):
        if not all(masks.fits(mine, masks.pruned.values[theirs].shape) for mine, theirs in results):
            return place
    return odd


def _crashed(partial: Tape, error: Exception, plan: Plan, graph: DependencyGraph) -> Proof:
    _, place = match_calls(graph.tape, partial)
    return _refused(
        place, f"fails after surgery: {type(error).__name__}: {first_line(error)}", plan, graph, partial
    )


def _refused(
    place: int | None,
    why: str,
    plan: Plan,
    graph: DependencyGraph,
    pruned: Tape | None,
    error: float = float("inf"),
    gradient_error: float | None = None,
) -> Proof:
    if place is None:
        return Proof(
            error, gradient_error, pruned, f"the pruned network {why}", groups_reaching(plan, graph, None)
        )
    call = graph.tape.calls[place]
    where = f"{call.name.removeprefix('aten::')} in {call.module or 'the model'} ({call.source})"
    return Proof(error, gradient_error, pruned, f"{where} {why}", groups_reaching(plan, graph, call))
