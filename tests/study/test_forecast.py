"""The run of a study on many devices, played through."""

from dataclasses import replace

import pytest

from secateur.study import forecast
from secateur.study.cost import Speed
from toy.study import SMALL, small_plan

PLAN = replace(small_plan(SMALL, overrides=["seeds=[0, 1, 2]"]), speeds={"plain": Speed(1e-3, 5_000, 100)})
TOTAL = sum(cost.units for cost in PLAN.costs.values()) * 1e-3


def chains(plan):
    """The seconds of every cell together with those above it."""
    ends = {}
    for cell in plan.cells:
        ends[cell.id] = plan.costs[cell.id].units * 1e-3 + ends.get(cell.parent, 0.0)
    return ends


def test_one_device_takes_the_sum_of_all_cells():
    found = forecast(PLAN, 1)
    assert found.seconds == pytest.approx(TOTAL)
    assert (found.busy, found.waits) == (pytest.approx(1), False)
    assert found.device_hours == pytest.approx(TOTAL / 3600)
    assert sum(stage.seconds for stage in found.stages.values()) == pytest.approx(TOTAL)
    assert {name: stage.cells for name, stage in found.stages.items()} == PLAN.counts


def test_very_many_devices_wait_for_the_longest_chain():
    found = forecast(PLAN, 1000)
    longest = max(chains(PLAN).values())
    assert found.seconds == found.chain_seconds == pytest.approx(longest)
    assert found.waits
    assert found.busy == pytest.approx(TOTAL / 1000 / longest)
    first, *_, last = found.chain
    assert first.startswith("train plain/")
    assert last.startswith("attack plain/")


@pytest.mark.parametrize("devices", [2, 3, 5])
def test_no_run_is_shorter_than_its_share_or_its_chain_and_none_idles_without_need(devices):
    found = forecast(PLAN, devices)
    least = max(TOTAL / devices, found.chain_seconds)
    # A device that is free takes any ready cell: Graham's bound for such a schedule.
    assert least <= found.seconds * (1 + 1e-9) <= TOTAL / devices + found.chain_seconds
    assert found.seconds <= forecast(PLAN, devices - 1).seconds


def test_a_device_of_given_speed_takes_two_operations_for_each_multiply_add():
    found = forecast(PLAN, 1, tflops=1e-6)
    assert found.seconds == pytest.approx(TOTAL / 1e-3 * 2 * 5_000 / 1e6)
    assert forecast(PLAN, 1, tflops=2e-6).seconds == pytest.approx(found.seconds / 2)


def test_what_is_done_takes_no_time():
    done = frozenset(cell.id for cell in PLAN.cells if cell.axes["seed"] < 2)
    found = forecast(replace(PLAN, done=done), 1)
    assert found.seconds == pytest.approx(TOTAL / 3)
    assert found.stages["train"].cells == 1
    everything = forecast(replace(PLAN, done=frozenset(PLAN.costs), speeds={}), 8)
    assert (everything.seconds, everything.chain, everything.busy) == (0.0, (), 1.0)


def test_without_a_probe_there_is_no_forecast():
    with pytest.raises(ValueError, match="without a probe"):
        forecast(replace(PLAN, speeds={}), 1)
