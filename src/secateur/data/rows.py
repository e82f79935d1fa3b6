"""Read images and labels row by row, or batch by batch, from anything that can be iterated."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from secateur.data.images import SAVE_OPAQUE, Transparent, pixels_of
from secateur.errors import UserError
from secateur.text import counted, first_line

Keys = tuple[str | int, str | int]
"""Names, or places, of the image and of the label in a row."""
IMAGES = ("image", "images", "img", "pixel_values", "x", "input", "inputs", "data", "features")
LABELS = ("label", "labels", "y", "target", "targets", "class", "fine_label")
"""Usual names; of several in one row the first counts."""
SPLITS = ("train", "training", "val", "validation", "valid", "test", "testing")


def columns_of(source: Mapping[Any, Any], keys: Keys | None) -> tuple[Any, Any, object]:
    """Images and labels of a dictionary of columns, and the key of the labels."""
    images, labels, key = _keyed(source, keys)
    return gathered(images), labels, key


def gathered(images: Any) -> Any:
    """A list of images as one array; an array as it is.

    Raises:
        UserError: images of different shapes, or no array of numbers.
    """
    if isinstance(images, list | tuple) and len(images):
        return _stacked([_array(each) for each in images])
    return images if isinstance(images, Tensor | np.ndarray) else _array(images)


def rows_of(
    source: Any, keys: Keys | None, *, limit: int | None, chosen: list[int] | None, most: int
) -> tuple[Any, Any, object]:
    """All images and labels of ``source``, or those of the indices ``chosen``, and the key of the labels.

    Raises:
        UserError: rows that are not an image and a label, images of different shapes, no rows at all, or more
            than ``most`` bytes of them as float32.
    """
    images: list[Any] = []
    labels: list[Any] = []
    held, label_key = 0, None
    for rows in batches_of(source, keys, chosen=chosen):
        images += rows.images
        labels += rows.labels
        label_key = rows.label_key
        held += rows.size
        if limit is not None and len(images) >= limit:
            break
        if held > most:
            raise UserError(
                f"the data hold more than {counted(len(images), 'image')}, {most // 2**30} GiB",
                hint=f"give a limit, as in secateur.data.of(loader, limit={min(len(images), 10_000)}); "
                "secateur.attack and secateur.decision.evaluate read a loader part by part",
            )
    return *stacked(images[:limit], labels[:limit]), label_key


@dataclass(frozen=True)
class Rows:
    """Images and labels as they were read, a batch or a single row, and the key of the labels."""

    images: list[Any]
    labels: list[Any]
    label_key: object

    @property
    def size(self) -> int:
        """Bytes of the images as float32."""
        return sum(4 * (x.size if isinstance(x, np.ndarray) else x.numel()) for x in self.images)


def batches_of(source: Any, keys: Keys | None, *, chosen: list[int] | None = None) -> Iterator[Rows]:
    """The rows of ``source``, or those of the indices ``chosen``, as it gives them.

    Raises:
        UserError: rows that cannot be read, or are not an image and a label.
    """
    batches = _batches(source, chosen)
    for row in _readable(_each(source, chosen)):
        image, label, label_key = _parts(row, keys)
        x = _array(image)
        many = _is_batch(x, label) if batches is None else batches
        yield Rows(list(x) if many else [x], list(label) if many else [label], label_key)


def stacked(images: list[Any], labels: list[Any]) -> tuple[Any, Any]:
    """Images and labels of rows as one array each.

    Raises:
        UserError: images of different shapes, or none.
    """
    if not images:
        raise UserError("the data have no rows", hint="is the loader or generator used up already?")
    return _stacked(images), _stacked_labels(labels)


def _each(source: Any, chosen: list[int] | None) -> Iterator[Any]:
    if chosen is not None:
        return (source[at] for at in chosen)
    if isinstance(source, Iterable):
        return iter(source)
    # An object that can be indexed need not say where it ends but by its length, or it only says so.
    return (source[at] for at in range(len(source))) if hasattr(source, "__len__") else iter(source)


def _readable(rows: Iterator[Any]) -> Iterator[Any]:
    """The rows; what a data set of the user's raises is said with the place of the row."""
    for at in count():
        try:
            row = next(rows)
        except StopIteration:
            return
        except (MemoryError, UserError):
            raise
        except Exception as error:
            raise UserError(
                f"row or batch {at} of the data cannot be read: {type(error).__name__}: "
                f"{first_line(error, '')}"
            ) from error
        yield row


def _parts(row: Any, keys: Keys | None) -> tuple[Any, Any, object]:
    if isinstance(row, Mapping):
        return _keyed(row, keys)
    if isinstance(row, tuple | list) and keys is not None:
        for key in keys:
            if not isinstance(key, int) or not -len(row) <= key < len(row):
                raise _no_key(key, dict(enumerate(row)))
        image, label = keys
        return row[image], row[label], None  # type: ignore[index]
    if isinstance(row, tuple | list) and len(row) == 2:
        return row[0], row[1], None
    parts = counted(len(row), "part") if isinstance(row, tuple | list) else f"of type {type(row).__name__}"
    raise UserError(
        f"a row of the data is {parts}, not an image and a label",
        hint="say which they are, as in secateur.data.of(source, keys=(0, 1))",
    )


def _keyed(row: Mapping[Any, Any], keys: Keys | None) -> tuple[Any, Any, object]:
    """Image and label of a row whose parts have names, and the name of the label."""
    image, label = keys or _usual(row)
    for key in (image, label):
        if key not in row:
            raise _no_key(key, row)
    return row[image], row[label], label


def _usual(row: Mapping[Any, Any]) -> Keys:
    found = [next((key for key in usual if key in row), None) for usual in (IMAGES, LABELS)]
    if found[0] is None or found[1] is None:
        if splits := [key for key in row if str(key).lower() in SPLITS]:
            raise UserError(
                f"the data are the splits {', '.join(map(str, row))}",
                hint=f"choose one, as in secateur.data.of(data[{splits[-1]!r}])",
            )
        raise UserError(
            f"a row of the data has {', '.join(map(str, row)) or 'nothing'}, "
            f"and it is not clear which is the {'image' if found[0] is None else 'label'}",
            hint="name both, as in secateur.data.of(source, keys=('image', 'label'))",
        )
    return found[0], found[1]


def _no_key(key: object, row: Mapping[Any, Any]) -> UserError:
    return UserError(f"a row of the data has no {key!r}", hint=f"it has {', '.join(map(str, row))}")


def _batches(source: Any, chosen: list[int] | None) -> bool | None:
    """Whether ``source`` gives batches; None where only what it gives can tell."""
    if isinstance(source, DataLoader):
        return source.batch_sampler is not None
    indexed = hasattr(source, "__len__") and hasattr(source, "__getitem__")
    return False if chosen is not None or (indexed and not isinstance(source, list | tuple)) else None


def _is_batch(x: Any, label: Any) -> bool:
    """Whether a row is a batch: as many labels as images."""
    listed = isinstance(label, list | tuple) or getattr(label, "ndim", 0) > 0
    return bool(listed and x.ndim >= 2 and len(label) == len(x))


def _array(image: Any) -> Any:
    if isinstance(image, Image.Image):
        try:
            found = pixels_of(image)
        except Transparent as error:
            raise UserError(f"a picture of the data {error}", hint=SAVE_OPAQUE) from None
        except ValueError as error:
            raise UserError(f"a picture of the data cannot be read: {error}") from None
        return found[None] if found.ndim == 2 else found.transpose(2, 0, 1)
    if isinstance(image, Tensor):
        return image.detach().cpu()
    if isinstance(image, list | tuple) and len(image) and isinstance(image[0], Image.Image | Tensor):
        return _stacked([_array(each) for each in image])
    try:
        return np.asarray(image)
    except ValueError as error:
        raise UserError(f"an image of the data is no array: {error}") from None


def _stacked(images: list[Any]) -> Any:
    if {tuple(image.shape)[:-2] for image in images} == {(1,), (3,)}:
        # Grey pictures among coloured ones.
        images = [image if len(image) == 3 else _grey_as_colour(image) for image in images]
    first = tuple(images[0].shape)
    for at, image in enumerate(images):
        if tuple(image.shape) != first:
            raise UserError(
                f"image {at} of the data has the shape {list(image.shape)}, image 0 {list(first)}",
                hint="give all images the same size and channels, for example with a transform",
            )
    if isinstance(images[0], Tensor):
        return torch.stack(images)
    return np.stack(images)


def _grey_as_colour(image: Any) -> Any:
    return image.expand(3, -1, -1) if isinstance(image, Tensor) else np.repeat(image, 3, axis=0)


def _stacked_labels(labels: list[Any]) -> Any:
    if isinstance(labels[0], Tensor):
        return torch.stack([each.detach().cpu() for each in labels])
    return np.asarray(labels)
