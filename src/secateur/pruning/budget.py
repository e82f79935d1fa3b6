"""Budgets: the lowest sparsity whose plan meets a limit on parameters, multiply-adds or measured latency."""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import torch

from secateur.errors import UserError
from secateur.graph.dependency import DependencyGraph
from secateur.graph.flops import macs as macs_of
from secateur.graph.trace.example_inputs import random_inputs
from secateur.graph.trace.input_tree import call_model
from secateur.kinds import is_whole
from secateur.models import Latency, device_of, eval_mode, time_calls
from secateur.surgery.cut import cut_channels_
from secateur.surgery.plan import Plan, masks_of
from secateur.text import counted

_STEPS = 1000
_LATENCY_STEPS = 100
# Seconds of measurement per candidate during the search, and for the final plan.
_SEARCHING, _ANSWERING = 0.3, 1.0
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


@dataclass(frozen=True)
class LatencyLimit:
    """A latency in seconds (``absolute``), or a fraction of the dense model's."""

    amount: float
    absolute: bool

    def is_met(self, dense: Latency, pruned: Latency) -> bool:
        """Whether the median is within the limit."""
        return pruned.median <= (self.amount if self.absolute else self.amount * dense.median)

    def __str__(self) -> str:
        return f"{1e3 * self.amount:.4g} ms" if self.absolute else f"{self.amount:g} of the dense"


def latency_limit(budget: Any) -> LatencyLimit:
    """A limit from a user's argument: a fraction in (0, 1), or a string with a unit.

    Raises:
        UserError: neither.

    >>> str(latency_limit("5ms")), str(latency_limit(0.5))
    ('5 ms', '0.5 of the dense')
    """
    if isinstance(budget, float) and 0 < budget < 1:
        return LatencyLimit(budget, absolute=False)
    text = budget.strip().replace("µ", "u") if isinstance(budget, str) else ""
    for unit, seconds in _UNITS.items():
        number = text.removesuffix(unit)
        if number != text and _positive(number):
            return LatencyLimit(float(number) * seconds, absolute=True)
    raise UserError(
        f"latency must be a fraction of the dense model's in (0, 1) or a time, got {budget!r}",
        hint="for example latency=0.5 or latency='5ms'",
    )


def _positive(text: str) -> bool:
    try:
        return 0 < float(text) < math.inf
    except ValueError:
        return False


@dataclass(frozen=True)
class Budget:
    """Limits of a plan: parameters and multiply-adds as counts, and a measured latency."""

    counts: Mapping[str, int]
    latency: LatencyLimit | None


def budget_of(graph: DependencyGraph, *, parameters: Any, macs: Any, latency: Any) -> Budget | None:
    """The budget that the user's arguments describe, or ``None``.

    Raises:
        UserError: an invalid budget.
    """
    counts = {}
    if parameters is not None:
        dense = sum(parameter.numel() for parameter in graph.model.parameters())
        counts["parameters"] = as_count("parameters", parameters, dense)
    if macs is not None:
        counts["macs"] = as_count("macs", macs, macs_of(graph.tape))
    limit = latency_limit(latency) if latency is not None else None
    return Budget(counts, limit) if counts or limit else None


def as_count(name: str, budget: Any, dense: int) -> int:
    """A budget as a count: a fraction of the dense model in (0, 1), or a positive integer.

    Raises:
        UserError: neither.

    >>> as_count("parameters", 0.5, 1000), as_count("macs", 20, 1000)
    (500, 20)
    """
    if isinstance(budget, float) and 0 < budget < 1:
        return int(Fraction(str(budget)) * dense)
    if is_whole(budget, least=1):
        return budget
    raise UserError(
        f"{name} must be a fraction in (0, 1) or a positive whole number, got {budget!r}",
        hint=f"the dense model has {dense:,}",
    )


def plan_costs(graph: DependencyGraph, plan: Plan) -> dict[str, int]:
    """Parameters and multiply-adds after a plan, computed without applying it."""
    masks = masks_of(graph, plan)
    names = {name for name, _ in graph.model.named_parameters()}
    return {"parameters": plan.count_after(names), "macs": macs_of(graph.tape, masks.expected_shape)}


def smallest_within(graph: DependencyGraph, budget: Budget, at: Callable[[Fraction], Plan]) -> Plan:
    """The plan with the lowest sparsity that meets ``budget``, in steps of 1/1000, or 1/100 for a latency.

    Raises:
        UserError: even the sparsest plan costs more.
    """
    if budget.latency is None:
        return _fewest(graph, budget.counts, at)
    # A latency is costly to measure: begin at the sparsity that the counts demand anyway.
    start = Fraction(str(_fewest(graph, budget.counts, at).sparsity)) if budget.counts else Fraction(0)
    return smallest_fast_enough(graph, budget.latency, at, start)


def _fewest(graph: DependencyGraph, limits: Mapping[str, int], at: Callable[[Fraction], Plan]) -> Plan:
    # Counts fall monotonically with the sparsity, so bisection finds the lowest.
    low, high = 0, _STEPS - 1
    best: Plan | None = None
    while low <= high:
        middle = (low + high) // 2
        plan = at(Fraction(middle, _STEPS))
        found = plan_costs(graph, plan)
        if all(found[name] <= limit for name, limit in limits.items()):
            best, high = plan, middle - 1
        else:
            low = middle + 1
    if best is None:
        found = plan_costs(graph, at(Fraction(_STEPS - 1, _STEPS)))
        name = next(name for name, limit in limits.items() if found[name] > limit)
        raise UserError(
            f"a budget of {limits[name]:,} {name} cannot be reached: the sparsest plan has {found[name]:,}",
            hint="see graph.explain() for what is frozen and why",
        )
    return best


def smallest_fast_enough(
    graph: DependencyGraph, limit: LatencyLimit, at: Callable[[Fraction], Plan], start: Fraction
) -> Plan:
    """The plan with the lowest sparsity, in steps of 1/100 from ``start``, that meets a latency limit.

    Raises:
        UserError: even the sparsest plan is too slow.
    """
    low, high = math.ceil(start * _LATENCY_STEPS), _LATENCY_STEPS - 1
    while low < high:
        middle = (low + high) // 2
        if limit.is_met(*measure_latency(graph, at(Fraction(middle, _LATENCY_STEPS)), seconds=_SEARCHING)):
            high = middle
        else:
            low = middle + 1
    # Latency is noisy and not monotonic in the sparsity, so the bisection may be wrong by a few steps:
    # measure its result again, for longer, and step up until that measurement meets the limit.
    for level in range(high, _LATENCY_STEPS):
        plan = at(Fraction(level, _LATENCY_STEPS))
        dense, pruned = measure_latency(graph, plan, seconds=_ANSWERING)
        if limit.is_met(dense, pruned):
            return replace(plan, notes=(*plan.notes, describe(graph, limit, dense, pruned)))
    raise UserError(
        f"a latency of at most {limit} cannot be reached: the sparsest plan takes {pruned} "
        f"(the dense model takes {dense})",
        hint="see graph.explain() for frozen layers; every layer has a fixed cost, however narrow",
    )


def measure_latency(graph: DependencyGraph, plan: Plan, *, seconds: float) -> tuple[Latency, Latency]:
    """Latency of the dense model and of a pruned copy, for the traced batch, on the model's device."""
    dense, pruned = graph.model, copy.deepcopy(graph.model)
    cut_channels_(pruned, plan)
    inputs = random_inputs(graph.inputs, torch.Generator().manual_seed(0), device_of(dense))
    with eval_mode(dense), eval_mode(pruned), torch.no_grad():
        before, after = time_calls(
            [lambda: call_model(dense, inputs), lambda: call_model(pruned, inputs)], seconds=seconds
        )
    return before, after


def describe(graph: DependencyGraph, limit: LatencyLimit, dense: Latency, pruned: Latency) -> str:
    """A sentence with the measured latencies, their conditions, and whether the quartiles overlap."""
    shape = "x".join(map(str, graph.inputs[0].shape))
    threads = counted(pruned.threads, "CPU thread")
    unsure = "; the quartiles overlap: measure on a quieter machine" if pruned.high > dense.low else ""
    return (
        f"latency {pruned} against {dense} dense, limit {limit}: medians and quartiles "
        f"on {device_of(graph.model)}, {threads}, inputs {shape}{unsure}"
    )
