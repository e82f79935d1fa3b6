"""Budgets of measured latency, with a clock that tells time by counting multiply-adds, and with real ones."""

import re
from itertools import pairwise

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import secateur
from graph.networks import build, images
from secateur.errors import UserError
from secateur.models import Latency, time_calls
from secateur.pruning import budget
from secateur.pruning.budget import latency_limit

NANO = 1e-9


def counted(call):
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops() / 2


class Clock:
    """One nanosecond per multiply-add, times the noise of this measurement."""

    def __init__(self, noise=()):
        self.noise = list(noise)
        self.seconds = []

    def __call__(self, calls, *, seconds, threads=None):
        self.seconds.append(seconds)
        factor = self.noise.pop(0) if self.noise else 1.0
        times = [counted(call) * NANO for call in calls]
        times[-1] *= factor
        return [Latency(time, time * 0.99, time * 1.01, 100, 1) for time in times]


@pytest.fixture
def graph():
    return secateur.trace(build(["plain"], "none", "relu", "linear"), images())


def use(monkeypatch, clock):
    monkeypatch.setattr(budget, "time_calls", clock)
    return clock


def test_the_smallest_sparsity_that_is_fast_enough_is_found(graph, monkeypatch):
    clock = use(monkeypatch, Clock())
    plan = secateur.plan(graph, latency=0.5)
    assert len(clock.seconds) <= 8
    before = counted(lambda: graph.model(images()))
    sparser = secateur.plan(graph, sparsity=plan.sparsity)
    wider = secateur.plan(graph, sparsity=round(plan.sparsity - 0.01, 2))
    found = [budget.plan_costs(graph, each)["macs"] / before for each in (plan, sparser, wider)]
    assert found[0] == found[1] <= 0.5 < found[2]
    assert "latency" in plan.notes[-1]
    assert "limit 0.5 of the dense" in plan.notes[-1]
    assert secateur.apply(graph.model, plan).max_error <= 1e-10


def test_a_time_may_be_asked_for(graph, monkeypatch):
    use(monkeypatch, Clock())
    macs = counted(lambda: graph.model(images()))
    plan = secateur.plan(graph, latency=f"{0.3 * macs * 1e-3:.6f}us")
    assert budget.plan_costs(graph, plan)["macs"] <= 0.3 * macs


@pytest.mark.slow
def test_a_lucky_measurement_is_not_believed(graph, monkeypatch):
    honest = secateur.pruning.plan
    use(monkeypatch, Clock())
    wanted = honest(graph, latency=0.5).sparsity
    # While searching every network seems five times as fast as it is; the answers tell the truth.
    clock = use(monkeypatch, Clock([0.2] * 7))
    plan = honest(graph, latency=0.5)
    assert plan.sparsity == wanted
    assert clock.seconds[-1] > clock.seconds[0]


def test_an_answer_that_were_not_measured_again_would_be_too_slow(graph, monkeypatch):
    use(monkeypatch, Clock([0.2] * 7))
    monkeypatch.setattr(budget.LatencyLimit, "is_met", lambda self, dense, pruned: True)
    plan = secateur.plan(graph, latency=0.5)
    before = counted(lambda: graph.model(images()))
    assert budget.plan_costs(graph, plan)["macs"] > 0.5 * before


def test_all_budgets_hold_together(graph, monkeypatch):
    use(monkeypatch, Clock())
    plan = secateur.plan(graph, latency=0.8, parameters=0.3)
    dense = sum(parameter.numel() for parameter in graph.model.parameters())
    found = budget.plan_costs(graph, plan)
    assert found["parameters"] <= 0.3 * dense
    plan = secateur.plan(graph, latency=0.3, parameters=0.9)
    assert budget.plan_costs(graph, plan)["macs"] <= 0.3 * counted(lambda: graph.model(images()))


def test_a_spread_that_hides_the_difference_is_said(graph, monkeypatch):
    def foggy(calls, *, seconds, threads=None):
        return [
            Latency(time.median, 0.1 * time.median, 9 * time.median, 3, 1)
            for time in Clock()(calls, seconds=seconds)
        ]

    use(monkeypatch, foggy)
    assert "quartiles overlap" in secateur.plan(graph, latency=0.5).notes[-1]
    use(monkeypatch, Clock())
    assert "overlap" not in secateur.plan(graph, latency=0.5).notes[-1]


def test_a_latency_out_of_reach_is_refused_with_the_least(graph, monkeypatch):
    use(monkeypatch, Clock())
    with pytest.raises(UserError, match=r"cannot be reached: the sparsest plan takes .* ms") as caught:
        secateur.plan(graph, latency="1us")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "wrong", [0, 1.0, 2, -0.5, float("nan"), True, "5", "fast", "-3ms", "infs", "nanms", ""]
)
def test_what_is_no_latency_is_refused(wrong):
    with pytest.raises(UserError, match="latency must be"):
        latency_limit(wrong)


def test_times_have_units():
    limits = [latency_limit(text) for text in ("5ms", "5000 us", "5000µs", "0.005s")]
    assert [limit.amount for limit in limits] == pytest.approx([0.005] * 4)
    assert str(limits[0]) == "5 ms"


@pytest.mark.slow
def test_a_plan_measured_in_earnest_says_what_it_found(monkeypatch):
    monkeypatch.setattr(budget, "_SEARCHING", 0.01)
    monkeypatch.setattr(budget, "_ANSWERING", 0.01)
    net = build(["plain"], "batch", "relu", "linear")
    graph = secateur.trace(net, images(size=16))
    plan = secateur.plan(graph, latency="1s")
    assert plan.sparsity == 0
    assert re.search(r"latency [\d.e+]+ ms \([\d.e+]+–[\d.e+]+\) against [\d.e+]+ ms", plan.notes[-1])
    assert "inputs 2x3x16x16" in plan.notes[-1]
    assert net.body[0][0].out_channels == 8


def test_calls_take_turns_and_say_on_how_many_threads():
    order = []
    first, second = time_calls([lambda: order.append(0), lambda: order.append(1)], seconds=0.02, threads=1)
    flips = sum(a != b for a, b in pairwise(order))
    assert flips >= 2 * 4 - 1
    assert first.threads == second.threads == 1
    assert first.low <= first.median <= first.high
    assert first.runs + second.runs <= len(order)
    assert first.to_json()["iqr"] == first.high - first.low
    assert torch.get_num_threads() >= 1
