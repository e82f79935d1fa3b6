"""Adversarial examples for training: projected gradient descent (Madry et al. 2018, Zhang et al. 2019)."""

from dataclasses import replace

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from secateur.attacks.core.norms import distance, per_sample, project
from secateur.attacks.core.steps import descend, steepest_direction
from secateur.models import eval_mode
from secateur.recipes import Adversary

# Standard deviation of the start of TRADES, whose loss has no gradient at the clean image itself.
START = 0.001
JUDGE_STEPS = 10


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

    Steps of size ``adversary.step_size`` follow the gradient (its sign for norm inf, its direction for norm
    2) of the cross-entropy with ``y``, or for TRADES of the divergence from the clean prediction. They start
    at a random point: of the ball, or for TRADES close to ``x``; or at ``x`` if ``random_start`` is off. The
    model is in evaluation mode meanwhile, so its running statistics see no adversarial image.
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
            return -steepest_direction(gradient, adversary.norm)

        def clip(delta: Tensor) -> Tensor:
            return (x + delta).clamp(*bounds) - x

        delta = _start(x, adversary, generator) if adversary.random_start else torch.zeros_like(x)
        delta = descend(
            direction,
            clip(delta),
            steps=adversary.steps,
            step=adversary.step_size,
            project=lambda delta: clip(_project(delta, adversary)),
        )
    return (x + delta).clamp(*bounds)


def divergence(clean: Tensor, scores: Tensor) -> Tensor:
    """Sum over the batch of KL(clean ‖ softmax(scores)); ``clean`` holds log-probabilities [N, K]."""
    return F.kl_div(F.log_softmax(scores, 1), clean, reduction="sum", log_target=True)


def judge(adversary: Adversary) -> Adversary:
    """The adversary that validation uses: the recipe's own steps on the cross-entropy, but more than one.

    A network trained against one step can learn to fool that step alone (catastrophic overfitting, Wong et
    al. 2020), so it is judged by ten.
    """
    if adversary.steps > 1:
        return replace(adversary, method="madry")
    return replace(adversary, method="madry", steps=JUDGE_STEPS, step_size=adversary.epsilon / 4)


def _project(delta: Tensor, adversary: Adversary) -> Tensor:
    radius = torch.full((len(delta),), adversary.epsilon, dtype=delta.dtype, device=delta.device)
    return project(delta, radius, adversary.norm)


def _start(x: Tensor, adversary: Adversary, generator: Generator) -> Tensor:
    """Where the steps start, relative to ``x``; drawn on the CPU, so the same on any device."""
    if adversary.method == "trades":
        drawn = torch.randn(x.shape, generator=generator).mul_(START)
        return _project(drawn.to(x), adversary)
    if adversary.norm == float("inf"):
        drawn = torch.rand(x.shape, generator=generator).mul_(2).sub_(1)
        return drawn.to(x) * adversary.epsilon
    direction = torch.randn(x.shape, generator=generator)
    radius = torch.rand(x.shape[0], 1, 1, 1, generator=generator) ** (1 / x[0].numel())
    return (direction / per_sample(distance(direction, 2.0), x) * radius).to(x) * adversary.epsilon
