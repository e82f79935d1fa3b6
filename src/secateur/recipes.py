"""How a network is trained or fine-tuned, as plain data: read from a study, carried out by ``train``."""

import math
from dataclasses import dataclass
from typing import Literal

SCHEDULES = ("cosine", "exponential", "constant")


@dataclass(frozen=True)
class Augment:
    """Random transformations of the training images.

    ``padding`` in pixels (random crop after zero padding), ``rotation`` in degrees (uniform in ±), ``flip``
    mirrors half of the images.
    """

    padding: int = 0
    rotation: float = 0.0
    flip: bool = False


@dataclass(frozen=True)
class Adversary:
    """Projected gradient descent inside the training loop (Madry et al. 2018).

    ``epsilon`` and ``step_size`` are in the units of the images, which lie in [0, 1]; ``norm`` is 2 or inf.
    """

    epsilon: float
    step_size: float
    steps: int = 7
    norm: float = float("inf")
    random_start: bool = True


@dataclass(frozen=True)
class Recipe:
    """One way to train. ``adversary`` set means adversarial training; ``epochs=0`` trains nothing.

    ``schedule`` sets the learning rate once per epoch: half a cosine from ``learning_rate`` towards 0, a
    factor of ``decay`` per epoch, or constant. The epoch with the best validation accuracy is kept: the clean
    one, or with ``select="robust"`` the one under the adversary.
    """

    epochs: int = 20
    batch_size: int = 128
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: Literal["cosine", "exponential", "constant"] = "cosine"
    decay: float = 0.1
    label_smoothing: float = 0.0
    augment: Augment | None = None
    adversary: Adversary | None = None
    checkpoint_every: int = 5
    select: Literal["clean", "robust"] = "clean"


def problems(recipe: Recipe) -> list[str]:
    """What makes a recipe impossible, one sentence each; empty if it can be carried out."""
    adversary, transform = recipe.adversary, recipe.augment
    checks = [
        (recipe.epochs >= 0, f"epochs must be 0 or more, not {recipe.epochs}"),
        (recipe.batch_size >= 1, f"batch_size must be 1 or more, not {recipe.batch_size}"),
        (0 < recipe.learning_rate < math.inf, f"learning_rate must be positive, not {recipe.learning_rate}"),
        (0 <= recipe.momentum < 1, f"momentum must lie in [0, 1), not {recipe.momentum}"),
        (0 <= recipe.weight_decay < math.inf, f"weight_decay must be 0 or more, not {recipe.weight_decay}"),
        (0 < recipe.decay <= 1, f"decay must lie in (0, 1], not {recipe.decay}"),
        (
            0 <= recipe.label_smoothing < 1,
            f"label_smoothing must lie in [0, 1), not {recipe.label_smoothing}",
        ),
        (
            recipe.schedule in SCHEDULES,
            f"schedule must be one of {', '.join(SCHEDULES)}, not {recipe.schedule}",
        ),
        (recipe.checkpoint_every >= 1, f"checkpoint_every must be 1 or more, not {recipe.checkpoint_every}"),
        (recipe.select in ("clean", "robust"), f"select must be clean or robust, not {recipe.select}"),
        (adversary is not None or recipe.select == "clean", "select: robust needs an adversary"),
    ]
    if adversary is not None:
        checks += [
            (0 < adversary.epsilon < math.inf, f"epsilon must be positive, not {adversary.epsilon}"),
            (0 < adversary.step_size < math.inf, f"step_size must be positive, not {adversary.step_size}"),
            (adversary.steps >= 1, f"an adversary needs 1 step or more, not {adversary.steps}"),
            (adversary.norm in (2, math.inf), f"an adversary's norm is 2 or inf, not {adversary.norm}"),
        ]
    if transform is not None:
        checks += [
            (transform.padding >= 0, f"padding must be 0 or more, not {transform.padding}"),
            (
                0 <= transform.rotation <= 180,
                f"rotation must lie in [0, 180] degrees, not {transform.rotation}",
            ),
        ]
    return [sentence for holds, sentence in checks if not holds]
