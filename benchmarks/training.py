"""Throughput of the training loop against a bare loop over the same model, data and batches.

    python benchmarks/training.py

prints the seconds of both and their ratio; the loop should reach 0.9 of the bare one.
"""

import statistics
import time

import torch
from torch.nn import functional as F

from secateur.data import load_splits
from secateur.models import accuracy, build
from secateur.recipes import Recipe
from secateur.train import train

EPOCHS, BATCH, RATE, ROUNDS = 3, 64, 0.1, 7


def bare(splits):
    model = build("resnet-tiny")
    optimiser = torch.optim.SGD(model.parameters(), RATE, 0.9, weight_decay=5e-4)
    x, y = splits.train.x, splits.train.y
    start = time.perf_counter()
    for _ in range(EPOCHS):
        model.train()
        for batch in torch.randperm(len(x)).split(BATCH):
            optimiser.zero_grad()
            F.cross_entropy(model(x[batch]), y[batch]).backward()
            optimiser.step()
        accuracy(model, splits.validation.x, splits.validation.y)
    return time.perf_counter() - start


def ours(splits):
    model = build("resnet-tiny")
    start = time.perf_counter()
    train(model, splits.train, splits.validation, Recipe(EPOCHS, BATCH, RATE), seed=0)
    return time.perf_counter() - start


def main():
    torch.set_num_threads(1)
    splits = load_splits("digits", generator=torch.Generator().manual_seed(0))
    bare(splits)
    rounds = [(bare(splits), ours(splits)) for _ in range(ROUNDS)]
    first, second = (min(times) for times in zip(*rounds, strict=True))
    middle = statistics.median(a / b for a, b in rounds)
    print(f"bare {first:.3f} s, ours {second:.3f} s: {first / second:.2f} of bare (median {middle:.2f})")


if __name__ == "__main__":
    main()
