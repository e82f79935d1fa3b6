"""What training minimises: the loss of a batch, and penalties that drive whole channels towards zero."""

from collections.abc import Mapping

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from secateur.data import Dataset
from secateur.errors import UserError
from secateur.graph import Group, trace
from secateur.models import accuracy, eval_mode
from secateur.recipes import Penalty, Recipe
from secateur.train.adversary import divergence, for_validation, perturb
from secateur.train.folded_copy import FoldedCopy

EVALUATION_BATCH = 512
# Added under square roots, whose gradient is infinite at zero.
TINY = 1e-12


def objective(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    recipe: Recipe,
    *,
    generator: Generator,
    bounds: tuple[float, float],
    teacher: nn.Module | None = None,
    taught: Tensor | None = None,
    start: Tensor | None = None,
    attacked: FoldedCopy | None = None,
) -> tuple[Tensor, Tensor]:
    """The mean loss of images ``x`` [N, C, H, W] with labels ``y`` [N], and their logits [N, K].

    Without an adversary the loss is the cross-entropy on ``x``; with one, the cross-entropy on adversarial
    images (Madry et al. 2018), or that on ``x`` plus beta times the divergence between the predictions on
    both (TRADES, Zhang et al. 2019, Eq. 5). Distillation mixes in the divergence from the teacher's
    predictions (Hinton et al. 2015); ``taught`` are its logits for ``x`` if they are known already. ``start``
    is that of :func:`perturb`; ``attacked`` is what the adversary attacks in place of ``model``.

    >>> import torch
    >>> x, y = torch.zeros(2, 1, 1, 4), torch.tensor([0, 1])
    >>> silent = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 10, bias=False))
    >>> loss, logits = objective(
    ...     silent, x, y, Recipe(), generator=torch.Generator().manual_seed(0), bounds=(0, 1)
    ... )
    >>> round(loss.item(), 4)  # log(10): every class is equally likely
    2.3026
    """
    shown = x
    if recipe.adversary is not None:
        shown = perturb(
            attacked.updated() if attacked is not None else model,
            x,
            y,
            adversary=recipe.adversary,
            generator=generator,
            bounds=bounds,
            start=start,
        )
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
        if taught is None:
            with eval_mode(teacher), torch.no_grad():
                taught = teacher(x)
        wanted = F.log_softmax(taught / heat, 1)
        # Softened logits have gradients smaller by the square of the temperature, which this factor undoes.
        loss = (1 - weight) * loss + weight * heat**2 * divergence(wanted, scores / heat) / len(x)
    return loss, scores.detach()


def robust_accuracy(
    model: nn.Module,
    dataset: Dataset,
    recipe: Recipe,
    *,
    generator: Generator,
    attacked: FoldedCopy | None = None,
) -> float | None:
    """The accuracy under the recipe's adversary for validation; None without an adversary.

    ``attacked`` is what the adversary attacks in place of ``model``, which alone is judged.
    """
    if recipe.adversary is None:
        return None
    adversary = for_validation(recipe.adversary)
    network = attacked.updated() if attacked is not None else model
    batches = [
        perturb(network, x, y, adversary=adversary, generator=generator, bounds=dataset.bounds)
        for x, y in zip(
            torch.split(dataset.x, EVALUATION_BATCH), torch.split(dataset.y, EVALUATION_BATCH), strict=True
        )
    ]
    return accuracy(model, torch.cat(batches), dataset.y)


class Penaliser:
    """One penalty on one model; ``growing_reg`` has a state, which checkpoints must keep.

    Raises:
        UserError: the model has no layer or group that this penalty acts on.
    """

    def __init__(self, model: nn.Module, how: Penalty, example: Tensor) -> None:
        self.how = how
        self.scales = [
            part.weight
            for part in model.modules()
            if isinstance(part, _BatchNorm) and part.weight is not None
        ]
        # By group: (parameter, dimension, indices along it, the channel of each index).
        self.groups: list[list[tuple[Tensor, int, Tensor, Tensor]]] = []
        self.sizes: list[int] = []
        if how.kind != "bn_scale":
            for group in trace(model, example).groups:
                self.groups.append(_slices(group, model))
                self.sizes.append(group.size)
        if not (self.scales if how.kind == "bn_scale" else self.groups):
            wanted = "batch normalisation" if how.kind == "bn_scale" else "prunable groups"
            raise UserError(f"the penalty {how.kind} has nothing to act on: the model has no {wanted}")
        device = next(model.parameters()).device
        self.weights = [torch.full((size,), how.strength, device=device) for size in self.sizes]

    def loss(self) -> Tensor:
        """The penalty at the current weights, a scalar with gradients."""
        if self.how.kind == "bn_scale":
            return self.how.strength * torch.stack([scale.abs().sum() for scale in self.scales]).sum()
        terms = []
        for squares, weights in zip(self.squares(), self.weights, strict=True):
            if self.how.kind == "group_lasso":
                terms.append(self.how.strength * (squares + TINY).sqrt().sum())
            elif self.how.kind == "group_norm":
                # Detached: the smallness weighs the norms, it is not itself minimised.
                factor = 2 ** (self.how.alpha * _smallness(squares.detach()))
                terms.append(self.how.strength / 2 * (factor * squares).sum())
            else:
                terms.append((weights * squares).sum() / 2)
        return torch.stack(terms).sum()

    def squares(self) -> list[Tensor]:
        """The squared norms [C] of the channels of each group, over all parameters removed with a channel."""
        found = []
        for size, slices in zip(self.sizes, self.groups, strict=True):
            total = torch.zeros(size, device=slices[0][0].device)
            for parameter, dim, indices, channels in slices:
                others = [other for other in range(parameter.ndim) if other != dim]
                per_index = parameter.square().sum(others) if others else parameter.square()
                total = total.index_add(0, channels, per_index[indices])
            found.append(total)
        return found

    def grow(self) -> None:
        """After an epoch: ``growing_reg`` raises the weight of each channel by its share of ``growth``."""
        if self.how.kind == "growing_reg":
            with torch.no_grad():
                for weights, squares in zip(self.weights, self.squares(), strict=True):
                    weights += self.how.growth * _smallness(squares)

    def state(self) -> dict[str, Tensor]:
        """The weight of every channel of every group, which only ``growing_reg`` changes."""
        return {str(index): weights for index, weights in enumerate(self.weights)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Load what ``state`` returned."""
        for index, weights in enumerate(self.weights):
            weights.copy_(state[str(index)])


def _slices(group: Group, model: nn.Module) -> list[tuple[Tensor, int, Tensor, Tensor]]:
    parameters = dict(model.named_parameters())
    return [
        (
            parameters[member.tensor],
            member.dim,
            torch.from_numpy(member.indices).to(parameters[member.tensor].device),
            torch.from_numpy(member.channels).to(parameters[member.tensor].device),
        )
        for member in group.members
        if member.tensor in parameters
    ]


def _smallness(squares: Tensor) -> Tensor:
    """0 for the largest channel of a group, 1 for the smallest; 0 for all if they are equal."""
    norms = squares.sqrt()
    largest, smallest = norms.max(), norms.min()
    return (largest - norms) / (largest - smallest + TINY)
