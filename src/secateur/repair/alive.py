"""What a pruned model needs beside a forward pass: widths that it states, and code for training."""

from dataclasses import replace

from secateur.graph.dependency import DependencyGraph
from secateur.repair.shapes import runs_as_recorded, shape_run
from secateur.repair.stated_widths import stated_widths
from secateur.repair.training_run import fit_training
from secateur.surgery.plan import Plan, Repair, masks_of


def keep_alive(graph: DependencyGraph, plan: Plan) -> tuple[Plan, dict[str, str]]:
    """The plan with the attributes that should follow it, and groups to leave whole instead, with the reason.

    An attribute that makes the forward pass fail is left as it is.
    """
    if not plan.cuts:
        return plan, {}
    stated = stated_widths(graph, plan, masks_of(graph, plan))
    if stated.repairs:
        together = replace(plan, repairs=(*plan.repairs, *stated.repairs))
        plan = together if _runs(graph, together) else _one_by_one(graph, plan, stated.repairs)
    plan, blocked = fit_training(graph, plan)
    return replace(plan, notes=tuple(dict.fromkeys((*plan.notes, *stated.notes)))), blocked


def _one_by_one(graph: DependencyGraph, plan: Plan, repairs: tuple[Repair, ...]) -> Plan:
    for repair in repairs:
        more = replace(plan, repairs=(*plan.repairs, repair))
        plan = more if _runs(graph, more) else plan
    return plan


def _runs(graph: DependencyGraph, plan: Plan) -> bool:
    known = runs_as_recorded(plan, graph, masks_of(graph, plan))
    return known or shape_run(plan, graph).place is None
