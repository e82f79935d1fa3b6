"""Exact minimum distances of linear classifiers inside the box [0, 1], in float64."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

INF = float("inf")


def boxed_distance(w: np.ndarray, gap: float, x: np.ndarray, p: float) -> float:
    """The least p-norm of a δ with x + δ in the box that lowers w·x by ``gap`` > 0; inf if none does."""
    a = np.abs(w)
    cap = np.where(w > 0, x, 1 - x)
    if (a * cap).sum() < gap:
        return INF
    if p == 0:
        order = np.sort(a * cap)[::-1]
        return float(np.searchsorted(np.cumsum(order), gap * (1 - 1e-12)) + 1)
    if p == 1:
        order = np.argsort(-a)
        spent = np.cumsum(a[order] * cap[order])
        k = min(int(np.searchsorted(spent, gap)), len(a) - 1)
        before = spent[k - 1] if k else 0.0
        return float(cap[order][:k].sum() + (gap - before) / a[order][k])
    return _bisect(a, cap, gap, p)


def _bisect(a: np.ndarray, cap: np.ndarray, gap: float, p: float) -> float:
    def move(t: float) -> np.ndarray:
        return np.minimum(cap, t if p == INF else t * a)

    low, high = 0.0, 1.0
    while (a * move(high)).sum() < gap * (1 - 1e-13) and high < 1e12:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if (a * move(middle)).sum() < gap else (low, middle)
    return float(np.abs(move(high)).max() if p == INF else np.linalg.norm(move(high)))


@dataclass
class LinearCase:
    model: nn.Module
    x: torch.Tensor
    y: torch.Tensor

    def optimum(self, p: float, targets: torch.Tensor | None = None) -> np.ndarray:
        """The exact distance of every sample; 0 where it is wrong from the start."""
        weight = self.model[-1].weight.detach().double().numpy()
        bias = self.model[-1].bias.detach().double().numpy()
        flat = self.x.double().flatten(1).numpy()
        out = []
        for i, (x, y) in enumerate(zip(flat, self.y.tolist(), strict=True)):
            z = weight @ x + bias
            if targets is None:
                out.append(
                    min(
                        boxed_distance(weight[y] - weight[j], z[y] - z[j], x, p) if z[y] > z[j] else 0.0
                        for j in range(len(z))
                        if j != y
                    )
                )
            else:
                assert len(z) == 2, "the targeted optimum of more classes is not a minimum over planes"
                t = int(targets[i])
                out.append(boxed_distance(weight[y] - weight[t], z[y] - z[t], x, p))
        return np.array(out)


def linear_case(
    d: int, classes: int, n: int, *, seed: int, corners: bool = False, lift: float = 0.0
) -> LinearCase:
    """Gaussian weights whose planes meet in a random point of the box, so that every sample is feasible.

    ``corners`` puts most pixels on 0 or 1. ``lift`` raises the bias of class 0, by this multiple of the
    largest change the box allows: from 1 on, images of class 0 cannot be fooled.
    """
    g = torch.Generator().manual_seed(seed)
    weight = torch.randn(classes, d, generator=g)
    x = torch.rand(n, d, generator=g)
    if corners:
        x = torch.where(torch.rand(n, d, generator=g) < 0.8, x.round(), x)
    linear = nn.Linear(d, classes)
    with torch.no_grad():
        linear.weight.copy_(weight)
        linear.bias.copy_(-weight @ torch.rand(d, generator=g))
        linear.bias[0] += lift * (weight[0] - weight[1:]).abs().sum(1).max()
    model = nn.Sequential(nn.Flatten(), linear).eval()
    return LinearCase(model, x, model(x).argmax(1).detach())
