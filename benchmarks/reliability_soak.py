"""Attacks in a loop: memory, open files and threads of the process after the first part and at the end."""

import math
import os
import random
import threading
from pathlib import Path

import torch
from reliability_study import Tally

import secateur
from secateur.data import Dataset, load_splits
from secateur.models import build

BATCH = 100
ATTACKS = (
    ("ddn", {"steps": 5}),
    ("fmn", {"steps": 5, "norm": 2}),
    ("fmn", {"steps": 5, "norm": math.inf}),
    ("pgd", {"steps": 5, "eps": 0.1, "norm": math.inf}),
    ("steep", {"steps": 5, "norm": 2}),
)
WARM = 0.25
GROWTH_MIB = 32
"""How much more a process may hold at the end than after its first quarter."""


def soak(n, seed, folder):
    """Attack ``n`` images, 100 at a time, with network, attack and images drawn anew each time."""
    draw, tally = random.Random(seed), Tally()
    digits = load_splits("digits", generator=torch.Generator().manual_seed(0)).train
    rounds = max(4, math.ceil(n / BATCH))
    for i in range(rounds):
        if i == int(WARM * rounds):
            before = held()
        once(digits, *draw.choice(ATTACKS), draw=draw, images=min(BATCH, n))
    tally.add("images", grown(before, held()), times=rounds * min(BATCH, n))
    return tally


def once(digits, name, settings, *, draw, images):
    """Attack a new network on some of the images."""
    torch.manual_seed(draw.randrange(2**31))
    model = build("resnet-tiny", widths=(draw.choice([4, 6, 8]), 8)).eval()
    chosen = torch.tensor(draw.sample(range(len(digits)), images))
    some = Dataset("some", digits.x[chosen], digits.y[chosen], digits.classes, digits.levels)
    return secateur.attack(model, some, name, seed=draw.randrange(1000), **settings)


def held():
    """MiB in memory, open files and threads of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    files = len(list(Path("/proc/self/fd").iterdir()))
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20, files, threading.active_count()


def grown(before, after):
    """In words what the process holds more of than before; empty if it is little or nothing."""
    if after[0] - before[0] > GROWTH_MIB:
        return f"memory grew from {before[0]:.0f} to {after[0]:.0f} MiB"
    if after[1:] != before[1:]:
        return f"{before[1]} files and {before[2]} threads became {after[1]} and {after[2]}"
    return ""
