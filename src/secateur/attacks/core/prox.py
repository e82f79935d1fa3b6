"""Proximal operators of the norms in a diagonal metric: they shrink a perturbation and keep its signs."""

import torch
from torch import Tensor

from secateur.attacks.core.norms import INF, by_place, check_norm, distance, halvings, per_sample
from secateur.budgets import L0_PIXELS

SMALLER = 15
"""Halvings beyond the resolution of the upper end, so that a result of 2⁻¹⁵ of it is as exact."""


def shrink(delta: Tensor, metric: Tensor, weight: Tensor, *, p: float) -> Tensor:
    """The z [N, ...] that minimises ½ Σ mᵢ(zᵢ − δᵢ)² + w‖z‖ₚ, per sample.

    ``metric`` m [N, ...] and ``weight`` w [N] are positive. For p = 1, 2 and inf the answer is exact to the
    precision of a bisection. The count of p = 0 is replaced by the sum of the roots Σ|zᵢ|^½, whose operator
    (Xu et al. 2012) moves what it keeps less than p = 1 does; ``L0_PIXELS`` takes the roots of the lengths of
    pixels [N, C, ...] in L2, whose metric is the mean over their channels. No entry grows or changes its
    sign, so that a perturbation inside a box around the clean image stays there.
    """
    weight = weight.clamp_min(torch.finfo(delta.dtype).tiny)
    p = check_norm(p)
    operator = {0.0: _roots, 1.0: _sum, 2.0: _length, INF: _largest, L0_PIXELS: _roots}[p]
    if by_place(delta, p):
        operator = _pixel_roots
    return torch.copysign(operator(delta.abs(), metric, weight), delta)


def _sum(size: Tensor, metric: Tensor, weight: Tensor) -> Tensor:
    return (size - per_sample(weight, size) / metric).clamp_min(0.0)


def _roots(size: Tensor, metric: Tensor, weight: Tensor) -> Tensor:
    """The half-thresholding of Xu et al. 2012, for (z − s)² + v√z with v = 2w/m."""
    v = 2 * per_sample(weight, size) / metric
    kept = size > 54 ** (1 / 3) / 4 * v ** (2 / 3)
    angle = torch.acos((v / 8 * (size.clamp_min(1e-20) / 3) ** -1.5).clamp(-1.0, 1.0))
    root = 2 / 3 * size * (1 + torch.cos(2 * torch.pi / 3 - 2 / 3 * angle))
    return torch.where(kept, root, torch.zeros_like(size))


def _pixel_roots(size: Tensor, metric: Tensor, weight: Tensor) -> Tensor:
    length = distance(size.movedim(1, -1).flatten(0, -2), 2.0).view(len(size), 1, *size.shape[2:])
    left = _roots(length, metric.mean(1, keepdim=True), weight)
    return size * (left / length.clamp_min(torch.finfo(size.dtype).tiny))


def _length(size: Tensor, metric: Tensor, weight: Tensor) -> Tensor:
    # z = m s / (m + w/‖z‖) with r = ‖z‖ the root of ‖m s / (m r + w)‖ = 1; zero where ‖m s‖ ≤ w.
    low, high = torch.zeros_like(weight), distance(size, 2.0)
    pull = metric * size
    for _ in range(halvings(size.dtype) + SMALLER):
        middle = (low + high) / 2
        beyond = distance(pull / (metric * per_sample(middle, size) + per_sample(weight, size)), 2.0) > 1
        low, high = torch.where(beyond, middle, low), torch.where(beyond, high, middle)
    radius = per_sample(low, size)
    return pull * radius / (metric * radius + per_sample(weight, size))


def _largest(size: Tensor, metric: Tensor, weight: Tensor) -> Tensor:
    # Capped at the t with Σ m (s − t)₊ = w; zero where even all of it is not worth w.
    low, high = torch.zeros_like(weight), size.flatten(1).amax(1)
    for _ in range(halvings(size.dtype) + SMALLER):
        middle = (low + high) / 2
        worth = (metric * (size - per_sample(middle, size)).clamp_min(0.0)).flatten(1).sum(1) > weight
        low, high = torch.where(worth, middle, low), torch.where(worth, high, middle)
    return torch.minimum(size, per_sample(low, size))
