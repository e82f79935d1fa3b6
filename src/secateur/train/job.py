"""A training job: what is checked and built before the first step, and what changes from epoch to epoch."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from secateur.data import Dataset
from secateur.errors import UserError
from secateur.models import logits
from secateur.recipes import Recipe, check_adversary, problems
from secateur.text import first_line
from secateur.train.averaging import Average
from secateur.train.descent import Descent
from secateur.train.folded_copy import FoldedCopy, folded_copy
from secateur.train.history import Epoch
from secateur.train.losses import Penaliser
from secateur.train.moment import Moment

Tick = Callable[[int, int], None]

# oneDNN's gradient of 1x1 weights needs this many input channels where it strides over channels-last images.
ONEDNN_BLOCK = 16


@dataclass(frozen=True, eq=False)
class Job:
    """What stays the same during one training."""

    model: nn.Module
    train: Dataset
    validation: Dataset
    recipe: Recipe
    seed: int
    teacher: nn.Module | None
    optimiser: torch.optim.Optimizer
    average: Average | None
    penaliser: Penaliser | None
    tick: Tick | None
    channels_last: bool = False
    attacked: FoldedCopy | None = None
    """What the adversary attacks in place of the model."""
    taught: Tensor | None = None
    """The teacher's logits [N, K] of the images, where they are the same in every epoch."""
    before: int = 0
    """How many steps they cost, for the progress."""

    @property
    def device(self) -> torch.device:
        """The device of the images and the model."""
        return self.train.x.device


@dataclass
class State:
    """What changes from epoch to epoch, beside the model, the optimiser, the average and the penalty.

    Attributes:
        best: the weights of the best epoch.
        best_epoch: its number.
        best_score: its accuracy.
        epochs: the finished epochs.
        moment: where the epoch under way is; None between epochs, and while a step changes weights.
        parts: into how many parts a batch was split at most, because memory ran short.
        saved: finished epochs, and steps of the next, at the last checkpoint.
    """

    best: dict[str, Tensor]
    best_epoch: int = 0
    best_score: float = -math.inf
    epochs: list[Epoch] = field(default_factory=list)
    moment: Moment | None = None
    parts: int = 1
    saved: tuple[int, int] = (0, 0)


def check(model: nn.Module, train: Dataset, recipe: Recipe, *, seed: int, teacher: nn.Module | None) -> int:
    """Refuse what cannot be trained; the number of classes of the model.

    Raises:
        UserError: an impossible recipe or seed, a model without parameters to train, images or classes that
            do not fit the model or its teacher, a missing teacher, or a single image per batch under batch
            normalisation.
    """
    if found := problems(recipe):
        raise UserError(f"the recipe is impossible: {found[0]}")
    check_adversary(recipe, train.bounds)
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
    # The smallest part of a batch, as the loop splits images into batches and batches into parts.
    smallest = train.n // math.ceil(train.n / recipe.batch_size) // recipe.accumulate
    if smallest < 2 and any(isinstance(part, _BatchNorm) for part in model.modules()):
        raise UserError(
            "batch normalisation needs at least two images per batch",
            hint="raise batch_size, or use more images",
        )
    return classes


def prepare(
    model: nn.Module,
    train: Dataset,
    validation: Dataset,
    recipe: Recipe,
    *,
    seed: int,
    teacher: nn.Module | None,
    tick: Tick | None,
) -> Job:
    """Build what a training needs, on the device of ``model``."""
    device = next(model.parameters()).device
    images = train.to(device)
    # Before the optimiser, whose momentum takes over the memory format of the weights.
    last = channels_last(model, asked=recipe.channels_last)
    optimiser = Descent(
        [parameter for parameter in model.parameters() if parameter.requires_grad],
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
    )
    return Job(
        model=model,
        train=images,
        validation=validation.to(device),
        recipe=recipe,
        seed=seed,
        teacher=teacher.to(device) if teacher is not None and recipe.distillation is not None else None,
        optimiser=optimiser,
        average=Average(model, recipe.ema) if recipe.ema else None,
        penaliser=Penaliser(model, recipe.penalty, images.x[:2]) if recipe.penalty else None,
        tick=tick,
        channels_last=last,
        attacked=folded_copy(model, images.x, recipe, channels_last=last),
    )


def channels_last(model: nn.Module, *, asked: bool) -> bool:
    """Give ``model`` the channels-last format if it is ``asked`` for and safe; return whether it has it.

    On the CPU a network with a strided 1x1 convolution of fewer than 16 input channels, which strong pruning
    leaves in projection shortcuts, keeps its format: oneDNN writes beyond its workspace there, which gives
    wrong gradients or ends the process (github.com/uxlfoundation/oneDNN/issues/6035).
    """
    first = next(model.parameters(), None)
    on_cpu = first is None or first.device.type == "cpu"
    if not asked or (on_cpu and any(_narrow(part) for part in model.modules())):
        return False
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
    return True


def _narrow(part: nn.Module) -> bool:
    return (
        isinstance(part, nn.Conv2d)
        and part.kernel_size == (1, 1)
        and max(part.stride) > 1
        and part.in_channels // part.groups < ONEDNN_BLOCK
    )


def _classes(model: nn.Module, train: Dataset, role: str) -> int:
    try:
        classes = logits(model, train.x[:2]).shape[1]
    except RuntimeError as error:
        raise UserError(
            f"the {role} does not accept images of shape {list(train.shape)}: {first_line(error)}",
            hint="build it for the dataset's channels and size",
        ) from error
    if classes < train.num_classes:
        raise UserError(f"the {role} has {classes} classes, dataset '{train.name}' has {train.num_classes}")
    return classes
