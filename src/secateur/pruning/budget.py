"""Budgets: the smallest sparsity whose plan has at most so many parameters, multiply-adds or milliseconds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from secateur.errors import UserError
from secateur.graph.dependency import DependencyGraph
from secateur.graph.flops import macs as macs_of
from secateur.pruning.latency import LatencyLimit, fast_enough, latency_limit
from secateur.surgery.plan import Plan, masks_of

_STEPS = 1000


@dataclass(frozen=True)
class Budget:
    """What a plan may cost: parameters and multiply-adds as counts, and a measured latency."""

    counts: Mapping[str, int]
    latency: LatencyLimit | None


def budget_of(graph: DependencyGraph, *, parameters: Any, macs: Any, latency: Any) -> Budget | None:
    """The budget that the user's arguments describe, ``None`` if there is none.

    Raises:
        UserError: an argument that is no budget.
    """
    counts = {}
    if parameters is not None:
        dense = sum(parameter.numel() for parameter in graph.model.parameters())
        counts["parameters"] = limit_of("parameters", parameters, dense)
    if macs is not None:
        counts["macs"] = limit_of("macs", macs, macs_of(graph.tape))
    limit = latency_limit(latency) if latency is not None else None
    return Budget(counts, limit) if counts or limit else None


def limit_of(name: str, budget: Any, dense: int) -> int:
    """A budget as a count: a fraction of the dense model in (0, 1), or a whole number.

    Raises:
        UserError: it is neither.
    """
    if isinstance(budget, float) and 0 < budget < 1:
        return int(Fraction(str(budget)) * dense)
    if isinstance(budget, int) and not isinstance(budget, bool) and budget > 0:
        return budget
    raise UserError(
        f"{name} must be a fraction in (0, 1) or a positive whole number, got {budget!r}",
        hint=f"the dense model has {dense:,}",
    )


def costs(graph: DependencyGraph, plan: Plan) -> dict[str, int]:
    """Parameters and multiply-adds after a plan, without carrying it out."""
    masks = masks_of(graph, plan)
    names = {name for name, _ in graph.model.named_parameters()}
    return {"parameters": plan.count_after(names), "macs": macs_of(graph.tape, masks.expected_shape)}


def within(graph: DependencyGraph, budget: Budget, at: Callable[[Fraction], Plan]) -> Plan:
    """The plan of the smallest sparsity that ``budget`` allows, in steps of 1/1000, or 1/100 for a latency.

    Raises:
        UserError: even the sparsest plan costs more.
    """
    if budget.latency is None:
        return _counted(graph, budget.counts, at)
    start = Fraction(str(_counted(graph, budget.counts, at).sparsity)) if budget.counts else Fraction(0)
    return fast_enough(graph, budget.latency, at, start)


def _counted(graph: DependencyGraph, limits: Mapping[str, int], at: Callable[[Fraction], Plan]) -> Plan:
    low, high = 0, _STEPS - 1
    best: Plan | None = None
    while low <= high:
        middle = (low + high) // 2
        plan = at(Fraction(middle, _STEPS))
        found = costs(graph, plan)
        if all(found[name] <= limit for name, limit in limits.items()):
            best, high = plan, middle - 1
        else:
            low = middle + 1
    if best is None:
        found = costs(graph, at(Fraction(_STEPS - 1, _STEPS)))
        name = next(name for name, limit in limits.items() if found[name] > limit)
        raise UserError(
            f"a budget of {limits[name]:,} {name} cannot be reached: {found[name]:,} is the least",
            hint="see graph.explain() for what is frozen and why",
        )
    return best
