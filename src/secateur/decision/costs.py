"""What the parts of a check cost, in forward passes of one image through the dense network.

A gradient by the images costs about as much as a forward pass, one by the weights twice as much: a ResNet-20
on CIFAR images and two cores takes 2.2 ms for a forward pass, 4.4 ms with the gradient of an attack and 7 ms
with that of a training step.
"""

import math
from collections.abc import Mapping

from secateur.recipes import Recipe
from secateur.train.adversary import for_validation
from secateur.trust.grading import SHARE

ATTACKED, TRAINED = 2, 3
"""Passes of a step of an attack and of a training."""
STEPS = 100
"""Of an attack that is not told how many."""
OVERHEAD = 0.1
"""The share of the time of an image that no pruning reduces; the rest goes with the channels."""


def tuning_passes(recipe: Recipe, *, trained: int, validated: int) -> float:
    """Passes of a fine-tuning on ``trained`` images that chooses its epoch on ``validated`` ones.

    >>> from secateur.recipes import Distillation
    >>> tuning_passes(Recipe(epochs=4, distillation=Distillation()), trained=90, validated=10)
    1210
    """
    in_step, in_validation = TRAINED, 1
    if recipe.adversary is not None:
        in_step += ATTACKED * recipe.adversary.steps
        in_step += TRAINED if recipe.adversary.method == "trades" else 0
        in_validation += 1 + ATTACKED * for_validation(recipe.adversary).steps
    seen = recipe.epochs * trained
    # A teacher is asked for every image once, unless they are augmented: see ``train.taught``.
    taught = seen if recipe.augment is not None else min(seen, trained)
    return (
        seen * in_step
        + recipe.epochs * validated * in_validation
        + (taught if recipe.distillation is not None else 0)
        + (trained if recipe.recalibrate else 0)
    )


def parts_of(
    recipe: Recipe,
    sizes: Mapping[str, int],
    norms: Mapping[str, object],
    options: Mapping[str, object],
    *,
    steps: int | None,
    rounds: int,
    control: bool,
) -> dict[str, int]:
    """The passes of every part of a check, by the name under which its progress is told.

    Args:
        recipe: of the fine-tuning.
        sizes: images by what is done with them: ``train``, ``validation``, ``test`` and ``attacked``, which
            are the correct ones alone.
        norms: of the attacks, by their names.
        options: of the plan: how much is removed.
        steps: of the attack.
        rounds: networks that a search prunes.
        control: whether the dense network is fine-tuned as well.
    """
    attack = sizes["attacked"] * (steps or STEPS) * ATTACKED * (1 + SHARE)
    measured = {"predictions": float(sizes["test"]), **dict.fromkeys(norms, attack)}
    tuned = {"fine-tuning": tuning_passes(recipe, trained=sizes["train"], validated=sizes["validation"])}
    pruned = [f"pruned {number}" if rounds > 1 else "pruned" for number in range(1, rounds + 1)]
    found = {f"dense {part}": passes for part, passes in measured.items()}
    if control:
        found |= {f"control {part}": passes for part, passes in (tuned | measured).items()}
    share = time_share(options)
    for label in pruned:
        found |= {f"{label} {part}": share * passes for part, passes in (tuned | measured).items()}
    return {part: round(passes) for part, passes in found.items()}


def time_share(options: Mapping[str, object]) -> float:
    """The time of an image in a pruned network, relative to the dense one, as far as it is known beforehand.

    >>> round(time_share({"sparsity": 0.3}), 2), round(time_share({"macs": 0.25}), 2)
    (0.73, 0.55)
    """
    channels = 1 - _fraction(options.get("sparsity"), 0.5)
    for name, power in (("macs", 0.5), ("parameters", 0.5), ("latency", 1.0)):
        if options.get(name) is not None:
            # Multiply-adds and parameters go with the square of the channels.
            channels = _fraction(options[name], 0.5 ** (1 / power)) ** power
    return OVERHEAD + (1 - OVERHEAD) * channels


def _fraction(value: object, otherwise: float) -> float:
    known = isinstance(value, float) and math.isfinite(value) and 0 <= value <= 1
    return value if isinstance(value, float) and known else otherwise
