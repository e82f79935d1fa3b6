"""Memory that is asked for in every step is kept from step to step, and given back at the end."""

import functools
import subprocess
import sys

import pytest

from secateur.cpu import malloc
from secateur.cpu.malloc import kept_heap

BLOCK = 12_000_000
"""Floats: larger than any block that glibc would keep by itself."""

faulty = pytest.mark.skipif(malloc._glibc() is None, reason="another C library decides for itself")


def measured(code):
    """The numbers that ``code`` prints in a process of its own, whose heap nobody has used before."""
    started = [
        sys.executable,
        "-c",
        "import resource, torch\nfrom secateur.cpu.malloc import kept_heap\n" + code,
    ]
    said = subprocess.run(started, capture_output=True, text=True, check=True).stdout
    return [int(word) for word in said.split()]


@pytest.mark.slow
@faulty
def test_blocks_are_faulted_in_a_few_times_inside_and_every_time_outside():
    outside, inside = measured(f"""
def faults():
    for _ in range(4):
        torch.zeros({BLOCK}).add_(1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        torch.zeros({BLOCK}).add_(1)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
faults()
with kept_heap():
    faults()
""")
    # The first blocks are not counted: until the heap lies in one piece, each of them is new.
    assert 4 * inside < outside


@pytest.mark.slow
@faulty
def test_what_was_kept_is_given_back():
    inside, after = measured(f"""
def size():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
before = size()
with kept_heap():
    torch.zeros({BLOCK})
    inside = size()
print(inside - before, size() - before)
""")
    assert inside > 3 * BLOCK
    assert after < BLOCK


@functools.cache
def faults_of_training():
    """Page faults of three steps in young processes: without an attack, after one, with frozen thresholds.

    Each is the median of three processes: where blocks happen to lie, a process may fault twice as often.
    """
    faults = measured("""
import os
from torch import nn
from secateur.cpu import malloc
torch.set_num_threads(1)
net = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.Flatten())
x = torch.rand(64, 3, 32, 32)
def step():
    net.zero_grad()
    net(x).square().mean().backward()
def attack():
    with kept_heap():
        step()
def freeze():
    malloc._LARGEST_MMAP = 128 * 1024
    attack()
for before in 3 * (lambda: None, attack, freeze):
    if not os.fork():
        before()
        step()
        step()
        first = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(3):
            step()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - first, flush=True)
        os._exit(0)
    os.wait()
""")
    return [sorted(faults[start::3])[1] for start in range(3)]


@pytest.mark.slow
@faulty
def test_a_training_after_an_attack_faults_in_no_more_pages_than_one_without():
    without, after, _ = faults_of_training()
    assert after <= 1.1 * without


@pytest.mark.slow
@faulty
def test_thresholds_frozen_where_they_are_would_be_noticed():
    _, after, frozen = faults_of_training()
    assert frozen > 1.2 * after


def test_without_the_gnu_c_library_nothing_happens(monkeypatch):
    monkeypatch.setattr(malloc.sys, "platform", "darwin")
    assert malloc._glibc() is None
    with kept_heap():
        assert malloc._users == 0


def test_the_last_one_to_leave_ends_it(monkeypatch):
    calls = []
    monkeypatch.setattr(malloc, "_glibc", lambda: (lambda *told: calls.append(told), calls.append))
    with kept_heap():
        with kept_heap():
            pass
        assert 0 not in calls
    assert calls[-1] == 0


def test_an_error_inside_does_not_leave_the_setting_behind(monkeypatch):
    calls = []
    monkeypatch.setattr(malloc, "_glibc", lambda: (lambda *told: calls.append(told), calls.append))
    with pytest.raises(ZeroDivisionError), kept_heap():
        raise ZeroDivisionError
    entered, left = calls[:2], calls[2:-1]
    assert {option for option, _ in entered} <= {option for option, _ in left}
    assert calls[-1] == 0
