"""What a targeted attack is to reach: one class per image, or one for all."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from secateur.budgets import plain
from secateur.data import Dataset
from secateur.data.dataset import numbered
from secateur.errors import UserError
from secateur.models import logits


def as_targets(targets: Any, dataset: Dataset) -> Tensor | None:
    """Wanted classes int64 [N]: of each image, or one for all.

    Raises:
        UserError: no whole numbers, or not one per image.

    >>> as_targets(1, Dataset("toy", torch.zeros(2, 3), torch.tensor([0, 0])))
    tensor([1, 1])
    """
    if targets is None:
        return None
    targets = plain(targets)
    if isinstance(targets, int) and not isinstance(targets, bool):
        return torch.full_like(dataset.y, targets)
    try:
        found = torch.as_tensor(targets)
    except (TypeError, ValueError, RuntimeError):
        shown = repr(targets)
        raise UserError(
            f"targets is {shown if len(shown) <= 60 else type(targets).__name__}",
            hint="give one class for all images, or one for each",
        ) from None
    if found.is_floating_point() or found.is_complex() or found.dtype == torch.bool:
        kind = str(found.dtype).removeprefix("torch.")
        raise UserError(f"targets are {kind}, not whole numbers", hint="a target is the number of a class")
    return found.to(torch.int64)


def with_outputs(dataset: Dataset, network: nn.Module) -> Dataset:
    """The data set with as many classes as the network has outputs, called by their numbers if it has fewer.

    >>> with_outputs(Dataset("toy", torch.zeros(2, 3), torch.tensor([0, 1])), nn.Identity()).classes
    ('0', '1', '2')
    """
    outputs = logits(network, dataset.x[:1]).shape[1]
    return dataset if outputs <= dataset.num_classes else replace(dataset, classes=numbered(outputs))


def one_target(
    dataset: Dataset, targets: Tensor | Sequence[int] | int | None
) -> tuple[Dataset, Tensor | None, list[int] | None]:
    """The images to attack, their targets, and their places where some are left out.

    With one class for all, the images of that class are left out: they cannot be attacked towards it.

    Raises:
        UserError: as ``as_targets``, or all images belong to the class.

    >>> images = Dataset("toy", torch.zeros(3, 2), torch.tensor([0, 1, 0]))
    >>> one_target(images, 1)[2]
    [0, 2]
    """
    found = as_targets(targets, dataset)
    single = isinstance(plain(targets), int)
    if found is None or not single:
        return dataset, found, None
    index = (dataset.y != found).nonzero().squeeze(1)
    if not len(index):
        raise UserError(f"all {dataset.n} images belong to class {plain(targets)} already")
    return dataset.take(index), found[index], None if len(index) == dataset.n else index.tolist()
