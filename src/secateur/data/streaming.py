"""More images than memory holds: read part by part, in order, and forgotten again."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha256
from itertools import chain
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, TensorDataset

from secateur.budgets import plain
from secateur.data import handed_over
from secateur.data.dataset import Dataset, fingerprint_head, grey_bytes
from secateur.data.handed_over import Reading, Stream, dataset_of, in_memory, is_pair, of, without_repeats
from secateur.data.labels import names_of
from secateur.data.rows import Keys, Rows, batches_of, stacked
from secateur.errors import UserError
from secateur.kinds import is_whole

PART = 2**28
"""Bytes of float32 images of one part."""
LEAST = 16
"""Images of one part at least, however large they are."""

Piece = tuple[Any, Any, object]
"""Images and labels as arrays, and the key of the labels where rows have names."""


def stream(
    source: Any,
    *,
    name: str = "data",
    classes: int | Sequence[str] | None = None,
    keys: Keys | None = None,
    levels: int | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
    channels_last: bool | None = None,
    part: int | None = None,
) -> Stream:
    """The images of ``source`` part by part, for ``secateur.attack`` and ``secateur.decision.evaluate``.

    Args:
        source: whatever ``of`` reads; a memory-mapped array is copied part by part, too.
        name: as for ``of``, and so are ``classes``, ``keys``, ``levels``, ``bounds`` and ``channels_last``.
        classes: as for ``of``.
        keys: as for ``of``.
        levels: as for ``of``.
        bounds: as for ``of``.
        channels_last: as for ``of``.
        part: images of one part; by default as many as take 256 MiB as float32.

    Raises:
        UserError: as ``of``, when the part is read; or parts of different shapes or grey levels.

    >>> pairs = ((np.random.rand(5, 1, 4, 4), np.arange(5)) for _ in range(3))
    >>> [images.n for images in stream(pairs, classes=10, part=6)]
    [6, 6, 3]
    """
    part, classes = plain(part), plain(classes)
    if part is not None and not is_whole(part, least=1):
        raise UserError(f"part is {part!r}", hint="give a whole number of images, at least 1")
    if isinstance(source, Dataset):
        return Stream(source.name, _taken(source, part or part_size(4 * source.x[0].numel())), source.n)
    reading = Reading(name, classes if isinstance(classes, int) else None, levels, bounds, channels_last)
    columns = in_memory(source, keys)
    rows: int | None
    if columns is not None:
        pieces, rows = _sliced(*columns, part), len(columns[0])
    else:
        if isinstance(source, str | bytes | Tensor | np.ndarray) or not _has_rows(source):
            of(source)  # says why it cannot be read
        pieces, rows = _grouped(batches_of(source, keys), part), _stated(source)
    return Stream(name, _datasets(pieces, reading, partial(names_of, classes, source)), rows)


def whole_or_stream(
    source: Any, *, name: str = "data", most: int | None = None, hold: bool = False
) -> Dataset | Stream:
    """The images of ``source``: all at once, or as a ``Stream`` where they take more than ``most`` bytes.

    Args:
        source: whatever ``of`` reads, or a ``Stream``, which is returned as it is.
        name: of the data set.
        most: bytes as float32; 4 GiB by default.
        hold: whether so many bytes are also held of a loader that does not state its length; if not, it
            becomes a ``Stream`` as soon as it is longer than a part.

    >>> type(whole_or_stream([(np.random.rand(2, 1, 4, 4), [0, 1])])).__name__
    'Dataset'
    """
    most = handed_over.MOST if most is None else most
    if isinstance(source, Stream):
        return source
    whole = (Dataset, TensorDataset, Mapping, Tensor, np.ndarray, str, bytes)
    if isinstance(source, whole) or not _has_rows(source) or is_pair(source):
        return of(source, name=name)
    count, held = _stated(source), 0
    most = most if hold else _room(source, count, most)
    batches, read = batches_of(source, None), deque[Rows]()
    for batch in batches:
        read.append(batch)
        held += batch.size
        if max(held, (count or 0) * (batch.size // max(1, len(batch.images)))) > most:
            # What was read is let go of while the parts are made.
            again = chain((read.popleft() for _ in range(len(read))), batches)
            named = partial(names_of, None, source)
            return Stream(name, _datasets(_grouped(again, None), Reading(name), named), count)
    arrays = stacked([x for batch in read for x in batch.images], [y for each in read for y in each.labels])
    images = dataset_of(*arrays, Reading(name), names_of(None, source, read[-1].label_key))
    return without_repeats(images, source)


class Fingerprint:
    """The fingerprint of a data set of which only parts are in memory; it needs the number of images first.

    >>> images = of((np.random.rand(5, 1, 2, 2), [0, 1, 0, 1, 1]))
    >>> digest = Fingerprint(5)
    >>> for at in ([0, 1], [2, 3, 4]):
    ...     digest.add(images.take(at))
    >>> digest.value == images.fingerprint
    True
    """

    def __init__(self, rows: int | None) -> None:
        self._rows, self._seen = rows, 0
        self._digest = sha256()
        self._labels: list[bytes] = []

    def add(self, part: Dataset) -> None:
        """Go on with the next images."""
        if self._rows is None:
            return
        if not self._seen:
            self._digest.update(fingerprint_head(self._rows, part.shape, part.levels))
        self._seen += part.n
        for start in range(0, part.n, 4096):
            self._digest.update(grey_bytes(part, slice(start, start + 4096)))
        self._labels.append(part.y.cpu().numpy().astype("<i8").tobytes())

    @property
    def value(self) -> str | None:
        """The fingerprint; None where the number of images was not known, or was another."""
        if self._rows is None or self._seen != self._rows:
            return None
        digest = self._digest.copy()
        for labels in self._labels:
            digest.update(labels)
        return digest.hexdigest()


def _has_rows(source: Any) -> bool:
    return source is not None and (hasattr(source, "__getitem__") or isinstance(source, Iterable))


def _stated(source: Any) -> int | None:
    """The number of images, where the source knows it: of a loader, a list of batches does not count."""
    try:
        if not isinstance(source, DataLoader):
            rows = hasattr(source, "__getitem__") and not isinstance(source, list | tuple)
            return len(source) if rows else None
        if type(source.batch_sampler) is not BatchSampler or source.batch_size is None:
            return None
        count = len(source.sampler)  # type: ignore[arg-type]
        return count // source.batch_size * source.batch_size if source.drop_last else count
    except (TypeError, NotImplementedError):
        return None


def _room(source: Any, count: int | None, most: int) -> int:
    """Bytes that are read before the images are taken for too many to hold."""
    # A list holds its images anyway; a loader without a length may hold any number of them.
    return most if count is not None or isinstance(source, list | tuple) else min(most, PART)


def placed_error(error: UserError, seen: int) -> UserError:
    """An error of the images after the first ``seen`` ones, with their place."""
    where = f"among the images from number {seen} on: " if seen else ""
    said = f"{where}{error.message}"
    return UserError(said, hint=error.hint, command=error.command, code=error.code)


def part_size(each: int) -> int:
    """Images of a part, of ``each`` bytes: whole batches of the usual size where there is room.

    >>> part_size(4 * 3 * 224 * 224)
    256
    """
    count = max(LEAST, PART // max(1, each))
    return count if count < 256 else count // 256 * 256


def _taken(images: Dataset, size: int) -> Iterator[Dataset]:
    for at in range(0, images.n, size):
        yield images.take(range(at, min(at + size, images.n)))


def _sliced(x: Any, y: Any, label_key: object, part: int | None) -> Iterator[Piece]:
    size = part or part_size(4 * int(np.prod(x.shape[1:])))
    y = y if isinstance(y, Tensor | list | tuple) else np.asarray(y)
    if len(x) != len(y):
        yield x, y, label_key  # refused, with its shapes
    for at in range(0, len(x), size):
        yield x[at : at + size], y[at : at + size], label_key


def _grouped(batches: Iterator[Rows], part: int | None) -> Iterator[Piece]:
    """Rows in parts of equal numbers of images, wherever the batches begin and end."""
    images: list[Any] = []
    labels: list[Any] = []
    size, label_key, empty = part, None, True
    for batch in batches:
        images += batch.images
        labels += batch.labels
        label_key, empty = batch.label_key, False
        if size is None and images:
            size = part_size(batch.size // len(batch.images))
        while size is not None and len(images) >= size:
            yield *_cut(images, labels, size), label_key
    if images or empty:
        yield *stacked(images, labels), label_key


def _cut(images: list[Any], labels: list[Any], size: int) -> tuple[Any, Any]:
    """The first rows as arrays; the lists keep the others, and nothing else holds the rows."""
    found = stacked(images[:size], labels[:size])
    del images[:size], labels[:size]
    return found


def _datasets(
    pieces: Iterator[Piece], reading: Reading, named: Callable[[object], tuple[str, ...] | None]
) -> Iterator[Dataset]:
    """The pieces as data sets that are alike.

    Raises:
        UserError: what ``dataset_of`` refuses, with the number of the first image of the part; images of
            another shape or with other grey levels than those before.
    """
    first: tuple[tuple[int, ...], int | None] | None = None
    listed, seen = None, 0
    for images, labels, label_key in pieces:
        if first is None:
            listed = named(label_key)
        try:
            part = dataset_of(images, labels, reading, listed)
        except UserError as error:
            raise placed_error(error, seen) from None
        first = first or (part.shape, part.levels)
        seen += part.n
        yield _alike(part, *first, seen=seen - part.n)
        # Neither the arrays nor the part may live on while the next ones are read.
        del images, labels, part


def _alike(part: Dataset, shape: tuple[int, ...], levels: int | None, *, seen: int) -> Dataset:
    if part.x.ndim == 4 and part.shape[0] == 1 and shape == (3, *part.shape[1:]):
        # Grey pictures after coloured ones.
        part = replace(part, x=part.x.expand(-1, 3, -1, -1).contiguous())
    for what, one, other in (
        ("the shape", list(part.shape), list(shape)),
        ("grey levels", part.levels, levels),
    ):
        if one != other:
            raise UserError(
                f"the images from number {seen} on have {what} {one}, those before {other}",
                hint="give all images the same size, channels and type, for example with a transform",
            )
    return part
