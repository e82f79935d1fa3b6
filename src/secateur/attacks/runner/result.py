"""What one attack leaves behind for every image, and its JSON: AttackBench's fields plus the outcome."""

import hashlib
import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor

NORM_KEYS = {0.0: "l0", 1.0: "l1", 2.0: "l2", math.inf: "linf"}
"""Names of the norms in JSON."""


class Outcome(StrEnum):
    """What happened to one image; never encoded in a distance."""

    FOUND = "found"
    ALREADY_WRONG = "already_wrong"
    NOT_FOUND = "not_found"


@dataclass(frozen=True, eq=False)
class AttackResult:
    """One attack on one dataset, sample by sample, as the re-verification saw it.

    ``distances`` and ``best_optim_distances`` hold float64 [N] per norm (``l0``, ``l1``, ``l2``, ``linf``):
    0 where already wrong, inf where nothing was found. The first is of the example returned, the second of
    the best adversarial query of all, norm by norm; ``halfway`` and ``late`` are the best in the attack's
    norm after 50 % and 75 % of the steps. ``forwards`` and ``backwards`` [N] count the attack's own passes
    per image; the clean prediction and the re-verification are not in them. ``times`` are seconds per
    batch. ``classes`` [N] is what the untouched model says to ``adv``. ``search`` tells how the model was
    asked: batch normalisations folded, memory format, precision, early stopping, the batch size that fitted,
    how often memory ran out, and how many examples had to be mended to fool the untouched model. ``start``
    [R, N, ...] are the points it began at, if they were given, and ``attempts`` is how often it began.

    Of an attack of fixed size, ``sizes`` are the ε it was run at, rising; ``fell`` float64 [N] is the
    smallest of them at which an example was found, else inf; ``oversized`` [N] tells where it returned an
    example that fools but lies beyond its size, which counts as not found.
    """

    attack: str
    norm: float
    kind: str
    settings: dict[str, Any]
    seed: int
    search: dict[str, Any]
    outcome: list[Outcome]
    distances: dict[str, Tensor]
    best_optim_distances: dict[str, Tensor]
    halfway: Tensor
    late: Tensor
    forwards: Tensor
    backwards: Tensor
    times: list[float]
    hashes: list[str]
    targeted: bool
    correct: Tensor
    ori_success: Tensor
    adv_success: Tensor
    box_failures: Tensor
    batch_failures: list[bool]
    unverified: Tensor
    classes: Tensor
    adv: Tensor
    targets: Tensor | None = None
    start: Tensor | None = None
    attempts: int = 1
    sizes: tuple[float, ...] = ()
    fell: Tensor | None = None
    oversized: Tensor | None = None

    @property
    def n(self) -> int:
        """Number of images."""
        return len(self.outcome)

    @property
    def norm_key(self) -> str:
        """``l0``, ``l1``, ``l2`` or ``linf``."""
        return NORM_KEYS[self.norm]

    @property
    def accuracy(self) -> float:
        """Accuracy on the clean images."""
        return self.correct.double().mean().item()

    @property
    def distance(self) -> Tensor:
        """The distances in the attack's own norm."""
        return self.distances[self.norm_key]

    @property
    def asked(self) -> dict[str, Any]:
        """The settings with all sizes as a list, where there are several; ``settings`` hold the largest."""
        return {**self.settings, "eps": list(self.sizes)} if len(self.sizes) > 1 else self.settings

    def found_at(self, eps: float) -> Tensor:
        """The images that fell at the size ``eps`` or a smaller one, of an attack of fixed size, [N] bool."""
        return torch.zeros(self.n, dtype=torch.bool) if self.fell is None else self.fell <= eps

    def where(self, outcome: Outcome) -> Tensor:
        """The images with this outcome, [N] bool."""
        return torch.tensor([value is outcome for value in self.outcome])

    def to_json(self) -> dict[str, Any]:
        """Plain data with finite numbers only; an infinite distance is null."""
        return {
            "attack": self.attack,
            "norm": self.norm_key,
            "kind": self.kind,
            "settings": {key: _plain(value) for key, value in self.asked.items()},
            "seed": self.seed,
            "hashes": self.hashes,
            "targeted": self.targeted,
            "targets": None if self.targets is None else self.targets.tolist(),
            "accuracy": self.accuracy,
            "ori_success": self.ori_success.tolist(),
            "adv_success": self.adv_success.tolist(),
            "ASR": self.adv_success.double().mean().item(),
            "times": self.times,
            "num_forwards": [_whole(value) for value in self.forwards.tolist()],
            "num_backwards": [_whole(value) for value in self.backwards.tolist()],
            "distances": _distances(self.distances),
            "best_optim_distances": _distances(self.best_optim_distances),
            "box_failures": self.box_failures.tolist(),
            "batch_failures": self.batch_failures,
            "outcome": [str(value) for value in self.outcome],
            "adv_preds": self.classes.tolist(),
            "search": {key: value for key, value in self.search.items() if key not in _BY_MEMORY},
            **self._attempts(),
            **self._sizes(),
        }

    def _sizes(self) -> dict[str, Any]:
        """What fell at every size that was tried; nothing of an attack that looks for the smallest one."""
        if not self.sizes:
            return {}
        return {"sizes": [{"eps": eps, "found": self.found_at(eps).tolist()} for eps in self.sizes]}

    def _attempts(self) -> dict[str, Any]:
        """How often the attack began, and at which points; nothing of one that began once, at the images."""
        if self.start is None:
            return {} if self.attempts == 1 else {"attempts": self.attempts}
        return {"attempts": self.attempts, "start": [hash_images(points) for points in self.start]}


# How much memory there was changes no number, and is kept out of records that are compared.
_BY_MEMORY = ("batch_size", "out_of_memory")


def _distances(values: dict[str, Tensor]) -> dict[str, list[float | None]]:
    return {
        key: [value if math.isfinite(value) else None for value in column.tolist()]
        for key, column in values.items()
    }


def hash_images(x: Tensor) -> list[str]:
    """sha512 per image over its contiguous float bytes, as AttackBench names samples."""
    return [hashlib.sha512(image.contiguous().numpy().tobytes()).hexdigest() for image in x.detach().cpu()]


def _whole(value: float) -> float | int:
    return int(value) if value == int(value) else value


def _plain(value: Any) -> Any:
    """Settings as JSON: infinity by name, tensors by shape."""
    if isinstance(value, float) and math.isinf(value):
        return "inf"
    if isinstance(value, Tensor):
        return f"tensor{list(value.shape)}"
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
