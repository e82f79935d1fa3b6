"""A few attacked images with their adversarial examples, kept beside an attack's record for the pictures."""

import json
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from secateur.store.science import Damaged

EXAMPLES = "examples.safetensors"
KEPT = 8
"""Images that an attack keeps."""
LONGEST_SIDE = 64
"""Pixels of a picture's side; of larger images every second, third … pixel is kept."""
MAX_NAME = 100
Images = NDArray[np.floating[Any]]


def evenly(n: int, most: int = KEPT) -> list[int]:
    """At most ``most`` of the numbers 0 to ``n`` - 1, evenly spread.

    They depend on ``n`` alone, so that all attacks of a study keep the same images.

    >>> evenly(100, 4), evenly(3)
    ([0, 33, 66, 99], [0, 1, 2])
    """
    return [int(place) for place in np.linspace(0, n - 1, min(most, n)).round()]


@dataclass(frozen=True, eq=False)
class Examples:
    """Attacked images and what was added to them, in units where black is 0 and white is 1.

    Attributes:
        places: of the images among all attacked ones, [K].
        clean: grey levels, uint8 [K, C, H, W], C = 1 or 3.
        change: adversarial minus clean, float16 [K, C, H, W]; 0 where nothing was found.
        classes: names of all classes.

    >>> images = np.full((2, 1, 4, 4), 0.5)
    >>> kept = Examples.of(images, images + 0.25, [3, 7], ("cat", "dog"), bounds=(0.0, 1.0))
    >>> round(Examples.from_bytes(kept.to_bytes()).adversarial(7)[0, 0, 0].item(), 2)
    0.75
    """

    places: tuple[int, ...]
    clean: NDArray[np.uint8]
    change: NDArray[np.float16]
    classes: tuple[str, ...]

    @classmethod
    def of(
        cls,
        clean: Images,
        adversarial: Images,
        places: list[int],
        classes: tuple[str, ...],
        *,
        bounds: tuple[float, float],
    ) -> Self:
        """The images of ``places``, [K, C, H, W] within ``bounds``, made smaller where they are large."""
        step = -(-max(clean.shape[2:]) // LONGEST_SIDE)
        low, high = bounds
        before, after = (
            (np.asarray(each, dtype=np.float32)[..., ::step, ::step] - low) / (high - low)
            for each in (clean, adversarial)
        )
        levels = (255 * before.clip(0, 1)).round().astype(np.uint8)
        names = tuple(name[:MAX_NAME] for name in classes)
        return cls(tuple(places), levels, (after - before).astype(np.float16), names)

    def pixels(self, place: int) -> Images:
        """The image at a place, [C, H, W] in [0, 1]."""
        return np.asarray(self.clean[self.places.index(place)] / np.float32(255))

    def added(self, place: int) -> Images:
        """What was added to it, [C, H, W]."""
        return np.asarray(self.change[self.places.index(place)], dtype=np.float32)

    def adversarial(self, place: int) -> Images:
        """The adversarial example, [C, H, W] in [0, 1]."""
        return np.asarray(np.clip(self.pixels(place) + self.added(place), 0, 1))

    def to_bytes(self) -> bytes:
        """The content of the file."""
        tensors: dict[str, NDArray[Any]] = {
            "place": np.array(self.places, dtype=np.int64),
            "clean": np.ascontiguousarray(self.clean),
            "change": np.ascontiguousarray(self.change),
        }
        return save(tensors, {"classes": json.dumps(self.classes)})

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Read the content of the file.

        Raises:
            Damaged: it is no such file.
        """
        try:
            tensors, names = load(content), _classes(content)
            places, clean, change = (tensors[name] for name in ("place", "clean", "change"))
        except (SafetensorError, KeyError, ValueError, TypeError, RecursionError):
            raise Damaged(f"its {EXAMPLES} is not readable") from None
        shaped = clean.ndim == 4 and clean.shape == change.shape and places.shape == clean.shape[:1]
        typed = [each.dtype.name for each in (places, clean, change)] == ["int64", "uint8", "float16"]
        if not (shaped and typed and clean.shape[1] in (1, 3) and 0 < max(clean.shape[2:]) <= LONGEST_SIDE):
            raise Damaged(f"its {EXAMPLES} holds no pictures")
        if not np.isfinite(change).all():
            raise Damaged(f"its {EXAMPLES} holds values that are no numbers")
        return cls(tuple(places.tolist()), clean, change, names)


def _classes(content: bytes) -> tuple[str, ...]:
    """The names of the classes, from the header of the file."""
    size = int.from_bytes(content[:8], "little")
    names = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["classes"])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("no names")
    return tuple(name[:MAX_NAME] for name in names)
