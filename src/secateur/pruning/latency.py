"""Budgets of measured latency: the smallest sparsity whose network is fast enough, as a clock says."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import torch

from secateur.errors import UserError
from secateur.graph.dependency import DependencyGraph, inputs_to_device, random_inputs
from secateur.graph.trace.isolated_forward import call_model
from secateur.models import Latency, evaluating, time_calls
from secateur.surgery.cut import operate
from secateur.surgery.plan import Plan
from secateur.text import counted

_STEPS = 100
# Seconds of measurement while searching, and for the answer.
_SEARCHING, _ANSWERING = 0.3, 1.0
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


@dataclass(frozen=True)
class LatencyLimit:
    """A latency in seconds, or a share of the dense model's."""

    amount: float
    absolute: bool

    def met(self, dense: Latency, pruned: Latency) -> bool:
        """Whether the median is within the limit."""
        return pruned.median <= (self.amount if self.absolute else self.amount * dense.median)

    def __str__(self) -> str:
        return f"{1e3 * self.amount:.4g} ms" if self.absolute else f"{self.amount:g} of the dense"


def latency_limit(budget: Any) -> LatencyLimit:
    """A limit from the user's words: a fraction in (0, 1), or a text with a unit such as ``5ms``.

    Raises:
        UserError: it is neither.
    """
    if isinstance(budget, float) and 0 < budget < 1:
        return LatencyLimit(budget, absolute=False)
    text = budget.strip().replace("µ", "u") if isinstance(budget, str) else ""
    for unit, seconds in _UNITS.items():
        number = text.removesuffix(unit)
        if number != text and _positive(number):
            return LatencyLimit(float(number) * seconds, absolute=True)
    raise UserError(
        f"latency must be a fraction of the dense in (0, 1) or a time, got {budget!r}",
        hint="for example latency=0.5 or latency='5ms'",
    )


def _positive(text: str) -> bool:
    try:
        return 0 < float(text) < math.inf
    except ValueError:
        return False


def fast_enough(
    graph: DependencyGraph, limit: LatencyLimit, at: Callable[[Fraction], Plan], start: Fraction
) -> Plan:
    """The plan of the smallest sparsity, in steps of 1/100 from ``start``, that is fast enough.

    A clock is noisy and rises now and then where it should fall. So what the bisection finds is measured
    again, for longer, and made sparser until that measurement meets the limit; the plan's notes say what it
    was.

    Raises:
        UserError: even the sparsest plan is too slow.
    """
    low, high = math.ceil(start * _STEPS), _STEPS - 1
    while low < high:
        middle = (low + high) // 2
        if limit.met(*clock(graph, at(Fraction(middle, _STEPS)), seconds=_SEARCHING)):
            high = middle
        else:
            low = middle + 1
    for level in range(high, _STEPS):
        plan = at(Fraction(level, _STEPS))
        dense, pruned = clock(graph, plan, seconds=_ANSWERING)
        if limit.met(dense, pruned):
            return replace(plan, notes=(*plan.notes, describe(graph, limit, dense, pruned)))
    raise UserError(
        f"a latency of at most {limit} cannot be reached: {pruned} is the least, the dense takes {dense}",
        hint="see graph.explain() for what is frozen; a layer costs time however few its channels are",
    )


def clock(graph: DependencyGraph, plan: Plan, *, seconds: float) -> tuple[Latency, Latency]:
    """Latency of the dense model and of a pruned copy, for the traced batch, on the model's device."""
    dense, pruned = graph.model, copy.deepcopy(graph.model)
    operate(pruned, plan)
    device = next((parameter.device for parameter in dense.parameters()), torch.device("cpu"))
    inputs = inputs_to_device(random_inputs(graph.inputs, torch.Generator().manual_seed(0)), device)
    with evaluating(dense), evaluating(pruned), torch.no_grad():
        before, after = time_calls(
            [lambda: call_model(dense, inputs), lambda: call_model(pruned, inputs)], seconds=seconds
        )
    return before, after


def describe(graph: DependencyGraph, limit: LatencyLimit, dense: Latency, pruned: Latency) -> str:
    """What was measured, in words, and how sure it is."""
    device = next((parameter.device for parameter in graph.model.parameters()), torch.device("cpu"))
    shape = "x".join(map(str, graph.inputs[0].shape))
    threads = counted(pruned.threads, "CPU thread")
    unsure = "; the quartiles overlap, so measure on a quieter machine" if pruned.high > dense.low else ""
    return (
        f"latency {pruned} against {dense} dense, at most {limit} was asked for: medians and quartiles "
        f"on {device}, {threads}, inputs {shape}{unsure}"
    )
