"""Apply a plan to a model: verify it, leave groups whole that fail, cut the rest, and report."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Unpack

import torch
from torch import nn

from secateur.display import Shown
from secateur.errors import UserError
from secateur.graph.dependency import DependencyGraph
from secateur.graph.flops import macs as tape_macs
from secateur.graph.trace.example_inputs import random_inputs
from secateur.graph.tracing import trace
from secateur.models import device_of
from secateur.proof.verify import Proof, verify
from secateur.pruning.history import remember
from secateur.pruning.planning import PlanOptions
from secateur.pruning.planning import plan as make_plan
from secateur.repair.alive import keep_alive
from secateur.repair.shapes import repairs_of
from secateur.surgery.cut import check_fits, cut_channels_, cut_optimizer_state
from secateur.surgery.input_json import check_stored
from secateur.surgery.plan import Plan, masks_of

_FEW = 3


@dataclass(frozen=True, repr=False)
class PruneReport(Shown):
    """The result of ``apply`` and ``prune``: counts before and after, and the proof's errors.

    MACs are those of one forward pass of the example inputs. ``max_error`` and ``gradient_error`` are
    relative, and ``None`` without verification. ``verified`` is false where none was asked for, and where
    outputs are empty or constant, so that nothing could be compared; a note says so then.
    ``changed_by_design`` lists operations (norms over channels, softmax, means) that now take their
    statistics over the kept channels. ``notes`` say what differs from the request, and why.

    >>> import secateur
    >>> model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    >>> report = secateur.prune(model, torch.rand(1, 3), sparsity=0.5)
    >>> report.channels_before, report.channels, report.verified
    (4, 2, True)
    """

    parameters_before: int
    parameters_after: int
    macs_before: int
    macs_after: int
    groups_pruned: int
    channels_before: int
    channels: int
    sparsity_requested: float
    sparsity_achieved: float
    verified: bool
    max_error: float | None
    gradient_error: float | None
    changed_by_design: tuple[str, ...]
    notes: tuple[str, ...]
    plan: Plan

    def to_json(self) -> dict[str, Any]:
        """All fields as plain data for JSON; of the plan only its fingerprint."""
        data = {key: value for key, value in vars(self).items() if key != "plan"}
        data |= {"changed_by_design": list(self.changed_by_design), "notes": list(self.notes)}
        return {"schema_version": 1, **data, "plan": self.plan.fingerprint}

    def _shown(self) -> tuple[str, list[tuple[str, str]]]:
        rows = [("channels", f"{self.channels_before:,} → {self.channels:,}")]
        return f"PruneReport: {self}", [*rows, *(("note", note) for note in self.notes)]

    def __str__(self) -> str:
        share = self.parameters_after / max(self.parameters_before, 1)
        proof = f"proved to {self.max_error:.1e}" if self.verified else "not verified"
        return (
            f"parameters {self.parameters_before:,} → {self.parameters_after:,} ({share:.1%}), "
            f"MACs {self.macs_before:,} → {self.macs_after:,}, {self.groups_pruned} groups, {proof}"
        )


def apply(
    model: nn.Module,
    plan: Plan,
    *,
    example_inputs: Any = None,
    verify: bool = True,
    optimizer: torch.optim.Optimizer | None = None,
    copies: Sequence[nn.Module] = (),
) -> PruneReport:
    """Remove the channels of the plan from ``model``, in place, and verify the result.

    The pruned network must compute what the dense one computes with the removed channels masked after every
    operation: outputs and input gradients in float64, on random inputs, to 1e-10. A group that fails is left
    whole, and the report says why.

    Args:
        model: of the architecture the plan was made for, unpruned.
        plan: from ``plan`` or ``Plan.from_json``.
        example_inputs: needed only if the plan does not know its inputs.
        verify: whether to verify the result before the model is changed.
        optimizer: of this model; its state (momentum, moments) is cut with the parameters.
        copies: modules of the same architecture (moving averages, teachers) that are cut in the same way.

    Raises:
        UserError: the plan does not fit this model or a copy, or no part of it passes.

    >>> import secateur
    >>> model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    >>> plan = secateur.plan(secateur.trace(model, torch.rand(1, 3)), sparsity=0.5)
    >>> secateur.apply(model, plan).parameters_after
    14
    >>> model[2]
    Linear(in_features=2, out_features=2, bias=True)
    """
    for module in (model, *copies):
        check_fits(module, plan)
    graph = _graph_for(model, plan, example_inputs)
    before = sum(parameter.numel() for parameter in model.parameters())
    proof: Proof | None = None
    if verify:
        plan, proof = proved(plan, graph)
    if optimizer is not None:
        cut_optimizer_state(optimizer, model, plan)
    for module in (model, *copies):
        cut_channels_(module, plan)
        remember(module, plan)
    return _report(model, plan, graph, before, proof)


def prune(
    model: nn.Module,
    example_inputs: Any,
    *,
    verify: bool = True,
    heads: str = "width",
    logits: str | int | None = None,
    **options: Unpack[PlanOptions],
) -> PruneReport:
    """Trace, plan and apply in one call; ``options`` are all those of ``plan``.

    Args:
        model: pruned in place.
        example_inputs: what ``trace`` takes.
        verify: whether to verify the result before the model is changed, see ``apply``.
        heads: ``width`` or ``whole``, see ``trace``.
        logits: which of several outputs counts, see ``trace``.
        options: ``criterion``, ``sparsity``, a budget instead of it, and the others: see ``plan``.

    Raises:
        UserError: as ``trace``, ``plan`` and ``apply``.

    >>> import secateur
    >>> model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    >>> report = secateur.prune(model, torch.rand(1, 3), sparsity=0.5)
    >>> report.parameters_before, report.parameters_after
    (26, 14)
    """
    graph = trace(model, example_inputs, heads=heads, logits=logits)
    return apply(model, make_plan(graph, **options), verify=verify)


def _graph_for(model: nn.Module, plan: Plan, example_inputs: Any) -> DependencyGraph:
    if plan.graph is not None and plan.graph.model is model:
        return plan.graph
    if example_inputs is None:
        if not plan.inputs:
            raise UserError("the plan does not know its inputs", hint="pass example_inputs")
        check_stored(plan.inputs)
        example_inputs = random_inputs(plan.inputs, torch.Generator().manual_seed(0), device_of(model))
    return trace(model, example_inputs, heads=plan.heads, logits=plan.logits)


def proved(plan: Plan, graph: DependencyGraph) -> tuple[Plan, Proof]:
    """The plan without the groups that fail verification, and its proof.

    Raises:
        UserError: no part of it passes.
    """
    proof = verify(plan, graph)
    while not proof.ok:
        if not plan.cuts:
            raise UserError(
                f"the network cannot be pruned safely: {proof.reason}", hint="see graph.explain()"
            )
        plan, proof = _smaller(plan, graph, proof)
        if proof.ok and not plan.cuts:
            raise UserError(
                f"no part of the plan passes its proof: {plan.notes[-1]}", hint="see graph.explain()"
            )
    return plan, proof


def _smaller(plan: Plan, graph: DependencyGraph, proof: Proof) -> tuple[Plan, Proof]:
    """The plan without the suspect groups; without a single one of a few, if that is enough."""
    suspects = sorted(proof.suspects)
    for name in suspects if 1 < len(suspects) <= _FEW else ():
        candidate = _less(plan, {name}, f"not pruned: {name}: {proof.reason}", graph)
        if candidate.cuts and (again := verify(candidate, graph)).ok:
            return candidate, again
    few = ", ".join(suspects[:_FEW])
    candidate = _less(plan, set(suspects), f"not pruned: {few}: {proof.reason}", graph)
    return candidate, verify(candidate, graph)


def _less(plan: Plan, groups: set[str], note: str, graph: DependencyGraph) -> Plan:
    """The plan without some groups, with the repairs for the channels that are left."""
    left = plan.without(groups, note)
    left = replace(left, repairs=repairs_of(graph, masks_of(graph, left)))
    left, blocked = keep_alive(graph, left)
    if blocked:
        few = ", ".join(list(blocked)[:_FEW])
        return _less(left, set(blocked), f"not pruned: {few}: {next(iter(blocked.values()))}", graph)
    return left


def _report(
    model: nn.Module, plan: Plan, graph: DependencyGraph, before: int, proof: Proof | None
) -> PruneReport:
    channels = sum(group.size for group in graph.groups)
    removed = sum(cut.channels - cut.kept for cut in plan.cuts)
    unproved = f"not verified: {proof.nothing}" if proof is not None and proof.nothing else ""
    if unproved:
        proof = None
    return PruneReport(
        parameters_before=before,
        parameters_after=sum(prod(parameter.shape) for parameter in model.parameters()),
        macs_before=tape_macs(graph.tape),
        macs_after=tape_macs(graph.tape, masks_of(graph, plan).expected_shape),
        groups_pruned=len(plan.cuts),
        channels_before=channels,
        channels=channels - removed,
        sparsity_requested=plan.sparsity,
        sparsity_achieved=removed / channels if channels else 0.0,
        verified=proof is not None,
        max_error=proof.error if proof is not None else None,
        gradient_error=proof.gradient_error if proof is not None else None,
        changed_by_design=proof.changed_by_design if proof is not None else (),
        notes=(*plan.notes, unproved) if unproved else plan.notes,
        plan=replace(plan, graph=None),
    )
