"""The demo study as a script for once: Torch-Pruning prunes, adv-lib attacks, a loop in plain torch trains.

    python benchmarks/study_by_hand.py OUT --digits src/secateur/data/digits.npz

It needs torch-pruning and adv-lib, and nothing of this package. Networks, images, epochs, sparsities, seeds, attacks
and steps are those of studies/demo.yaml. It leaves the weights of every network, a record of every attack, a table
and eight figures in OUT, and prints the CPU seconds of its parts as JSON. `benchmarks/study.py` runs it in turn with
the study.
"""

import argparse
import copy
import csv
import json
import math
import sys
import time
import types
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from peers import import_torchvision

# adv-lib imports both, for pictures and for a distance that is not used here.
sys.modules.setdefault("visdom", types.ModuleType("visdom"))
import_torchvision()
import torch_pruning as tp
from adv_lib.attacks import ddn, fmn

STEPS, ATTACKED = 100, 100
BUDGETS = {"ddn": (0.25, 0.5, 0.75, 1.0), "fmn-linf": (0.05, 0.1, 0.15, 0.2)}
ADVERSARY = {"epsilon": 0.15, "step_size": 0.06, "steps": 4}
TRAINING = {"epochs": 10, "rate": 0.1}
ARMS = {
    "plain": {"standard": {"epochs": 5, "rate": 0.02}},
    "robust": {
        "standard": {"epochs": 5, "rate": 0.02},
        "adversarial": {"epochs": 3, "rate": 0.02, "adversary": ADVERSARY},
    },
}
MODELS = {"plain": {}, "robust": {"adversary": ADVERSARY}}
SPENT = {}


@contextmanager
def part(name):
    start = time.process_time()
    yield
    SPENT[name] = SPENT.get(name, 0.0) + time.process_time() - start


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        same = stride == 1 and inputs == outputs
        self.shortcut = (
            nn.Identity()
            if same
            else nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        )

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class Net(nn.Module):
    """resnet-tiny: one block for each of 16, 32 and 48 channels, 56,250 parameters."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.blocks = nn.Sequential(Block(16, 16, 1), Block(16, 32, 2), Block(32, 48, 2))
        self.linear = nn.Linear(48, 10)

    def forward(self, x):
        out = self.blocks(F.relu(self.bn1(self.conv1(x))))
        return self.linear(F.adaptive_avg_pool2d(out, 1).flatten(1))


def images(path):
    """Train, validation and test, by class at random: 1,258, 180 and 359 images."""
    stored = np.load(path)
    x = torch.from_numpy(stored["x"]).float().div(16).unsqueeze(1)
    y = torch.from_numpy(stored["y"]).long()
    drawn = np.random.default_rng(0).permutation(len(y))
    ranks = np.empty(len(y))
    for label in range(10):
        of_class = drawn[y[drawn].numpy() == label]
        ranks[of_class] = (np.arange(len(of_class)) + 0.5) / len(of_class)
    order = torch.from_numpy(np.argsort(ranks, kind="stable"))
    return [(x[rows], y[rows]) for rows in order.split([1258, 180, 359])]


@torch.no_grad()
def accuracy(model, x, y):
    model.eval()
    return float((model(x).argmax(1) == y).float().mean())


def perturbed(model, x, y, epsilon, step_size, steps):
    model.eval()
    delta = torch.empty_like(x).uniform_(-epsilon, epsilon)
    delta = (x + delta).clamp(0, 1) - x
    for _ in range(steps):
        delta.requires_grad_(True)
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(x + delta), y), delta)
        delta = (delta.detach() + step_size * gradient.sign()).clamp(-epsilon, epsilon)
        delta = (x + delta).clamp(0, 1) - x
    return (x + delta).detach()


def fit(model, train, validation, epochs, rate, adversary=None, seed=0):
    """Momentum 0.9, weight decay 5e-4, half a cosine, batches of 64; the epoch that is best on validation is kept."""
    torch.manual_seed(seed)
    optimiser = torch.optim.SGD(model.parameters(), rate, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    best, kept, history = -1.0, None, []
    x, y = train
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(64):
            inputs = x[rows] if adversary is None else perturbed(model, x[rows], y[rows], **adversary)
            model.train()
            optimiser.zero_grad()
            loss = F.cross_entropy(model(inputs), y[rows])
            loss.backward()
            optimiser.step()
        schedule.step()
        right = accuracy(model, *validation)
        robust = None
        if adversary is not None:
            robust = accuracy(model, perturbed(model, *validation, **adversary), validation[1])
        history.append({"validation": right, "robust": robust})
        if right >= best:
            best, kept = right, copy.deepcopy(model.state_dict())
    model.load_state_dict(kept)
    return history


def pruned(model, criterion, sparsity, seed):
    torch.manual_seed(seed)
    model = copy.deepcopy(model).eval()
    importance = (
        tp.importance.MagnitudeImportance(p=1) if criterion == "l1" else tp.importance.RandomImportance()
    )
    tp.pruner.MetaPruner(
        model,
        torch.zeros(1, 1, 8, 8),
        importance=importance,
        pruning_ratio=sparsity,
        ignored_layers=[model.linear],
    ).step()
    return model


def attacked(model, x, y):
    """The L2 distances of DDN and the Linf distances of FMN; 0 where the network is wrong, infinite where it resists."""
    model.eval().requires_grad_(False)
    found = {}
    for name, attack in {
        "ddn": lambda: ddn(model, x, y, steps=STEPS),
        "fmn-linf": lambda: fmn(model, x, y, norm=math.inf, steps=STEPS),
    }.items():
        adv = attack()
        with torch.no_grad():
            wrong, fooled = model(x).argmax(1) != y, model(adv).argmax(1) != y
        size = (adv - x).flatten(1).norm(p=2 if name == "ddn" else math.inf, dim=1)
        size[~fooled] = math.inf
        size[wrong] = 0
        found[name] = size.tolist()
    model.requires_grad_(True)
    return found


def evaluated(model, splits):
    macs, parameters = tp.utils.count_ops_and_params(model, torch.zeros(1, 1, 8, 8))
    named = zip(("train", "validation", "test"), splits, strict=True)
    return {
        "accuracy": {name: accuracy(model, *each) for name, each in named},
        "macs": macs,
        "parameters": parameters,
    }


def finish(out, name, model, splits, rows):
    """Evaluate, attack and save one network."""
    with part("evaluate"):
        facts = evaluated(model, splits)
    with part("attack"):
        x, y = splits[2]
        facts["distances"] = attacked(model, x[:ATTACKED], y[:ATTACKED])
    with part("save"):
        torch.save(model, out / f"{'-'.join(map(str, name))}.pt")
        (out / f"{'-'.join(map(str, name))}.json").write_text(json.dumps(facts))
    rows.append((*name, facts))


def study(out, splits, seeds, sparsities):
    train, validation, _ = splits
    rows = []
    for seed in seeds:
        for label, recipe in MODELS.items():
            torch.manual_seed(seed)
            dense = Net()
            with part("train"):
                fit(dense, train, validation, **TRAINING, **recipe, seed=seed)
            finish(out, (label, seed, "dense", 0.0, "none"), dense, splits, rows)
            points = [("dense", 0.0), *((c, s) for c in ("l1", "random") for s in sparsities)]
            for criterion, sparsity in points:
                start = dense
                if sparsity:
                    with part("prune"):
                        start = pruned(dense, criterion, sparsity, seed)
                    finish(out, (label, seed, criterion, sparsity, "none"), start, splits, rows)
                for arm, settings in ARMS[label].items():
                    tuned = copy.deepcopy(start)
                    with part("tune"):
                        fit(tuned, train, validation, **settings, seed=seed)
                    finish(out, (label, seed, criterion, sparsity, arm), tuned, splits, rows)
    return rows


def report(out, rows):
    """A table of every network, and for each model and attack robust accuracy by sparsity and by budget."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    with (out / "table.csv").open("w", newline="") as file:
        table = csv.writer(file)
        budgets = [f"{name} {eps}" for name, sizes in BUDGETS.items() for eps in sizes]
        table.writerow(
            ["model", "seed", "criterion", "sparsity", "arm", "accuracy", "macs", "parameters", *budgets]
        )
        for *name, facts in rows:
            robust = [share(facts, attack, eps) for attack, sizes in BUDGETS.items() for eps in sizes]
            table.writerow([*name, facts["accuracy"]["test"], facts["macs"], facts["parameters"], *robust])
    for label in MODELS:
        for attack, sizes in BUDGETS.items():
            for kind in ("sparsity", "budget"):
                figure, axes = plt.subplots()
                for criterion in ("l1", "random"):
                    for arm in ("none", *ARMS[label]):
                        draw(axes, rows, (label, criterion, arm), attack, sizes, kind)
                axes.set(xlabel=kind, ylabel="robust accuracy", ylim=(0, 1))
                axes.legend()
                figure.savefig(out / f"{label}-{attack}-{kind}.pdf")
                plt.close(figure)


def share(facts, attack, eps):
    return float(np.mean(np.array(facts["distances"][attack]) > eps))


def draw(axes, rows, where, attack, sizes, kind):
    label, criterion, arm = where
    own = [row for row in rows if row[0] == label and row[4] == arm and row[2] in ("dense", criterion)]
    if kind == "sparsity":
        points = sorted({row[3] for row in own})
        values = [np.mean([share(row[5], attack, sizes[1]) for row in own if row[3] == s]) for s in points]
    else:
        points = np.linspace(0, 1.5 * sizes[-1], 61)
        half = [row for row in own if row[3] == 0.4]
        values = [np.mean([share(row[5], attack, eps) for row in half]) for eps in points]
    axes.plot(points, values, marker="o" if kind == "sparsity" else None, label=f"{criterion}, {arm}")


def main():
    options = argparse.ArgumentParser()
    options.add_argument("out", type=Path)
    options.add_argument("--digits", type=Path, required=True)
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    options.add_argument("--sparsities", type=float, nargs="+", default=[0.2, 0.4, 0.6, 0.8])
    given = options.parse_args()
    torch.set_num_threads(1)
    given.out.mkdir(parents=True)
    SPENT["start"] = time.process_time()
    with part("data"):
        splits = images(given.digits)
    rows = study(given.out, splits, given.seeds, given.sparsities)
    with part("report"):
        report(given.out, rows)
    attacks = sum(len(facts["distances"]) for *_, facts in rows)
    print(json.dumps({"networks": len(rows), "attacks": attacks, "seconds": SPENT}))


if __name__ == "__main__":
    main()
