"""The result of one attack, image by image, and its JSON: AttackBench's fields plus the outcome."""

import math
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha512
from typing import Any

import torch
from torch import Tensor

from secateur.attacks.core.batch import Batch
from secateur.attacks.core.box import Box
from secateur.attacks.runner.bind import BoundAttack
from secateur.budgets import L0_PIXELS, NORM_KEYS, recorded
from secateur.display import Shown, frame


class Outcome(StrEnum):
    """What happened to one image; never encoded in a distance.

    >>> [str(outcome) for outcome in Outcome]
    ['found', 'already_wrong', 'not_found']
    """

    FOUND = "found"
    ALREADY_WRONG = "already_wrong"
    NOT_FOUND = "not_found"


@dataclass(frozen=True, eq=False, repr=False)
class AttackResult(Shown):
    """One attack on one dataset, image by image, as verified on the original model.

    ``distances`` and ``best_optim_distances`` hold float64 [N] per norm (``l0``, ``l1``, ``l2``, ``linf``,
    and ``l0_pixels`` where the attack counts pixels): 0 where already wrong, inf where nothing was found. The
    first is of the example returned, the second of the best adversarial query, norm by norm; ``halfway`` and
    ``late`` are the best in the attack's norm after
    50 % and 75 % of the steps. ``forwards`` and ``backwards`` [N] count the attack's own passes per image,
    without the clean prediction and the verification. ``times`` are seconds per batch. ``classes`` [N] is the
    class that the original model gives to ``adv``. ``search`` describes the search: batch normalisations
    folded, memory format, precision, early stopping, the batch size that fitted, how often memory ran out,
    and the examples mended. ``start`` [R, N, ...] are the starting points, ``attempts`` counts the runs,
    ``box`` has the bounds of single pixels.

    Of images that were read part by part, ``kept`` [K] numbers those whose examples ``adv`` [K, ...] are
    there (None: all); ``regions`` and ``points``, instead of ``box`` and ``start``, are what the record says
    of bounds of single pixels and of starting points.

    Of an attack of fixed size, ``sizes`` are the ε it was run at, rising; ``fell`` float64 [N] is the
    smallest of them at which an example was found, else inf; ``oversized`` [N] marks images whose example
    fools but lies beyond its size, which counts as not found.

    >>> import secateur, torch
    >>> from secateur.data import Dataset
    >>> model = torch.nn.Flatten()  # the larger pixel is the class
    >>> images = Dataset("toy", torch.tensor([[[[0.8, 0.2]]]]), torch.tensor([0]), ("a", "b"), None)
    >>> result = secateur.attacks.run(model, images, "ddn", steps=50)
    >>> result.outcome, round(result.distance.item(), 2)  # the boundary is at (0.8 - 0.2) / sqrt(2)
    ([<Outcome.FOUND: 'found'>], 0.42)
    """

    attack: str
    norm: float
    kind: str
    settings: dict[str, Any]
    seed: int
    search: dict[str, Any]
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
    unverified: Tensor
    classes: Tensor
    adv: Tensor
    targets: Tensor | None = None
    start: Tensor | None = None
    box: Box | None = None
    attempts: int = 1
    sizes: tuple[float, ...] = ()
    fell: Tensor | None = None
    oversized: Tensor | None = None
    kept: Tensor | None = None
    regions: dict[str, Any] | None = None
    points: list[list[str]] | None = None

    @classmethod
    def empty(cls, bound: BoundAttack, whole: Batch, *, seed: int) -> "AttackResult":
        """A result that knows nothing about the images of ``whole`` yet; see ``enter_clean``."""
        n = len(whole.x)
        false, zero = torch.zeros(n, dtype=torch.bool), torch.zeros(n, dtype=torch.float64)
        infinite = zero + math.inf
        return cls(
            attack=bound.name,
            norm=bound.norm,
            kind=bound.kind,
            settings=bound.settings,
            seed=seed,
            search={},
            distances={key: infinite.clone() for key in recorded(bound.norm).values()},
            best_optim_distances={key: infinite.clone() for key in recorded(bound.norm).values()},
            halfway=infinite.clone(),
            late=infinite.clone(),
            forwards=zero.clone(),
            backwards=zero.clone(),
            times=[],
            hashes=hash_images(whole.x),
            targeted=whole.targets is not None,
            correct=false.clone(),
            ori_success=false.clone(),
            adv_success=false.clone(),
            box_failures=false.clone(),
            unverified=false.clone(),
            classes=torch.full((n,), -1, dtype=torch.int64),
            adv=whole.x.detach().cpu().clone(),
            targets=None if whole.targets is None else whole.targets.cpu(),
            start=whole.start,
            box=whole.bounds if isinstance(whole.bounds, Box) else None,
            attempts=bound.attempts,
            sizes=bound.sizes,
            fell=infinite.clone(),
            oversized=false.clone(),
        )

    @property
    def n(self) -> int:
        """Number of images."""
        return len(self.ori_success)

    @property
    def outcome(self) -> list[Outcome]:
        """What happened to each image."""
        return [
            Outcome.ALREADY_WRONG if wrong else Outcome.FOUND if hit else Outcome.NOT_FOUND
            for wrong, hit in zip(self.ori_success.tolist(), self.adv_success.tolist(), strict=True)
        ]

    @property
    def norm_key(self) -> str:
        """``l0``, ``l0_pixels``, ``l1``, ``l2`` or ``linf``."""
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
        """The settings with all sizes as a list if there are several; ``settings`` hold the largest."""
        return {**self.settings, "eps": list(self.sizes)} if len(self.sizes) > 1 else self.settings

    def _shown(self) -> tuple[str, list[tuple[str, str]]]:
        counts = Counter(map(str, self.outcome))
        title = f"AttackResult of {self.attack} ({self.norm_key}) on {self.n} images"
        rows = [(name.replace("_", " "), f"{count} images") for name, count in sorted(counts.items())]
        found = self.distance[self.where(Outcome.FOUND)]
        if len(found):
            rows.append(("median distance", f"{found.median().item():.3g}, of the examples found"))
        if self.kept is not None:
            rows.append(("examples kept", f"of {len(self.kept)} images"))
        return title, rows

    def to_pandas(self) -> Any:
        """One row per image: outcome, distances, passes, hash. Needs pandas.

        Raises:
            UserError: pandas is not installed.
        """
        return frame(
            {
                "outcome": [str(outcome) for outcome in self.outcome],
                "correct": self.correct.tolist(),
                "class": self.classes.tolist(),
                **{f"distance_{key}": values.tolist() for key, values in self.distances.items()},
                "forwards": self.forwards.tolist(),
                "backwards": self.backwards.tolist(),
                "hash": self.hashes,
            }
        )

    def found_at(self, eps: float) -> Tensor:
        """The images that fell at the size ``eps`` or a smaller one, of an attack of fixed size, [N] bool."""
        return torch.zeros(self.n, dtype=torch.bool) if self.fell is None else self.fell <= eps

    def where(self, outcome: Outcome) -> Tensor:
        """The images with this outcome, [N] bool."""
        if outcome is Outcome.ALREADY_WRONG:
            return self.ori_success.clone()
        return self.adv_success & ~self.ori_success if outcome is Outcome.FOUND else ~self.adv_success

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
            "batch_failures": [False] * len(self.times),
            "outcome": [str(value) for value in self.outcome],
            "adv_preds": self.classes.tolist(),
            "search": {key: value for key, value in self.search.items() if key not in _BY_MEMORY},
            **self._attempts(),
            **self._sizes(),
            **self.of_box(),
            **({} if self.kept is None else {"kept": self.kept.tolist()}),
        }

    def of_box(self) -> dict[str, Any]:
        """How many values of each image may change, and the hashes of their bounds; nothing without any."""
        if self.box is None:
            return self.regions or {}
        free = (self.box.low < self.box.high).flatten(1).sum(1).tolist()
        return {"free": free, "pixel_bounds": hash_images(torch.stack([self.box.low, self.box.high], 1))}

    def _sizes(self) -> dict[str, Any]:
        """The images that fell at every size tried; nothing of a minimum-norm attack."""
        if not self.sizes:
            return {}
        return {"sizes": [{"eps": eps, "found": self.found_at(eps).tolist()} for eps in self.sizes]}

    def _attempts(self) -> dict[str, Any]:
        """The number of runs and the starting points; nothing of a single run from the images."""
        points = self.of_start()
        if points is None:
            return {} if self.attempts == 1 else {"attempts": self.attempts}
        return {"attempts": self.attempts, "start": points}

    def of_start(self) -> list[list[str]] | None:
        """The hashes of the starting points, by run and image; None without any."""
        return self.points if self.start is None else [hash_images(points) for points in self.start]


# The available memory changes no number, so it stays out of records that are compared.
_BY_MEMORY = ("batch_size", "out_of_memory")


def _distances(values: dict[str, Tensor]) -> dict[str, list[float | None]]:
    return {
        key: [value if math.isfinite(value) else None for value in column.tolist()]
        for key, column in values.items()
    }


def hash_images(x: Tensor) -> list[str]:
    """sha512 per image over its contiguous float bytes, as AttackBench names samples."""
    return [sha512(image.contiguous().numpy().tobytes()).hexdigest() for image in x.detach().cpu()]


def _whole(value: float) -> float | int:
    return int(value) if value == int(value) else value


def _plain(value: Any) -> Any:
    """Settings as JSON: infinity and the norm of pixels by name, tensors by shape."""
    if isinstance(value, type(L0_PIXELS)):
        return str(value)
    if isinstance(value, float) and math.isinf(value):
        return "inf"
    if isinstance(value, Tensor):
        return f"tensor{list(value.shape)}"
    if callable(value):
        return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__name__)}"
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
