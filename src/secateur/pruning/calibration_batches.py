"""A calibration batch of any form, in parts: single images, or the inputs of any network as a tree."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor

from secateur.errors import UserError
from secateur.graph.trace.input_tree import mapped, named_output, parts, tensors_in


def check_batch(x: Any, y: Tensor) -> None:
    """Refuse a batch without labels, or whose inputs do not have one row per label.

    Raises:
        UserError: always says how many there are.

    >>> import torch
    >>> check_batch({"ids": torch.zeros(3, 7), "causal": torch.ones(7, 7)}, torch.tensor([0, 1, 0]))
    """
    if not isinstance(y, Tensor) or y.ndim == 0:
        raise UserError("a calibration batch needs a tensor of labels", hint="pass batch=(images, labels)")
    found = [x] if isinstance(x, Tensor) else tensors_in(x)
    lengths = [len(tensor) if tensor.ndim else 0 for tensor in found]
    if len(y) == 0 or len(y) not in lengths:
        raise UserError(
            f"the calibration batch has {max(lengths, default=0)} images and {len(y)} labels",
            hint="pass batch=(images, labels) with one label per image",
        )


def rows_of(x: Any, count: int, rows: slice) -> Any:
    """These rows of the tensors that have ``count`` of them; others (a causal mask) stay whole.

    >>> import torch
    >>> part = rows_of({"ids": torch.zeros(3, 7), "causal": torch.ones(7, 7)}, 3, slice(0, 1))
    >>> [tuple(tensor.shape) for tensor in part.values()]
    [(1, 7), (7, 7)]
    """
    return mapped(lambda _, tensor: tensor[rows] if tensor.ndim and len(tensor) == count else tensor, x)


def in_parts(x: Any, count: int, bounds: Sequence[int]) -> list[Any]:
    """The inputs from each bound to the next.

    >>> import torch
    >>> [len(part) for part in in_parts(torch.zeros(5, 2), 5, [0, 2, 5])]
    [2, 3]
    """
    return [rows_of(x, count, slice(start, end)) for start, end in pairwise(bounds)]


def only_logits(result: Any, name: str | int | None) -> Tensor:
    """The output that the loss is computed from.

    Raises:
        UserError: the model has several outputs, and none was named.

    >>> import torch
    >>> only_logits({"logits": torch.zeros(1, 2), "loss": None}, "logits")
    tensor([[0., 0.]])
    """
    found = named_output(result, name)
    if isinstance(found, Tensor):
        return found
    if name is not None:
        raise UserError(f"the output {name!r} is {type(found).__name__}, not a tensor of logits")
    known = ", ".join(map(str, parts(found)))
    raise UserError(
        f"the criterion needs logits, and the model returns {type(found).__name__}",
        hint="name them, as in logits='logits'" + (f"; its outputs are: {known}" if known else ""),
    )
