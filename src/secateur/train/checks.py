"""What can be known to be wrong before a training starts."""

import math

from torch import nn

from secateur.data import Dataset
from secateur.errors import UserError
from secateur.models import logits
from secateur.recipes import Recipe, problems


def check(model: nn.Module, train: Dataset, recipe: Recipe, *, seed: int, teacher: nn.Module | None) -> None:
    """Refuse what cannot be trained.

    Raises:
        UserError: an impossible recipe or seed, a model without parameters to train, images or classes that
            do not fit the model or its teacher, a missing teacher, or a single image per batch under batch
            normalisation.
    """
    if found := problems(recipe):
        raise UserError(f"the recipe is impossible: {found[0]}")
    if seed < 0:
        raise UserError(f"a seed must be 0 or more, not {seed}")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UserError("the model has no parameters to train")
    classes = _classes(model, train, "model")
    if recipe.distillation is not None:
        if teacher is None:
            raise UserError(
                "a recipe with distillation needs a teacher", hint="pass teacher=the dense network"
            )
        if (taught := _classes(teacher, train, "teacher")) != classes:
            raise UserError(f"the model has {classes} classes, its teacher {taught}")
    smallest = train.n // math.ceil(train.n / recipe.batch_size) // recipe.accumulate
    if smallest < 2 and any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in model.modules()):
        raise UserError(
            "batch normalisation needs at least two images per batch",
            hint="raise batch_size, or use more images",
        )


def _classes(model: nn.Module, train: Dataset, role: str) -> int:
    try:
        classes = logits(model, train.x[:2]).shape[1]
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"the {role} does not accept images of shape {list(train.shape)}: {reason}",
            hint="build it for the dataset's channels and size",
        ) from error
    if classes < train.num_classes:
        raise UserError(f"the {role} has {classes} classes, dataset '{train.name}' has {train.num_classes}")
    return classes
