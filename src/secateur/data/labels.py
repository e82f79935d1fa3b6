"""Labels of any type as class numbers, and the names of the classes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from secateur.errors import UserError


def class_numbers(labels: Any, n: int, classes: tuple[str, ...] | None, *, name: str) -> Tensor:
    """Labels as int64 [n]: whole numbers of any type, [n] or [n, 1], one-hot rows, or names of ``classes``.

    Raises:
        UserError: labels that are no class numbers, or not one per image.
    """
    if isinstance(labels, Tensor) and labels.is_meta:
        raise UserError(f"the labels of {name} are on the meta device, without numbers")
    array = labels.detach().cpu() if isinstance(labels, Tensor) else _array(labels, name)
    if isinstance(array, np.ndarray) and array.dtype.kind in "UO":
        return _by_name(array, classes, name)
    y = array if isinstance(array, Tensor) else torch.from_numpy(array)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim == 2 and len(y) == n:
        return _of_one_hot(y, name)
    if y.shape != (n,):
        raise UserError(
            f"the labels of {name} have the shape {list(y.shape)} for {n} images",
            hint="give one for each image",
        )
    if y.is_floating_point() and not bool((y == y.round()).all()):
        raise UserError(
            f"the labels of {name} are not whole numbers: {_first_odd(y)}",
            hint="a label is the number of a class, from 0",
        )
    numbers = y.to(torch.int64)
    if bool((numbers < 0).any()):
        at = int((numbers < 0).nonzero()[0])
        raise UserError(
            f"label {int(numbers[at])} of image {at} of {name} is no class",
            hint="test splits without labels use -1; labels -1 and 1 become 0 and 1 by (y + 1) // 2",
        )
    return numbers


def names_of(classes: int | Sequence[str] | None, source: Any, key: object) -> tuple[str, ...] | None:
    """The names of the classes, as given or as the source states them; None if neither does.

    Raises:
        UserError: neither a number of classes nor a list of names.
    """
    if isinstance(classes, bool | str | float):
        raise UserError(f"classes is {classes!r}", hint="give their number, or a list of their names")
    if isinstance(classes, int):
        if classes < 2:
            raise UserError(f"there are {classes} classes", hint="a classifier tells at least 2 apart")
        return None
    if isinstance(classes, Mapping):
        # Names to numbers, as image folders have them.
        classes = sorted(classes, key=classes.__getitem__)
    if classes is not None:
        return tuple(str(each) for each in classes)
    # Subsets and loaders hold the data set that knows its classes.
    for _ in range(8):
        features = getattr(source, "features", None)
        stated = getattr(source, "classes", None) or getattr(
            features.get(key) if isinstance(features, dict) else None, "names", None
        )
        if isinstance(stated, tuple | list) and len(stated) > 1:
            return tuple(str(each) for each in stated)
        source = getattr(source, "dataset", None)
    return None


def _array(labels: Any, name: str) -> np.ndarray:
    try:
        array = np.asarray(labels)
    except (TypeError, ValueError) as error:
        raise UserError(f"the labels of {name} are no array: {error}") from None
    if array.dtype.kind in "biuf":
        return array.astype(np.int64 if array.dtype.kind in "biu" else np.float64)
    if array.dtype.kind == "S":
        array = np.char.decode(array)
    if array.dtype.kind in "UO" and array.ndim == 1:
        if missing := [at for at, each in enumerate(array.tolist()) if each is None]:
            raise UserError(f"image {missing[0]} of {name} has no label", hint="leave such images out")
        return array
    raise UserError(
        f"the labels of {name} are {array.dtype}", hint="a label is the number of a class, from 0"
    )


def _by_name(array: np.ndarray, classes: tuple[str, ...] | None, name: str) -> Tensor:
    seen = sorted({str(each) for each in array.tolist()})
    if classes is None:
        few = ", ".join(map(repr, seen[:4]))
        raise UserError(
            f"the labels of {name} are names: {few}",
            hint=f"say which output of the network is which: classes=[{few}]",
        )
    if unknown := [each for each in seen if each not in classes]:
        raise UserError(
            f"label {unknown[0]!r} of {name} is not one of its classes", hint=f"they are {', '.join(classes)}"
        )
    return torch.tensor([classes.index(str(each)) for each in array.tolist()], dtype=torch.int64)


def _of_one_hot(y: Tensor, name: str) -> Tensor:
    ones = (y == 1).sum(1) == 1
    zeros = ((y == 0) | (y == 1)).all(1)
    if not bool((ones & zeros).all()):
        raise UserError(
            f"the labels of {name} are [{len(y)}, {y.shape[1]}], and not one-hot",
            hint="attacks need one class per image: y.argmax(1)",
        )
    return y.to(torch.uint8).argmax(1)


def _first_odd(y: Tensor) -> str:
    at = int((y != y.round()).nonzero()[0])
    return f"{float(y[at]):g}"
