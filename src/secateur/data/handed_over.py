"""Make a data set of what people have: arrays, loaders, and the data sets of other libraries."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, TensorDataset

from secateur.budgets import plain
from secateur.data.dataset import Dataset, numbered
from secateur.data.labels import class_numbers, names_of
from secateur.data.pictures import as_pixels
from secateur.data.rows import Keys, columns_of, gathered, rows_of
from secateur.errors import UserError
from secateur.kinds import is_whole

MOST = 2**32
"""Bytes of float32 images that are read at once without a limit."""


@dataclass(frozen=True, eq=False)
class Stream:
    """Labelled images that are read part by part, once and in order; see ``stream``.

    ``rows`` is the number of images where the source states it.

    >>> from secateur.data import stream
    >>> x = np.random.rand(10, 1, 4, 4)
    >>> [part.n for part in stream(((x[at : at + 1], [0]) for at in range(10)), part=4)]
    [4, 4, 2]
    """

    name: str
    parts: Iterator[Dataset]
    rows: int | None = None

    def __iter__(self) -> Iterator[Dataset]:
        return self.parts


def of(
    source: Any,
    *,
    name: str = "data",
    classes: int | Sequence[str] | None = None,
    keys: Keys | None = None,
    limit: int | None = None,
    levels: int | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
    channels_last: bool | None = None,
) -> Dataset:
    """Make a data set of ``(x, y)``, a loader, or a data set of another library; everything is read once.

    ``source`` is one of

    * a pair of arrays ``(x, y)``: tensors, NumPy arrays, or what NumPy can read,
    * a ``TensorDataset``, or any object with ``__len__`` and ``__getitem__``, such as those of torchvision,
    * a ``DataLoader``, or any other iterable of batches or of single rows,
    * rows or columns by name, such as a Hugging Face data set,
    * a ``Dataset``, which is returned as it is.

    Images may be pictures of Pillow, whole numbers (uint8, uint16: divided by their white, which sets
    ``levels``), or floating point within ``bounds``. Pictures and arrays [N, H, W, C] of 1 or 3 channels get
    their channels first, whole-number arrays [N, H, W] get one channel; other arrays keep their shape: tables
    [N, F], signals [N, C, L], volumes [N, C, D, H, W]. Labels are whole numbers of any type, one-hot rows,
    or the names in ``classes``.

    Args:
        source: see above.
        name: of the data set, in sentences and records.
        classes: their number, or their names in the order of the network's outputs; by default those that
            the source states, else the numbers up to the largest label.
        keys: names, or places, of image and label in a row; found by the usual names where it is left out.
        limit: read this many images only: evenly spread where rows can be chosen, else the first ones.
        levels: grey levels of floating-point images, for example 256 for ToTensor's.
        bounds: lowest and highest value of the images that the network takes.
        channels_last: whether arrays of four dimensions are [N, H, W, C], where their shape does not tell.

    Raises:
        UserError: nothing that holds images and labels, rows of different shapes, values outside the bounds,
            labels that are no classes, or more than 4 GiB of images without a ``limit``.

    >>> import numpy as np
    >>> images = of((np.zeros((2, 8, 8), np.uint8), np.array([0, 1], np.int16)), classes=("cat", "dog"))
    >>> images.shape, images.levels, images.y
    ((1, 8, 8), 256, tensor([0, 1]))
    """
    limit, classes = plain(limit), plain(classes)
    if limit is not None and not is_whole(limit, least=1):
        raise UserError(f"the limit is {limit!r}", hint="give a whole number of images, at least 1")
    if keys is not None and (isinstance(keys, str) or len(keys) != 2):
        raise UserError(f"keys is {keys!r}", hint="name image and label, as in keys=('image', 'label')")
    if isinstance(source, Dataset):
        return source if limit is None or limit >= source.n else source.take(spread(source.n, limit))
    if isinstance(source, Stream):
        raise UserError(
            "a stream is read part by part, and this needs all images at once",
            hint="give the loader itself: secateur.data.of(loader, limit=1000)",
        )
    images, labels, label_key = _read(source, keys, limit)
    listed = names_of(classes, source, label_key)
    reading = Reading(name, classes if isinstance(classes, int) else None, levels, bounds, channels_last)
    return without_repeats(dataset_of(images, labels, reading, listed), source)


def without_repeats(images: Dataset, loader: Any) -> Dataset:
    """``images``, unless every worker of the ``loader`` seems to have read all of them.

    Raises:
        UserError: of an ``IterableDataset`` with several workers at least half of the images are repeats. Its
            rows are then not shared among the workers, and every image would count several times.
    """
    workers = getattr(loader, "num_workers", 0)
    if isinstance(getattr(loader, "dataset", None), IterableDataset) and is_whole(workers, least=2):
        different = len(set(images.image_hashes()))
        if 2 * different <= images.n:
            raise UserError(
                f"the loader's {workers} workers give {images.n} images, and only {different} different ones"
                ", as where each worker reads them all",
                hint="share the rows among the workers (torch.utils.data.get_worker_info), or use one worker",
            )
    return images


@dataclass(frozen=True)
class Reading:
    """How arrays become a data set; see ``of``."""

    name: str
    classes: int | None = None
    levels: int | None = None
    bounds: tuple[float, float] = (0.0, 1.0)
    channels_last: bool | None = None


def dataset_of(images: Any, labels: Any, reading: Reading, listed: tuple[str, ...] | None) -> Dataset:
    """Arrays of images and labels as a data set; ``listed`` are the names of its classes, if it has any."""
    name = reading.name
    x, white = as_pixels(images, bounds=reading.bounds, channels_last=reading.channels_last, name=name)
    if not len(x):
        raise UserError(f"the data {name!r} have no images")
    y = class_numbers(labels, len(x), listed, name=name)
    named = listed or numbered(int(y.max()) + 1 if reading.classes is None else reading.classes)
    return Dataset(name, x, y, named, reading.levels if white is None else white + 1, reading.bounds)


def spread(n: int, count: int) -> list[int]:
    """``count`` of ``n`` indices, evenly spread from the first to the last."""
    return [round(float(at)) for at in torch.linspace(0, n - 1, min(count, n), dtype=torch.float64)]


def _read(source: Any, keys: Keys | None, limit: int | None) -> tuple[Any, Any, object]:
    """Images, labels, and the key of the labels where rows have names."""
    if isinstance(source, str | bytes) or source is None or isinstance(source, Tensor | np.ndarray):
        raise _unknown(source)
    if (columns := in_memory(source, keys)) is not None:
        x, y, label = columns
        return *_limited(x, y, limit), label
    indexed = hasattr(source, "__len__") and hasattr(source, "__getitem__")
    if not hasattr(source, "__getitem__") and not isinstance(source, Iterable):
        raise _unknown(source)
    choose = indexed and limit is not None and not isinstance(source, list | tuple)
    chosen = spread(len(source), limit) if choose and limit is not None else None
    return rows_of(source, keys, limit=limit, chosen=chosen, most=MOST)


def in_memory(source: Any, keys: Keys | None) -> tuple[Any, Any, object] | None:
    """Images, labels, and the key of the labels, of a source that has all of them as arrays; else None."""
    if isinstance(source, TensorDataset) and (keys is not None or len(source.tensors) == 2):
        source = dict(enumerate(source.tensors))
        keys = keys or (0, 1)
    if isinstance(source, tuple) and keys is not None and all(hasattr(each, "shape") for each in source):
        source = dict(enumerate(source))
    if is_pair(source):
        return gathered(source[0]), source[1], None
    return columns_of(source, keys) if isinstance(source, Mapping) else None


def is_pair(source: Any) -> bool:
    """Whether ``source`` is (x, y): a sequence of two, of which neither is a row."""
    if not isinstance(source, tuple | list) or len(source) != 2:
        return False
    first, second = source
    row = isinstance(first, tuple | Mapping) or isinstance(second, tuple | Mapping)
    listed = isinstance(source, list) and isinstance(first, list) and isinstance(second, list)
    return not row and not listed and all(hasattr(each, "__len__") for each in source)


def _limited(x: Any, y: Any, limit: int | None) -> tuple[Any, Any]:
    y = y if isinstance(y, Tensor | list | tuple) else np.asarray(y)
    if limit is None or limit >= len(x) or len(x) != len(y):
        return x, y
    chosen = spread(len(x), limit)
    return x[chosen], [y[at] for at in chosen] if isinstance(y, list | tuple) else y[chosen]


def _unknown(source: object) -> UserError:
    if isinstance(source, str):
        return UserError(
            f"the data are the text {source!r}", hint=f"secateur.data.load({source!r}) reads data by name"
        )
    alone = isinstance(source, Tensor | np.ndarray)
    kind = "images without labels" if alone else f"of type {type(source).__name__}"
    return UserError(
        f"the data are {kind}", hint="give (x, y), a loader, or a data set whose rows are image and label"
    )
