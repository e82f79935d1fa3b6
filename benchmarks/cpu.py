"""What each part of ``secateur.cpu`` gains: CPU seconds without it over CPU seconds with it, in pairs.

    python benchmarks/cpu.py                  # under two minutes
    python benchmarks/cpu.py --only depthwise malloc --rounds 9

Both sides are timed in turn, the other way round in every second round, with one thread; the ratio is the
median over the rounds, with its lowest and highest. A ratio above 1 is a gain.
"""

import argparse
import copy
import json
import resource
import statistics
import subprocess
import sys
import time
from contextlib import nullcontext

import torch

from secateur import models
from secateur.cpu import depthwise, switched
from secateur.cpu.batchnorm_folding import fold, fold_candidates
from secateur.cpu.malloc import kept_heap
from secateur.cpu.single_channel_conv import replace_single_channel_convs
from secateur.recipes import Adversary, Recipe
from secateur.train import perturb
from secateur.train.folded_copy import folded_copy

NETWORKS = {"resnet20": (3, 32), "preact-resnet18": (3, 32), "smallcnn": (1, 28), "resnet-tiny": (1, 8)}
BATCH, WIDE = 64, 8
"""Images, and those of a network that takes long for each."""


def network(name):
    """A network in evaluation mode without gradients of its weights, and a batch of images."""
    channels, side = NETWORKS[name]
    settings = {"size": side} if name == "smallcnn" else {}
    model = models.build(name, num_classes=10, in_channels=channels, **settings).eval().requires_grad_(False)
    return model, torch.rand(
        WIDE if name == "preact-resnet18" else BATCH,
        channels,
        side,
        side,
        generator=torch.Generator().manual_seed(0),
    )


def attacked(model, x):
    """A step of an attack: forward, and the gradient by the images."""

    def step():
        query = x.clone(memory_format=torch.preserve_format).requires_grad_(True)
        torch.autograd.grad(model(query).sum(), query)

    return step


def folded(model, x):
    fast = copy.deepcopy(model)
    fold(fast, fold_candidates(fast, x[:2]))
    return fast


def folding(name):
    model, x = network(name)
    return attacked(model, x), attacked(folded(model, x), x)


def channels_last(name):
    model, x = network(name)
    model = folded(model, x)
    last = copy.deepcopy(model).to(memory_format=torch.channels_last)
    return attacked(model, x), attacked(last, x.clone(memory_format=torch.channels_last))


def single_channel(name):
    model, x = network(name)
    model = folded(model, x).to(memory_format=torch.channels_last)
    fast = copy.deepcopy(model)
    replace_single_channel_convs(fast)
    x = x.clone(memory_format=torch.channels_last)
    return attacked(model, x), attacked(fast, x)


def adversary(name):
    """Seven steps of an adversary in training, on the network and on its copy."""
    model, x = network(name)
    y, recipe = torch.arange(len(x)) % 10, Recipe(adversary=Adversary(8 / 255, 2 / 255, fold=True))
    copied = folded_copy(model, x, recipe, channels_last=False)

    def step(attacked):
        return lambda: perturb(
            attacked(), x, y, adversary=recipe.adversary, generator=torch.Generator().manual_seed(0)
        )

    return step(lambda: model), step(copied.updated)


def depthwise_layer(case):
    channels, side = (int(number) for number in case.split(" of "))
    x, weight = torch.rand(2, channels, side, side).double(), torch.rand(channels, 1, 3, 3).double()

    def run(convolve):
        def step():
            query = x.clone().requires_grad_(True)
            arguments = (query, weight, None, [1, 1], [1, 1], [1, 1], False, [0, 0], channels)
            torch.autograd.grad(convolve(arguments).sum(), query)

        return step

    return run(lambda arguments: torch.ops.aten.convolution(*arguments)), run(depthwise.convolve)


PARTS = {
    "folding": (folding, ("resnet20", "resnet-tiny", "preact-resnet18")),
    "channels-last": (channels_last, ("resnet20", "resnet-tiny", "smallcnn")),
    "single-channel": (single_channel, ("smallcnn", "resnet-tiny")),
    "adversary": (adversary, ("resnet20", "resnet-tiny", "preact-resnet18")),
    "depthwise": (depthwise_layer, ("128 of 12", "256 of 6", "640 of 3", "64 of 48")),
}


def seconds(step, least):
    """CPU seconds of one call, of as many as take ``least`` seconds."""
    calls, begun = 0, time.process_time()
    while (spent := time.process_time() - begun) < least:
        step()
        calls += 1
    return spent / calls


def ratios(pair, rounds, least):
    for step in pair:
        step()
    found = []
    for number in range(rounds):
        order = pair if number % 2 == 0 else pair[::-1]
        times = [seconds(step, least) for step in order]
        without, using = times if number % 2 == 0 else times[::-1]
        found.append(without / using)
    return found


def one_heap(name, kept):
    """In a young process, whose heap nobody has used: seconds and page faults of a step."""
    model, x = network(name)
    step = attacked(folded(model, x), x)
    with kept_heap() if kept else nullcontext():
        step()
        before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.process_time()
        count = 0
        while time.process_time() - begun < 0.7:
            step()
            count += 1
        spent = time.process_time() - begun
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    print(json.dumps({"seconds": spent / count, "faults": faults / count}))


def heaps(name, rounds):
    """The ratio of every round, and the page faults of a step without and with the heap kept."""
    found, faults = [], {}
    for number in range(rounds):
        times = {}
        for kept in (False, True) if number % 2 == 0 else (True, False):
            command = [sys.executable, __file__, "--one", name, *(["--kept"] if kept else [])]
            said = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            times[kept], faults[kept] = said["seconds"], said["faults"]
        found.append(times[False] / times[True])
    return found, faults


def said(part, case, found, more=""):
    low, high = min(found), max(found)
    print(
        f"{part:15} {case:12} {statistics.median(found):5.2f} x  ({low:.2f} to {high:.2f}){more}", flush=True
    )


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--only", nargs="+", choices=[*PARTS, "malloc"], default=[*PARTS, "malloc"])
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--seconds", type=float, default=0.3, help="of each side in a round, at least")
    options.add_argument("--one", help=argparse.SUPPRESS)
    options.add_argument("--kept", action="store_true", help=argparse.SUPPRESS)
    given = options.parse_args()
    torch.set_num_threads(1)
    if given.one:
        one_heap(given.one, given.kept)
        return
    with switched(True):
        for part in given.only:
            if part == "malloc":
                for name in ("smallcnn", "resnet20"):
                    found, faults = heaps(name, max(2, given.rounds // 3))
                    said(
                        part,
                        name,
                        found,
                        f", {faults[False]:,.0f} page faults a step without, {faults[True]:,.0f} with",
                    )
                continue
            make, cases = PARTS[part]
            for case in cases:
                said(part, case, ratios(make(case), given.rounds, given.seconds))


if __name__ == "__main__":
    main()
