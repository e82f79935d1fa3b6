"""Adversarial examples for training: projected gradient descent (Madry et al. 2018, Zhang et al. 2019)."""

from dataclasses import replace

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from secateur.attacks.core.gradients import mended
from secateur.attacks.core.norms import distance, per_sample, project
from secateur.attacks.core.steps import descend, steepest_direction
from secateur.models import eval_mode
from secateur.recipes import Adversary

# Standard deviation of the start of TRADES, whose loss has no gradient at the clean image itself.
START = 0.001
VALIDATION_STEPS = 10


def perturb(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    adversary: Adversary,
    generator: Generator,
    bounds: tuple[float, float] = (0.0, 1.0),
    start: Tensor | None = None,
) -> Tensor:
    """Images within ``adversary.epsilon`` of ``x`` [N, C, H, W] and within ``bounds`` that raise the loss.

    Steps of size ``adversary.step_size`` follow the gradient (its sign for norm inf, its direction for norm
    2) of the cross-entropy with ``y``, or for TRADES of the divergence from the clean prediction. They start
    at a random point of the ball, for TRADES close to ``x``, and without ``random_start`` at ``x``. The model
    is in evaluation mode, so that adversarial images do not change its running statistics. ``start``
    [N, C, H, W], relative to ``x``, replaces the point that ``generator`` would draw.

    >>> x, y = torch.full((2, 1, 2, 2), 0.5), torch.tensor([0, 1])
    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> adversary = Adversary(epsilon=0.1, step_size=0.05, steps=4)
    >>> adv = perturb(model, x, y, adversary=adversary, generator=torch.Generator().manual_seed(0))
    >>> round((adv - x).abs().max().item(), 3)
    0.1
    """
    with eval_mode(model):
        clean = None
        if adversary.method == "trades":
            with torch.no_grad():
                clean = F.log_softmax(model(x), 1)

        def direction(delta: Tensor) -> Tensor:
            delta = delta.detach().requires_grad_(True)
            scores = model(x + delta)
            loss = F.cross_entropy(scores, y, reduction="sum") if clean is None else divergence(clean, scores)
            (gradient,) = torch.autograd.grad(loss, delta)
            # The loop of the attacks lowers a loss; training raises it.
            return -steepest_direction(mended(gradient), adversary.norm)

        def clip(delta: Tensor) -> Tensor:
            return (x + delta).clamp(*bounds) - x

        if start is None:
            start = starting_points(x, adversary, generator)
        delta = descend(
            direction,
            clip(start),
            steps=adversary.steps,
            step=adversary.step_size,
            project=lambda delta: clip(_project(delta, adversary)),
        )
    return (x + delta).clamp(*bounds)


def divergence(clean: Tensor, scores: Tensor) -> Tensor:
    """Sum over the batch of KL(clean ‖ softmax(scores)); ``clean`` holds log-probabilities [N, K]."""
    return F.kl_div(F.log_softmax(scores, 1), clean, reduction="sum", log_target=True)


def for_validation(adversary: Adversary) -> Adversary:
    """The adversary of validation: the recipe's own steps on the cross-entropy, or ten if it takes only one.

    A network trained against one step can become robust to that step alone (catastrophic overfitting, Wong
    et al. 2020), which ten steps reveal.
    """
    if adversary.steps > 1:
        return replace(adversary, method="madry")
    return replace(adversary, method="madry", steps=VALIDATION_STEPS, step_size=adversary.epsilon / 4)


def _project(delta: Tensor, adversary: Adversary) -> Tensor:
    radius = torch.full((len(delta),), adversary.epsilon, dtype=delta.dtype, device=delta.device)
    return project(delta, radius, adversary.norm)


def starting_points(x: Tensor, adversary: Adversary, generator: Generator) -> Tensor:
    """Where the steps start, relative to ``x`` [N, C, H, W]; drawn on the CPU, so the same on any device.

    >>> x, generator = torch.zeros(2, 1, 4, 4), torch.Generator().manual_seed(0)
    >>> starting_points(x, Adversary(epsilon=0.1, step_size=0.05, steps=4), generator).abs().max() <= 0.1
    tensor(True)
    """
    if not adversary.random_start:
        return torch.zeros_like(x)
    if adversary.method == "trades":
        drawn = torch.randn(x.shape, generator=generator).mul_(START)
        return _project(drawn.to(x), adversary)
    if adversary.norm == float("inf"):
        drawn = torch.rand(x.shape, generator=generator).mul_(2).sub_(1)
        return drawn.to(x) * adversary.epsilon
    direction = torch.randn(x.shape, generator=generator)
    radius = torch.rand(x.shape[0], 1, 1, 1, generator=generator) ** (1 / x[0].numel())
    return (direction / per_sample(distance(direction, 2.0), x) * radius).to(x) * adversary.epsilon
