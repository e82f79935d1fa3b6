"""The records that the training loop works on."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from secateur.data import Dataset
from secateur.recipes import Recipe
from secateur.train.averaging import Average
from secateur.train.history import Epoch
from secateur.train.penalty import Penaliser

Tick = Callable[[int, int], None]


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

    @property
    def device(self) -> torch.device:
        """Where the images are, and the model."""
        return self.train.x.device


@dataclass
class State:
    """What changes from epoch to epoch, beside the model, the optimiser, the average and the penalty."""

    best: dict[str, Tensor]
    best_epoch: int = 0
    best_score: float = -math.inf
    epochs: list[Epoch] = field(default_factory=list)


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the model's state dict."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
