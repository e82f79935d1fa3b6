"""How a network is trained or fine-tuned, as plain data: read from a study, carried out by ``train``."""

import math
from dataclasses import dataclass
from typing import Any, Literal

SCHEDULES = ("cosine", "exponential", "constant")
PRECISIONS = ("float32", "bfloat16")
METHODS = ("madry", "trades")
PENALTIES = ("bn_scale", "group_lasso", "group_norm", "growing_reg")
BIBTEX = {
    "adversary": {"madry": "madry2018", "trades": "zhang2019"},
    "penalty": {
        "bn_scale": "liu2017",
        "group_lasso": "wen2016",
        "group_norm": "fang2023",
        "growing_reg": "wang2021",
    },
    "distillation": {"distillation": "hinton2015"},
}
"""The papers of a recipe's parts, by part and kind: keys of ``report/templates/references.bib``."""


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
    """Projected gradient descent inside the training loop.

    ``method`` "madry" trains on the adversarial images alone (Madry et al. 2018); with ``steps=1`` and a
    ``step_size`` of 1.25 ``epsilon`` this is the fast training of Wong et al. 2020. "trades" adds ``beta``
    times the divergence between the predictions on clean and adversarial images to the clean loss (Zhang et
    al. 2019). ``epsilon`` and ``step_size`` are in the units of the images, which lie in [0, 1]; ``norm`` is
    2 or inf.
    """

    epsilon: float
    step_size: float
    steps: int = 7
    norm: float = float("inf")
    random_start: bool = True
    method: Literal["madry", "trades"] = "madry"
    beta: float = 6.0


@dataclass(frozen=True)
class Distillation:
    """Learning from a teacher's softened predictions (Hinton et al. 2015).

    The loss is (1 - ``weight``) times the recipe's own and ``weight`` times ``temperature``² times the
    divergence from the teacher. The teacher sees the clean images also where the student is shown adversarial
    ones (Goldblum et al. 2020).
    """

    weight: float = 0.9
    temperature: float = 4.0


@dataclass(frozen=True)
class Penalty:
    """Training towards sparse channels, before they are pruned.

    ``kind`` is "bn_scale" (L1 norm of the scales of batch normalisation, Liu et al. 2017), "group_lasso" (the
    l2,1 norm over the channels of the dependency graph, Wen et al. 2016), "group_norm" (squared norms, the
    smaller a channel the more it is shrunk, Fang et al. 2023) or "growing_reg" (squared norms, with weights
    that grow by ``growth`` per epoch for the smallest channels, Wang et al. 2021). ``strength`` is its factor
    in the loss; ``alpha`` is group_norm's exponent.
    """

    kind: Literal["bn_scale", "group_lasso", "group_norm", "growing_reg"]
    strength: float = 1e-4
    growth: float = 1e-4
    alpha: float = 4.0


@dataclass(frozen=True)
class Recipe:
    """One way to train. ``adversary`` set means adversarial training; ``epochs=0`` trains nothing.

    ``recalibrate`` first estimates the statistics of batch normalisation anew on the training images, which
    with ``epochs=0`` is all that happens. ``ema`` above 0 evaluates and keeps the exponential moving average
    of the weights with that decay per step. Memory and speed: ``accumulate`` splits a batch into that many
    parts whose gradients add up, ``precision`` is that of the forward pass, and ``channels_last`` the memory
    format.

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
    recalibrate: bool = False
    ema: float = 0.0
    accumulate: int = 1
    precision: Literal["float32", "bfloat16"] = "float32"
    channels_last: bool = False
    distillation: Distillation | None = None
    penalty: Penalty | None = None


PARTS: dict[str, type[Any]] = {
    "augment": Augment,
    "adversary": Adversary,
    "distillation": Distillation,
    "penalty": Penalty,
}
"""The fields of a recipe that are records themselves."""


def problems(recipe: Recipe) -> list[str]:
    """What makes a recipe impossible, one sentence each; empty if it can be carried out."""
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
        (recipe.adversary is not None or recipe.select == "clean", "select: robust needs an adversary"),
        (0 <= recipe.ema < 1, f"ema must lie in [0, 1), not {recipe.ema}"),
        (recipe.accumulate >= 1, f"accumulate must be 1 or more, not {recipe.accumulate}"),
        (
            recipe.precision in PRECISIONS,
            f"precision must be one of {', '.join(PRECISIONS)}, not {recipe.precision}",
        ),
        *_parts(recipe),
    ]
    return [sentence for holds, sentence in checks if not holds]


def _parts(recipe: Recipe) -> list[tuple[bool, str]]:
    checks: list[tuple[bool, str]] = []
    if (adversary := recipe.adversary) is not None:
        checks += [
            (0 < adversary.epsilon < math.inf, f"epsilon must be positive, not {adversary.epsilon}"),
            (0 < adversary.step_size < math.inf, f"step_size must be positive, not {adversary.step_size}"),
            (adversary.steps >= 1, f"an adversary needs 1 step or more, not {adversary.steps}"),
            (adversary.norm in (2, math.inf), f"an adversary's norm is 2 or inf, not {adversary.norm}"),
            (adversary.method in METHODS, f"method must be madry or trades, not {adversary.method}"),
            (0 <= adversary.beta < math.inf, f"beta must be 0 or more, not {adversary.beta}"),
        ]
    if (transform := recipe.augment) is not None:
        checks += [
            (transform.padding >= 0, f"padding must be 0 or more, not {transform.padding}"),
            (
                0 <= transform.rotation <= 180,
                f"rotation must lie in [0, 180] degrees, not {transform.rotation}",
            ),
        ]
    if (distillation := recipe.distillation) is not None:
        checks += [
            (0 <= distillation.weight <= 1, f"weight must lie in [0, 1], not {distillation.weight}"),
            (
                0 < distillation.temperature < math.inf,
                f"temperature must be positive, not {distillation.temperature}",
            ),
        ]
    if (penalty := recipe.penalty) is not None:
        checks += [
            (penalty.kind in PENALTIES, f"kind must be one of {', '.join(PENALTIES)}, not {penalty.kind}"),
            (0 <= penalty.strength < math.inf, f"strength must be 0 or more, not {penalty.strength}"),
            (0 <= penalty.growth < math.inf, f"growth must be 0 or more, not {penalty.growth}"),
            (0 <= penalty.alpha < 64, f"alpha must lie in [0, 64), not {penalty.alpha}"),
        ]
    return checks
