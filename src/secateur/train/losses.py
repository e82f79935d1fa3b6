"""What a batch costs under a recipe."""

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from secateur.data import Dataset
from secateur.models import accuracy, evaluating
from secateur.recipes import Recipe
from secateur.train.adversary import divergence, judge, perturb

EVALUATION_BATCH = 512


def objective(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    recipe: Recipe,
    *,
    generator: Generator,
    bounds: tuple[float, float],
    teacher: nn.Module | None = None,
) -> tuple[Tensor, Tensor]:
    """The mean loss to descend, and the logits [N, K] whose accuracy is reported.

    Without an adversary this is the cross-entropy on ``x``; with one, that on adversarial images (Madry et
    al. 2018), or the clean one and beta times the divergence (TRADES, Zhang et al. 2019, Eq. 5). Distillation
    mixes in the divergence from the teacher (Hinton et al. 2015).
    """
    shown = x
    if recipe.adversary is not None:
        shown = perturb(model, x, y, adversary=recipe.adversary, generator=generator, bounds=bounds)
    scores = model(shown)
    if recipe.adversary is not None and recipe.adversary.method == "trades":
        clean = model(x)
        away = divergence(F.log_softmax(clean, 1), scores) / len(x)
        loss = (
            F.cross_entropy(clean, y, label_smoothing=recipe.label_smoothing) + recipe.adversary.beta * away
        )
    else:
        loss = F.cross_entropy(scores, y, label_smoothing=recipe.label_smoothing)
    if recipe.distillation is not None and teacher is not None:
        heat, weight = recipe.distillation.temperature, recipe.distillation.weight
        with evaluating(teacher), torch.no_grad():
            taught = F.log_softmax(teacher(x) / heat, 1)
        loss = (1 - weight) * loss + weight * heat**2 * divergence(taught, scores / heat) / len(x)
    return loss, scores.detach()


def robust_accuracy(
    model: nn.Module, dataset: Dataset, recipe: Recipe, *, generator: Generator
) -> float | None:
    """The accuracy under the recipe's adversary as ``judge`` sees it, None without one."""
    if recipe.adversary is None:
        return None
    adversary = judge(recipe.adversary)
    batches = [
        perturb(model, x, y, adversary=adversary, generator=generator, bounds=dataset.bounds)
        for x, y in zip(
            torch.split(dataset.x, EVALUATION_BATCH), torch.split(dataset.y, EVALUATION_BATCH), strict=True
        )
    ]
    return accuracy(model, torch.cat(batches), dataset.y)
