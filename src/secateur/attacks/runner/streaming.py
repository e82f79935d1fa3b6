"""Attack more images than memory holds: part by part, as they are read, with one result for all."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from secateur.attacks.core.box import Box, box_of
from secateur.attacks.runner.batching import Tick
from secateur.attacks.runner.classifier import classifier
from secateur.attacks.runner.goals import one_target, with_outputs
from secateur.attacks.runner.merging import Sample, image_of, merged, without_images
from secateur.attacks.runner.outputs import Logits
from secateur.attacks.runner.result import AttackResult
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


def result_of_stream(
    run: Callable[..., AttackResult],
    model: Callable[..., Any],
    stream: Stream,
    name: str,
    *,
    batch_size: int,
    logits: Logits,
    **settings: Any,
) -> AttackResult:
    """The result of ``attacks.run`` on a stream; see ``attack_stream``.

    Raises:
        UserError: as ``attack_stream``; a stream that has been read.
    """
    first, stream = begun(stream)
    network = classifier(model, first.x, logits=logits, batch_size=batch_size, data=first.name)
    # Nothing here may hold the first part while the others are read.
    del first
    found = attack_stream(
        run, network, stream, name, kept=KEPT, batch_size=batch_size, leave_out=False, **settings
    )
    return found.keeping()


def begun(stream: Stream) -> tuple[Dataset, Stream]:
    """The first part of a stream, and the stream with all parts.

    Raises:
        UserError: a stream that has been read.

    >>> from secateur.data import stream
    >>> first, whole = begun(stream((np.zeros((3, 2)), [0, 1, 0]), part=2))
    >>> first.n, [part.n for part in whole]
    (2, [2, 1])
    """
    first = next(stream.parts, None)
    if first is None:
        raise UserError("the data have no images", hint="a stream can be read once")
    return first, replace(stream, parts=chain((first,), stream.parts))


def attack_stream(
    run: Callable[..., AttackResult],
    network: nn.Module,
    stream: Stream,
    name: str,
    *,
    kept: int,
    batch_size: int,
    targets: Any,
    start: Any,
    mask: Any,
    pixel_bounds: Any,
    on_progress: Tick | None,
    leave_out: bool = True,
    **settings: Any,
) -> Attacked:
    """Attack the parts of ``stream`` one after another with ``run``; arguments are those of ``attack``.

    Args:
        run: attacks a data set, as ``attacks.run``.
        network: images to logits.
        stream: the images.
        name: of the attack.
        kept: images whose examples are kept.
        batch_size: as for ``run``, and so are the others.
        targets: with one class for all, its images are left out where ``leave_out`` says so.
        start: what has a shape [N, ...] or [R, N, ...] and gives rows, such as a memory-mapped array.
        mask: as for ``run``.
        pixel_bounds: as for ``run``.
        on_progress: as for ``run``.
        leave_out: see ``targets``.
        settings: as for ``run``.

    Raises:
        UserError: as ``run``; or targets, starting points or bounds of pixels for another number of images.
    """
    single = leave_out and isinstance(plain(targets), int)
    going = _Run(kept, Fingerprint(stream.rows))
    for part in stream:
        images, rows = with_outputs(part, network), slice(going.read, going.read + part.n)
        del part
        going.digest.add(images)
        going.read = rows.stop
        if single and bool((images.y == plain(targets)).all()):
            continue
        wanted = targets if single else _of_part("targets", targets, rows, 1)
        box = _box(images, rows, mask, pixel_bounds)
        points = _points(start, images, rows)
        images, goals, places = one_target(images, wanted) if leave_out else (images, wanted, None)
        if places:
            box = box and box.rows(torch.tensor(places))
            points = points[:, places] if isinstance(points, Tensor) else points
        result = run(
            network,
            images,
            name,
            batch_size=batch_size,
            targets=goals,
            start=points,
            pixel_bounds=None if box is None else box.pair,
            on_progress=_tick(going, stream, rows, on_progress),
            **settings,
        )
        # What did not fit once is not tried again.
        batch_size = result.search["batch_size"] if result.search["out_of_memory"] else batch_size
        going.enter(result, images, rows.start, places)
        # Two parts would be in memory while the next one is read.
        del images, box, points, result
    if going.last is None:
        raise UserError(f"all {going.read} images belong to class {plain(targets)} already")
    _of_all(going, None if single else targets, start, mask, pixel_bounds)
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


def _points(start: Any, images: Dataset, rows: slice) -> Any:
    """The starting points [R, n, ...] of a part; what has no rows as it is, for ``run`` to refuse."""
    count = _points_count(start, images.x.ndim)
    if count is None:
        return start
    if count < rows.stop:
        raise UserError(
            f"starting points are for {count} images, the data have more", hint="give them for each"
        )
    found = start[rows] if len(start.shape) == images.x.ndim else start[:, rows]
    # Of a memory-mapped array only these rows are copied.
    found = found if isinstance(found, Tensor) else torch.from_numpy(np.array(found))
    return found.unsqueeze(0) if found.ndim == images.x.ndim else found


def _points_count(start: Any, ndim: int) -> int | None:
    """For how many images there are starting points; None where that cannot be told."""
    shape = getattr(start, "shape", None)
    if shape is None or len(shape) not in (ndim, ndim + 1) or not hasattr(start, "__getitem__"):
        return None
    return int(shape[len(shape) - ndim])


def _of_part(what: str, given: Any, rows: slice, ndim: int) -> Any:
    """What is given for every image, for those of a part; anything else as it is."""
    count = _per_image(given, ndim)
    if count is None:
        return given
    if count < rows.stop:
        raise UserError(f"{what} is for {count} images, the data have more", hint="give one for each")
    return torch.as_tensor(given)[rows]


def _of_all(going: _Run, targets: Any, start: Any, mask: Any, pixel_bounds: Any) -> None:
    """Refuse what was given for more images than there are."""
    ndim = 1 if going.last is None else going.last.x.ndim
    ends = pixel_bounds if isinstance(pixel_bounds, list | tuple) else ()
    for what, count in (
        ("targets is", _per_image(targets, 1)),
        ("starting points are", _points_count(start, ndim)),
        ("the mask is", _per_image(mask, ndim)),
        *(("a bound of the pixels is", _per_image(end, ndim)) for end in ends),
    ):
        if count is not None and count != going.read:
            raise UserError(
                f"{what} for {count} images, the data have {going.read}", hint="give one for each"
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
