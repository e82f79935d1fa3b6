"""Attack more images than memory holds: part by part, as they are read, with one result for all."""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from secateur.attacks.core.box import Box, box_of
from secateur.attacks.runner.batching import Tick
from secateur.attacks.runner.goals import one_target, with_outputs
from secateur.attacks.runner.merging import Sample, image_of, merged, without_images
from secateur.attacks.runner.result import AttackResult
from secateur.attacks.runner.run import run
from secateur.budgets import plain
from secateur.data import Dataset, Stream
from secateur.data.handed_over import spread
from secateur.data.streaming import Fingerprint
from secateur.errors import UserError

KEPT = 256
"""Images of a stream whose adversarial examples are kept unless told otherwise."""
GRADED = 64
"""Images that the checks of the grade need, whatever is kept for the caller."""


@dataclass(frozen=True)
class Attacked:
    """A stream after its attack: the result of all images, and samples of them for the grade.

    ``last`` is one image of the stream, for its shape, levels and bounds; its classes are those of all.
    """

    result: AttackResult
    last: Dataset
    labels: list[int]
    index: list[int] | None
    fingerprint: str | None
    attacked: Sample
    any: Sample
    kept: int

    def keeping(self) -> AttackResult:
        """The result with the examples of ``kept`` attacked images, evenly spread, and a word about it."""
        images = self.attacked.chosen()
        images = [images[at] for at in spread(len(images), self.kept)] if images and self.kept else []
        count = int((~self.result.ori_success).sum())
        said = f"kept of {len(images)} of {count} attacked images, evenly spread"
        adv = [image.adv for image in images]
        return replace(
            self.result,
            adv=torch.stack(adv) if adv else self.last.x[:0].cpu(),
            kept=torch.tensor([image.number for image in images], dtype=torch.int64),
            search={**self.result.search, "examples": said},
        )


@dataclass
class _Run:
    """What is carried from part to part."""

    kept: int
    digest: Fingerprint
    parts: list[AttackResult] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    index: list[int] = field(default_factory=list)
    read: int = 0
    expected: int = 0
    last: Dataset | None = None

    def __post_init__(self) -> None:
        self.attacked, self.any = Sample(max(self.kept, GRADED)), Sample(GRADED)

    def enter(self, result: AttackResult, images: Dataset, start: int, places: list[int] | None) -> None:
        """Take what is asked of a part, and let go of its images."""
        for at in range(images.n):
            copy = partial(image_of, result, images, at, len(self.labels) + at)
            self.any.offer(copy)
            if not bool(result.ori_success[at]):
                self.attacked.offer(copy)
        self.index += [start + place for place in (range(images.n) if places is None else places)]
        self.labels += images.y.tolist()
        classes = max(images.classes, () if self.last is None else self.last.classes, key=len)
        self.last = replace(images, x=images.x[:1].clone(), y=images.y[:1].clone(), classes=classes)
        self.parts.append(without_images(result))


def attack_stream(
    network: nn.Module,
    stream: Stream,
    name: str,
    *,
    kept: int,
    batch_size: int,
    targets: Any,
    mask: Any,
    pixel_bounds: Any,
    on_progress: Tick | None,
    **settings: Any,
) -> Attacked:
    """Attack the parts of ``stream`` one after another; arguments are those of ``attack``.

    Raises:
        UserError: as ``run``; or targets, or bounds of pixels, for another number of images.
    """
    going, single = _Run(kept, Fingerprint(stream.rows)), isinstance(plain(targets), int)
    for part in stream:
        images, rows = with_outputs(part, network), slice(going.read, going.read + part.n)
        del part
        going.digest.add(images)
        going.read = rows.stop
        if single and bool((images.y == plain(targets)).all()):
            continue
        wanted = targets if single else _of_part("targets", targets, rows, 1)
        box = _box(images, rows, mask, pixel_bounds)
        images, goals, places = one_target(images, wanted)
        box = box.rows(torch.tensor(places)) if box and places else box
        result = run(
            network,
            images,
            name,
            batch_size=batch_size,
            targets=goals,
            pixel_bounds=None if box is None else box.pair,
            on_progress=_tick(going, stream, rows, on_progress),
            **settings,
        )
        # What did not fit once is not tried again.
        batch_size = result.search["batch_size"] if result.search["out_of_memory"] else batch_size
        going.enter(result, images, rows.start, places)
        # Two parts would be in memory while the next one is read.
        del images, box, result
    if going.last is None:
        raise UserError(f"all {going.read} images belong to class {plain(targets)} already")
    _of_all(going, None if single else targets, mask, pixel_bounds)
    whole = len(going.index) == going.read
    return Attacked(
        merged(going.parts),
        going.last,
        going.labels,
        None if whole else going.index,
        going.digest.value if whole else None,
        going.attacked,
        going.any,
        kept,
    )


def _box(images: Dataset, rows: slice, mask: Any, pixel_bounds: Any) -> Box | None:
    ndim = images.x.ndim
    if isinstance(pixel_bounds, list | tuple):
        pixel_bounds = [_of_part("a bound of the pixels", end, rows, ndim) for end in pixel_bounds]
    mask = _of_part("the mask", mask, rows, ndim)
    return box_of(images.x, images.bounds, mask=mask, pixel_bounds=pixel_bounds)


def _of_part(what: str, given: Any, rows: slice, ndim: int) -> Any:
    """What is given for every image, for those of a part; anything else as it is."""
    count = _per_image(given, ndim)
    if count is None:
        return given
    if count < rows.stop:
        raise UserError(f"{what} is for {count} images, the data have more", hint="give one for each")
    return torch.as_tensor(given)[rows]


def _of_all(going: _Run, targets: Any, mask: Any, pixel_bounds: Any) -> None:
    """Refuse what was given for more images than there are."""
    ndim = 1 if going.last is None else going.last.x.ndim
    ends = pixel_bounds if isinstance(pixel_bounds, list | tuple) else ()
    for what, given, rank in (
        ("targets", targets, 1),
        ("the mask", mask, ndim),
        *(("a bound of the pixels", end, ndim) for end in ends),
    ):
        count = _per_image(given, rank)
        if count is not None and count != going.read:
            raise UserError(
                f"{what} is for {count} images, the data have {going.read}", hint="give one for each"
            )


def _per_image(given: Any, ndim: int) -> int | None:
    """For how many images there is a value of their own; None where one holds for all."""
    if given is None:
        return None
    try:
        shape = torch.as_tensor(given).shape
    except (TypeError, ValueError, RuntimeError):
        return None  # refused where it is used
    alone = len(shape) != ndim or (ndim > 1 and shape[0] == 1)
    return None if alone else shape[0]


def _tick(going: _Run, stream: Stream, rows: slice, tick: Tick | None) -> Tick | None:
    """Progress of a part as that of all; where nobody knows how many images follow, of those read."""
    if tick is None:
        return None
    before = going.expected

    def told(done: int, total: int) -> None:
        going.expected = before + total
        known = max(1.0, (stream.rows or 0) / rows.stop)
        tick(before + done, round(known * (before + total)))

    return told
