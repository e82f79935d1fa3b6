"""Penalties that drive whole channels towards zero while a network is trained."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from secateur.errors import UserError
from secateur.graph import Group, trace
from secateur.recipes import Penalty

# Added under square roots, whose gradient is infinite at zero.
TINY = 1e-12


class Penaliser:
    """One penalty on one model; ``growing_reg`` has a state, which checkpoints must keep.

    Raises:
        UserError: the model has nothing that this penalty could act on.
    """

    def __init__(self, model: nn.Module, how: Penalty, example: Tensor) -> None:
        self.how = how
        self.scales = [
            part.weight
            for part in model.modules()
            if isinstance(part, _BatchNorm) and part.weight is not None
        ]
        self.groups: list[list[tuple[Tensor, int, Tensor, Tensor]]] = []
        self.sizes: list[int] = []
        if how.kind != "bn_scale":
            for group in trace(model, example).groups:
                self.groups.append(_places(group, model))
                self.sizes.append(group.size)
        if not (self.scales if how.kind == "bn_scale" else self.groups):
            wanted = "batch normalisation" if how.kind == "bn_scale" else "prunable groups"
            raise UserError(f"the penalty {how.kind} has nothing to act on: the model has no {wanted}")
        device = next(model.parameters()).device
        self.weights = [torch.full((size,), how.strength, device=device) for size in self.sizes]

    def loss(self) -> Tensor:
        """The penalty at the present weights, a scalar with gradients."""
        if self.how.kind == "bn_scale":
            return self.how.strength * torch.stack([scale.abs().sum() for scale in self.scales]).sum()
        terms = []
        for squares, weights in zip(self.squares(), self.weights, strict=True):
            if self.how.kind == "group_lasso":
                terms.append(self.how.strength * (squares + TINY).sqrt().sum())
            elif self.how.kind == "group_norm":
                factor = 2 ** (self.how.alpha * _smallness(squares.detach()))
                terms.append(self.how.strength / 2 * (factor * squares).sum())
            else:
                terms.append((weights * squares).sum() / 2)
        return torch.stack(terms).sum()

    def squares(self) -> list[Tensor]:
        """For each group, the squared norm of every channel over all parameters that go with it, [C]."""
        found = []
        for size, places in zip(self.sizes, self.groups, strict=True):
            total = torch.zeros(size, device=places[0][0].device)
            for parameter, dim, indices, channels in places:
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
        """What changes from epoch to epoch."""
        return {str(index): weights for index, weights in enumerate(self.weights)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take back what ``state`` gave."""
        for index, weights in enumerate(self.weights):
            weights.copy_(state[str(index)])


def _places(group: Group, model: nn.Module) -> list[tuple[Tensor, int, Tensor, Tensor]]:
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
