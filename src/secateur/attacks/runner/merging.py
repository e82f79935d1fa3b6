"""Results of images that were attacked part by part: put together, and a sample of them that is kept."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from secateur.attacks.core.box import Box
from secateur.attacks.runner.result import AttackResult
from secateur.data import Dataset

COLUMNS = (
    *("halfway", "late", "forwards", "backwards", "correct", "ori_success", "adv_success"),
    *("box_failures", "unverified", "classes", "targets", "fell", "oversized"),
)
"""Fields with one value per image; the distances are tables of such."""
TABLES = ("distances", "best_optim_distances")


def without_images(result: AttackResult) -> AttackResult:
    """``result`` without its images: examples, starting points and bounds of single pixels."""
    return replace(
        result,
        adv=result.adv[:0].clone(),
        kept=torch.zeros(0, dtype=torch.int64),
        start=None,
        points=result.of_start(),
        box=None,
        regions=result.of_box() or None,
    )


def merged(parts: Sequence[AttackResult]) -> AttackResult:
    """One result of several, image after image; none of them has images.

    ``search`` is that of the first part in which anything was attacked. Where another part was searched
    otherwise, as on another accelerated copy, a list has both ways.
    """
    first = parts[0]
    columns: dict[str, Any] = {
        name: None if getattr(first, name) is None else torch.cat([getattr(part, name) for part in parts])
        for name in COLUMNS
    }
    tables: dict[str, Any] = {
        name: {key: torch.cat([getattr(part, name)[key] for part in parts]) for key in getattr(first, name)}
        for name in TABLES
    }
    regions = None
    if first.regions is not None:
        regions = {
            key: [each for part in parts for each in (part.regions or {})[key]] for key in first.regions
        }
    points = None
    if first.points is not None:
        # The points of one run after another, each of all images.
        runs = zip(*(part.points or [] for part in parts), strict=True)
        points = [[name for names in run for name in names] for run in runs]
    return replace(
        first,
        **columns,
        **tables,
        points=points,
        search=_searched([part.search for part in parts]),
        times=[seconds for part in parts for seconds in part.times],
        hashes=[name for part in parts for name in part.hashes],
        regions=regions,
    )


def rows_of(result: AttackResult, rows: Tensor, chosen: Sequence["Image"], box: Box | None) -> AttackResult:
    """The result on the images ``rows`` [n] alone, with the examples and starting points of ``chosen``."""
    columns: dict[str, Any] = {
        name: None if (column := getattr(result, name)) is None else column[rows] for name in COLUMNS
    }
    tables: dict[str, Any] = {
        name: {key: column[rows] for key, column in getattr(result, name).items()} for name in TABLES
    }
    hashes = [result.hashes[row] for row in rows.tolist()]
    points = [image.points for image in chosen if image.points is not None]
    return replace(
        result,
        **columns,
        **tables,
        hashes=hashes,
        adv=torch.stack([image.adv for image in chosen]),
        start=torch.stack(points, 1) if points else None,
        points=None,
        box=box,
        kept=None,
        regions=None,
    )


def _searched(facts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    keys = dict.fromkeys(key for each in facts for key in each)
    # The last keys of a record, in this order.
    last = ("batch_size", "out_of_memory", "mended")
    found: dict[str, Any] = {}
    for key in keys:
        if key not in last:
            ways: list[Any] = []
            for each in facts:
                if key in each and each[key] not in ways:
                    ways.append(each[key])
            found[key] = ways[0] if len(ways) == 1 else ways
    short = sum(each["out_of_memory"] for each in facts)
    # The last part of all may be smaller than what fits.
    sizes = [each["batch_size"] for each in facts]
    size = min(sizes) if short else max(sizes)
    return {**found, **dict(zip(last, (size, short, sum(each["mended"] for each in facts)), strict=True))}


@dataclass(frozen=True)
class Image:
    """One image with its example, and its starting points and the bounds of its pixels if it has its own."""

    number: int
    x: Tensor
    y: int
    adv: Tensor
    box: tuple[Tensor, Tensor] | None
    points: Tensor | None = None


class Sample:
    """Images evenly spread over more than anybody has counted: at most ``2 * most`` are held.

    Which ones does not depend on the parts they come in.

    >>> sample = Sample(2)
    >>> for at in range(9):
    ...     sample.offer(lambda at=at: Image(at, torch.zeros(1), 0, torch.zeros(1), None))
    >>> [image.number for image in sample.chosen()]
    [0, 8]
    """

    def __init__(self, most: int) -> None:
        self._most, self._seen, self._stride = most, 0, 1
        self._images: list[Image] = []

    def offer(self, image: Callable[[], Image]) -> None:
        """The next image, which is copied if the sample takes it."""
        wanted = self._most > 0 and self._seen % self._stride == 0
        self._seen += 1
        if not wanted:
            return
        self._images.append(image())
        if len(self._images) > 2 * self._most:
            self._images = self._images[::2]
            self._stride *= 2

    def chosen(self) -> list[Image]:
        """The images that are left, ``most`` at most."""
        count = min(self._most, len(self._images))
        places = torch.linspace(0, len(self._images) - 1, count, dtype=torch.float64).round().long()
        return [self._images[at] for at in places.tolist()]


def image_of(result: AttackResult, images: Dataset, at: int, number: int) -> Image:
    """A copy of image ``at`` of a part and of its example; ``number`` is its own among all parts."""
    box = None if result.box is None else (result.box.low[at].clone(), result.box.high[at].clone())
    points = None if result.start is None else result.start[:, at].clone()
    return Image(number, images.x[at].clone(), int(images.y[at]), result.adv[at].clone(), box, points)


def as_dataset(chosen: Sequence[Image], like: Dataset) -> tuple[Dataset, Box | None]:
    """Images of a sample as a data set, and the bounds of their pixels."""
    images = replace(
        like, x=torch.stack([each.x for each in chosen]), y=torch.tensor([each.y for each in chosen])
    )
    box = None
    if chosen[0].box is not None:
        ends = [torch.stack([each.box[end] for each in chosen if each.box]) for end in (0, 1)]
        box = Box(like.bounds, low=ends[0], high=ends[1])
    return images, box
