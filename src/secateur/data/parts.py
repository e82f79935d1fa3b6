"""More images than memory holds, with known labels: pixels are read part by part, as often as asked."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from secateur.data import handed_over
from secateur.data.dataset import Dataset
from secateur.data.handed_over import Stream
from secateur.data.streaming import part_size, placed_error
from secateur.errors import UserError

Blocks = Iterable[list[int]]
"""Places of images, rising from the first block to the last."""


@dataclass(frozen=True, eq=False)
class Parts:
    """Labelled images that are not in memory.

    ``like`` is one of them: its name, shape, grey levels, bounds, classes and remarks are those of all. ``y``
    are the labels, ``read`` reads the images at given places, one data set per block, and ``places`` says
    which of the images that ``read`` knows are meant.

    >>> images = Dataset("toy", torch.rand(4, 1, 2, 2), torch.tensor([0, 1, 0, 1]))
    >>> parts = Parts(images.take([0]), images.y, lambda blocks: map(images.take, blocks), torch.arange(4))
    >>> parts.take([1, 3]).whole().y
    tensor([1, 1])
    """

    like: Dataset
    y: Tensor
    read: Callable[[Blocks], Iterator[Dataset]]
    places: Tensor
    fingerprint: str | None = None
    """Of all images, where it is known."""

    @property
    def n(self) -> int:
        """Number of images."""
        return len(self.y)

    @property
    def name(self) -> str:
        """Name of the data set."""
        return self.like.name

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one image."""
        return self.like.shape

    @property
    def levels(self) -> int | None:
        """Grey levels of the images."""
        return self.like.levels

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest pixel."""
        return self.like.bounds

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.like.classes

    @property
    def num_classes(self) -> int:
        """Number of classes, including those without images."""
        return len(self.like.classes)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What the source holds beside the images, one sentence each."""
        return self.like.remarks

    @property
    def size(self) -> int:
        """Bytes of all images as float32."""
        return 4 * self.n * self.like.x[0].numel()

    def take(self, indices: Tensor | Sequence[int]) -> "Parts":
        """The images at ``indices``, which rise; nothing is read yet."""
        where = torch.as_tensor(indices, dtype=torch.int64)
        return replace(self, y=self.y[where], places=self.places[where], fingerprint=None)

    def changed(self, change: Callable[[Dataset], Dataset]) -> "Parts":
        """The images as ``change`` makes them, for example scaled; it works on each image alone."""
        return replace(
            self, like=change(self.like), read=lambda blocks: map(change, self.read(blocks)), fingerprint=None
        )

    def stream(self) -> Stream:
        """All images, part by part; every call reads them anew."""
        return Stream(self.name, self._parts(), self.n)

    def whole(self) -> Dataset:
        """All images in memory."""
        x, at = torch.empty(self.n, *self.shape), 0
        for part in self._parts():
            x[at : at + part.n] = part.x
            at += part.n
            del part
        return replace(self.like, x=x, y=self.y.clone())

    def _parts(self) -> Iterator[Dataset]:
        places, size, seen = self.places.tolist(), part_size(4 * self.like.x[0].numel()), 0
        read = self.read(places[at : at + size] for at in range(0, self.n, size))
        while True:
            try:
                part = next(read, None)
            except UserError as error:
                raise placed_error(error, seen) from None
            if part is None:
                return
            seen += part.n
            # The remarks are those of all images and are told once.
            yield replace(part, remarks=self.remarks)
            # The part may not live on while the next one is read.
            del part


def fitting(images: Dataset | Parts) -> Dataset | Parts:
    """``images`` in memory where they take at most 4 GiB, such as a sample of many.

    >>> images = Dataset("toy", torch.rand(4, 1, 2, 2), torch.tensor([0, 1, 0, 1]))
    >>> parts = Parts(images.take([0]), images.y, lambda blocks: map(images.take, blocks), torch.arange(4))
    >>> type(fitting(parts)).__name__
    'Dataset'
    """
    return images.whole() if isinstance(images, Parts) and images.size <= handed_over.MOST else images


def handed(images: Dataset | Parts) -> Dataset | Stream:
    """``images`` as attacks and evaluations take them."""
    return images.stream() if isinstance(images, Parts) else images


def first_images(images: Dataset | Parts, count: int) -> Dataset:
    """The first images, as many as ``count`` if there are so many."""
    first = images.take(range(min(count, images.n)))
    return first.whole() if isinstance(first, Parts) else first


@dataclass(frozen=True)
class SplitReader:
    """Reads a split: called, all of it; ``parts`` as ``Parts`` where it takes more than so many bytes.

    ``parts`` may return None where there are fewer, or where the images can only be read at once.
    """

    read: Callable[[], Dataset]
    parts: Callable[[int], Parts | None]

    def __call__(self) -> Dataset:
        """All images."""
        return self.read()

    def changed(self, change: Callable[[Dataset], Dataset]) -> "SplitReader":
        """The same split with every image as ``change`` makes it."""

        def parts(most: int) -> Parts | None:
            found = self.parts(most)
            return None if found is None else found.changed(change)

        return SplitReader(lambda: change(self.read()), parts)
