"""The clock, on a machine whose time is made up: calls and interruptions take exactly as long as they say."""

import gc

import pytest
import torch

from secateur.models import Latency, time_calls, timing

MILLI = 1e-3


class Machine:
    """Time passes in calls alone; ``pace(now)`` says how much longer everything takes at this moment."""

    def __init__(self, monkeypatch, pace=lambda now: 1.0):
        self.now, self.pace = 0.0, pace
        monkeypatch.setattr(timing, "timer", lambda: self.now)

    def call(self, seconds):
        def call():
            self.now += seconds * self.pace(self.now)

        return call


def test_a_latency_is_the_time_of_one_call_however_short_it_is(monkeypatch):
    machine = Machine(monkeypatch)
    long = (1e-6, 3 * MILLI, 0.2)
    found = time_calls([machine.call(seconds) for seconds in long], seconds=0.02)
    for latency, seconds in zip(found, long, strict=True):
        assert (latency.low, latency.median, latency.high) == pytest.approx([seconds] * 3)
        assert latency.runs * seconds >= 0.02
    assert len({len(latency.turns) for latency in found}) == 1


def check_that_a_slow_spell_drops_out(monkeypatch):
    # The machine is twice as slow but for 40 ms now and then: the quartiles see it, the share does not.
    machine = Machine(monkeypatch, pace=lambda now: 2.0 if int(now / 0.04) % 4 else 1.0)
    dense, pruned = time_calls([machine.call(2 * MILLI), machine.call(MILLI)], seconds=1.0)
    assert dense.high / dense.low > 1.9
    low, median, high = pruned.share_of(dense)
    assert (low, median, high) == pytest.approx((0.5, 0.5, 0.5), rel=0.01)


def test_a_share_leaves_out_what_slows_both_down(monkeypatch):
    check_that_a_slow_spell_drops_out(monkeypatch)


def test_a_share_of_networks_that_do_not_take_turns_is_caught(monkeypatch):
    def sorted_apart(self, other):
        shares = [a / b for a, b in zip(sorted(self.turns), other.turns, strict=True)]
        return min(shares), shares[len(shares) // 2], max(shares)

    monkeypatch.setattr(Latency, "share_of", sorted_apart)
    with pytest.raises(AssertionError):
        check_that_a_slow_spell_drops_out(monkeypatch)


def check_that_an_interruption_spoils_one_run(monkeypatch):
    """Something else runs for 5 ms after every sixth millisecond, as on a machine with too much to do."""
    machine = Machine(monkeypatch)
    spoiled = [0.0]

    def call():
        machine.now += MILLI
        spoiled[0] += 1
        if spoiled[0] % 6 == 0:
            machine.now += 5 * MILLI

    (latency,) = time_calls([call], seconds=0.5)
    assert latency.median == pytest.approx(MILLI)
    assert latency.turns == pytest.approx([MILLI] * len(latency.turns))


def test_an_interruption_spoils_one_run_and_not_the_median(monkeypatch):
    check_that_an_interruption_spoils_one_run(monkeypatch)


def test_runs_of_many_calls_that_let_interruptions_in_are_caught(monkeypatch):
    monkeypatch.setattr(timing, "_RUN", 10 * MILLI)
    with pytest.raises(AssertionError):
        check_that_an_interruption_spoils_one_run(monkeypatch)


def test_latencies_of_different_measurements_have_no_share(monkeypatch):
    machine = Machine(monkeypatch)
    (first,), (second,) = (time_calls([machine.call(s)], seconds=t) for s, t in ((MILLI, 0.1), (MILLI, 0.2)))
    with pytest.raises(ValueError, match=r"shorter|longer"):
        first.share_of(second)
    with pytest.raises(ValueError, match="no turns in common"):
        Latency(1, 1, 1, 1, 1).share_of(Latency(1, 1, 1, 1, 1))


def test_threads_and_garbage_collection_are_put_back_whatever_a_call_does():
    threads, seen = torch.get_num_threads(), []

    def failing():
        seen.append((torch.get_num_threads(), gc.isenabled()))
        raise RuntimeError("the network broke")

    with pytest.raises(RuntimeError, match="broke"):
        time_calls([failing], threads=threads + 1)
    assert seen == [(threads + 1, False)]
    assert (torch.get_num_threads(), gc.isenabled()) == (threads, True)


def test_a_latency_is_said_in_seconds_where_they_are_many():
    assert str(Latency(0.0123, 0.01, 0.02, 3, 1)) == "12.3 ms (10–20)"
    assert str(Latency(3.381, 0.9, 4, 3, 1)) == "3.38 s (0.9–4)"
