"""Loaders of more images than memory holds that are read more than once, and samples of them that fit."""

from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from typing import Any

import torch
from torch import Generator, Tensor

from secateur.data import handed_over
from secateur.data.dataset import Dataset, grey_bytes
from secateur.data.handed_over import Stream
from secateur.data.parts import Blocks, Parts
from secateur.data.streaming import stream, whole_or_stream
from secateur.errors import UserError


def reread(source: Any, *, name: str = "data") -> Dataset | Parts:
    """The images of ``source`` in memory, or as ``Parts`` where they take more than 4 GiB.

    Every reading of the parts iterates ``source`` anew, which has to give the same images each time.

    Args:
        source: whatever ``of`` reads, and ``Parts``, which are returned as they are.
        name: of the data set.

    Raises:
        UserError: as ``of``; more images than memory holds that can be read once only. Later, images that
            differ from those of the first reading.

    >>> reread((torch.rand(3, 1, 2, 2), [0, 1, 1])).n
    3
    """
    if isinstance(source, Parts):
        return source
    given = whole_or_stream(source, name=name, hold=True)
    if isinstance(given, Dataset):
        return given
    if isinstance(source, Stream | Iterator):
        raise UserError(
            f"the {name} images do not fit into memory and are needed several times, but a "
            f"{'stream' if isinstance(source, Stream) else type(source).__name__} can be read once",
            hint="give the loader itself, or a data set",
        )
    labels, seen, like = [], _Seen(), None
    for part in given:
        seen.add(part)
        labels.append(part.y.clone())
        classes = max(part.classes, () if like is None else like.classes, key=len)
        like = replace(part, x=part.x[:1].clone(), y=part.y[:1].clone(), classes=classes)
        del part
    if like is None:
        raise UserError("the data have no images")
    y, first = torch.cat(labels), seen.value

    def read(blocks: Blocks) -> Iterator[Dataset]:
        return _picked(_checked(source, name, y, first), blocks)

    return Parts(like, y, read, torch.arange(len(y)), first)


def within_memory(source: Any, *, name: str = "data", generator: Generator) -> Dataset:
    """The images of ``source``, or a random sample of 4 GiB where there are more, which ``remarks`` say.

    Args:
        source: whatever ``of`` reads; a stream is read once.
        name: of the data set.
        generator: for the sample.

    Raises:
        UserError: as ``of``.

    >>> within_memory((torch.rand(3, 1, 2, 2), [0, 1, 1]), generator=Generator()).n
    3
    """
    if isinstance(source, Parts):
        source = source.stream()
    given = whole_or_stream(source, name=name, hold=True)
    if isinstance(given, Dataset):
        return given
    kept: Dataset | None = None
    seen, classes = 0, tuple[str, ...]()
    for part in given:
        classes = max(part.classes, classes, key=len)
        if kept is None:
            room = max(1, handed_over.MOST // (4 * part.x[0].numel()))
            x, y = torch.empty(room, *part.shape), torch.empty(room, dtype=torch.int64)
            kept = replace(part, x=part.x[:1].clone(), y=part.y[:1].clone())
        for at in range(part.n):
            # Every image seen so far is in the sample with the same probability (Vitter's algorithm R).
            place = seen if seen < room else int(torch.randint(seen + 1, (), generator=generator))
            if place < room:
                x[place], y[place] = part.x[at], part.y[at]
            seen += 1
        del part
    if kept is None:
        raise UserError("the data have no images", hint="a stream can be read once")
    said = f"of {seen:,} {name} images a random sample of {room:,} is used: more do not fit into memory"
    remarks = (*kept.remarks, *((said,) if seen > room else ()))
    return replace(kept, x=x[:seen], y=y[:seen], classes=classes, remarks=remarks)


class _Seen:
    """What identifies images and their order, wherever parts end."""

    def __init__(self) -> None:
        self._pixels, self._labels = sha256(), sha256()

    def add(self, part: Dataset) -> None:
        for start in range(0, part.n, 4096):
            self._pixels.update(grey_bytes(part, slice(start, start + 4096)))
        self._labels.update(part.y.cpu().numpy().astype("<i8").tobytes())

    @property
    def value(self) -> str:
        return sha256(self._pixels.digest() + self._labels.digest()).hexdigest()


def _checked(source: Any, name: str, y: Tensor, first: str) -> Iterator[Dataset]:
    """The parts of ``source`` once more.

    Raises:
        UserError: they are not those of the first reading.
    """
    seen, at = _Seen(), 0
    other = UserError(
        f"the {name} images come in another order, or with other pixels, each time they are read",
        hint="no shuffle=True and no random transforms for images that are not trained on",
    )
    for part in stream(source, name=name):
        if not torch.equal(part.y, y[at : at + part.n]):
            raise other
        seen.add(part)
        at += part.n
        if at == len(y) and seen.value != first:
            raise other
        yield part
        del part
    if at != len(y):
        raise other


def _picked(parts: Iterator[Dataset], blocks: Blocks) -> Iterator[Dataset]:
    """The images at the places of each block, which rise."""
    part, first = next(parts), 0
    for places in blocks:
        found = []
        while places:
            while places[0] >= first + part.n:
                first += part.n
                # Two parts would be in memory while the next one is read.
                del part
                part = next(parts)
            inside = [place - first for place in places if place < first + part.n]
            found.append(part if len(inside) == part.n else part.take(inside))
            places = places[len(inside) :]
        if len(found) > 1:
            x, y = (torch.cat([getattr(each, what) for each in found]) for what in ("x", "y"))
            found = [replace(found[0], x=x, y=y, classes=max((p.classes for p in found), key=len))]
        yield found.pop()
