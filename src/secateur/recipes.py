"""How a network is trained or fine-tuned, as plain data: read from a study, carried out by ``train``."""

from dataclasses import dataclass
from typing import Literal


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
    """One way to train. ``adversary`` set means adversarial training; ``epochs=0`` trains nothing."""

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
