"""Adversarial examples for training: projected gradient descent (Madry et al. 2018)."""

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from secateur.models import evaluating
from secateur.recipes import Adversary


def perturb(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    adversary: Adversary,
    generator: Generator,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> Tensor:
    """Images within ``adversary.epsilon`` of ``x`` [N, C, H, W] and within ``bounds`` that raise the loss.

    Steps of size ``adversary.step_size`` follow the gradient of the cross-entropy (its sign for norm inf, its
    direction for norm 2), starting at a random point of the ball unless ``random_start`` is off. The model is
    in evaluation mode meanwhile, so its running statistics see no adversarial image.
    """
    delta = torch.zeros_like(x)
    if adversary.random_start:
        delta = _random_point(x, adversary, generator)
    delta = (x + delta).clamp(*bounds) - x
    with evaluating(model):
        for _ in range(adversary.steps):
            delta.requires_grad_(True)
            loss = F.cross_entropy(model(x + delta), y, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, delta)
            with torch.no_grad():
                delta = _project(delta + adversary.step_size * _direction(gradient, adversary), adversary)
                delta = (x + delta).clamp(*bounds) - x
    return (x + delta.detach()).clamp(*bounds)


def _direction(gradient: Tensor, adversary: Adversary) -> Tensor:
    if adversary.norm == float("inf"):
        return gradient.sign()
    return gradient / _l2(gradient).clamp_min(1e-12)


def _project(delta: Tensor, adversary: Adversary) -> Tensor:
    if adversary.norm == float("inf"):
        return delta.clamp(-adversary.epsilon, adversary.epsilon)
    return delta * (adversary.epsilon / _l2(delta).clamp_min(1e-12)).clamp_max(1)


def _random_point(x: Tensor, adversary: Adversary, generator: Generator) -> Tensor:
    """Uniform in the ball; drawn on the CPU, so the same on any device."""
    if adversary.norm == float("inf"):
        drawn = torch.rand(x.shape, generator=generator).mul_(2).sub_(1)
        return drawn.to(x) * adversary.epsilon
    direction = torch.randn(x.shape, generator=generator)
    radius = torch.rand(x.shape[0], 1, 1, 1, generator=generator) ** (1 / x[0].numel())
    return (direction / _l2(direction) * radius).to(x) * adversary.epsilon


def _l2(t: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(t, dim=(1, 2, 3), keepdim=True)
    return norm
