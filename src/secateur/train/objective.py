"""What a batch costs under a recipe."""

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from secateur.data import Dataset
from secateur.models import accuracy
from secateur.recipes import Recipe
from secateur.train.adversary import perturb

EVALUATION_BATCH = 512


def objective(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    recipe: Recipe,
    *,
    generator: Generator,
    bounds: tuple[float, float],
) -> tuple[Tensor, Tensor]:
    """The loss to descend, and the logits [N, K] whose accuracy is reported.

    With an adversary, the loss is that of its images instead of the clean ones (Madry et al. 2018).
    """
    if recipe.adversary is not None:
        x = perturb(model, x, y, adversary=recipe.adversary, generator=generator, bounds=bounds)
    scores = model(x)
    return F.cross_entropy(scores, y, label_smoothing=recipe.label_smoothing), scores.detach()


def robust_accuracy(
    model: nn.Module, dataset: Dataset, recipe: Recipe, *, generator: Generator
) -> float | None:
    """The accuracy under the recipe's adversary, None without one."""
    if recipe.adversary is None:
        return None
    batches = [
        perturb(model, x, y, adversary=recipe.adversary, generator=generator, bounds=dataset.bounds)
        for x, y in zip(
            torch.split(dataset.x, EVALUATION_BATCH), torch.split(dataset.y, EVALUATION_BATCH), strict=True
        )
    ]
    return accuracy(model, torch.cat(batches), dataset.y)
