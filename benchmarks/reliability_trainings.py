"""Trainings of drawn recipes, interrupted at drawn steps: they end as if nothing had happened, to the bit."""

import os
import random
from dataclasses import replace

from reliability_study import Tally

from secateur.data import load_splits, subset
from secateur.models import weights_hash
from secateur.recipes import Adversary, Augment, Distillation, Penalty, Recipe
from secateur.train import Checkpoints, train
from train.cases import dropping, network, seeded

IMAGES, HELD_OUT = 97, 30
WAYS = ("stopped", "killed")
"""A training that is asked to stop saves where it is; one that is killed goes back to its last checkpoint."""


class Stopped(BaseException):
    """Raised in the middle of a training; no code below catches it for good."""


def trainings(n, seed, folder):
    """Interrupt trainings once to three times; compare weights and history with those of one left alone."""
    draw, tally = random.Random(seed), Tally()
    splits = load_splits("digits", generator=seeded())
    data = (
        subset(splits.train, IMAGES, generator=seeded()),
        subset(splits.validation, HELD_OUT, generator=seeded()),
    )
    for i in range(n):
        recipe, make = recipe_of(draw), draw.choice([network, dropping])
        teacher = network(9) if recipe.distillation else None
        way = WAYS[i % 2]

        def run(checkpoints=None, tick=None, *, make=make, recipe=recipe, teacher=teacher, ticket=seed + i):
            model = make()
            history = train(
                model, *data, recipe, seed=ticket, teacher=teacher, checkpoints=checkpoints, on_progress=tick
            )
            return history, weights_hash(model)

        tally.add(way, interrupted(run, folder / f"try-{i}", draw, way))
    return tally


def recipe_of(draw):
    """A recipe with some of the settings that have a state of their own, or draw random numbers."""
    recipe = Recipe(
        epochs=draw.randint(2, 4),
        batch_size=draw.choice([24, 32, 50]),
        learning_rate=0.05,
        checkpoint_every=draw.choice([1, 2, 100]),
        momentum=draw.choice([0.0, 0.9]),
        schedule=draw.choice(["cosine", "exponential"]),
        label_smoothing=draw.choice([0.0, 0.1]),
        accumulate=draw.choice([1, 2]),
        recalibrate=draw.choice([False, True]),
    )
    extras = {
        "augment": Augment(1, 15, True),
        "adversary": draw.choice(
            [Adversary(0.1, 0.05, 2), Adversary(0.1, 0.05, 2, method="trades", beta=2.0)]
        ),
        "ema": 0.9,
        "distillation": Distillation(0.5, 2.0),
        "penalty": draw.choice([Penalty("growing_reg", 1e-3, 1e-2), Penalty("group_lasso", 1e-3)]),
        "channels_last": True,
    }
    chosen = {name: value for name, value in extras.items() if draw.random() < 0.4}
    if "adversary" in chosen and draw.random() < 0.5:
        chosen["select"] = "robust"
    return replace(recipe, **chosen)


def interrupted(run, folder, draw, way):
    """In words how a training that was interrupted differs from one that was not; empty if it does not."""
    steps = []
    expected = run(tick=lambda done, total: steps.append(done))
    for _ in range(draw.randint(1, 3)):
        at = draw.choice(steps)
        (stop if way == "stopped" else kill)(run, folder, at)
    history, weights = run(Checkpoints(folder))
    if history != expected[0]:
        return "another history"
    return "" if weights == expected[1] else "other weights"


def stop(run, folder, at):
    """Ask a training to stop once ``at`` steps are done."""

    def tick(done, total):
        if done >= at:
            raise Stopped

    try:
        run(Checkpoints(folder), tick)
    except Stopped:
        pass


def kill(run, folder, at):
    """Let the process of a training die once ``at`` steps are done."""
    process = os.fork()
    if not process:
        try:
            run(Checkpoints(folder), lambda done, total: os._exit(0) if done >= at else None)
        finally:
            os._exit(1)
    os.waitpid(process, 0)
