"""Exact minimum distances of linear classifiers inside the box [0, 1], in float64."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from secateur.budgets import counts

INF = float("inf")


def boxed_distance(w: np.ndarray, gap: float, x: np.ndarray, p: float) -> float:
    """The least p-norm of a δ with x + δ in the box that lowers w·x by ``gap`` > 0; inf if none does."""
    a = np.abs(w)
    cap = np.where(w > 0, x, 1 - x)
    if (a * cap).sum() < gap:
        return INF
    if counts(p):  # images are flat: without channels a pixel is a value
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
    while low < (middle := (low + high) / 2) < high:  # until no number is left between them
        low, high = (middle, high) if (a * move(middle)).sum() < gap else (low, middle)
    return float(np.abs(move(high)).max() if p == INF else np.linalg.norm(move(high)))


@dataclass
class LinearCase:
    model: nn.Module
    x: torch.Tensor
    y: torch.Tensor

    def planes(self, p: float) -> np.ndarray:
        """The exact distance [N, K] of every sample to beating its label with each other class."""
        weight = self.model[-1].weight.detach().double().numpy()
        z = self.x.double().flatten(1).numpy() @ weight.T + self.model[-1].bias.detach().double().numpy()
        out = np.full(z.shape, INF)
        for i, (x, y) in enumerate(zip(self.x.double().flatten(1).numpy(), self.y.tolist(), strict=True)):
            for j in set(range(z.shape[1])) - {y}:
                gap = z[i, y] - z[i, j]
                out[i, j] = boxed_distance(weight[y] - weight[j], gap, x, p) if gap > 0 else 0.0
        return out

    def optimum(self, p: float) -> np.ndarray:
        """The exact minimum distance [N]; inf where the box holds no adversarial point."""
        return self.planes(p).min(1)

    def reached(self, adv: torch.Tensor, planes: np.ndarray) -> np.ndarray:
        """The exact distance [N] to beating the label with the class that ``adv`` was given."""
        with torch.no_grad():
            classes = self.model(adv).argmax(1).numpy()
        return np.take_along_axis(planes, classes[:, None], 1)[:, 0]

    def rounding(self, adv: torch.Tensor, p: float) -> np.ndarray:
        """How much farther [N] an attack must go to be sure: success is claimed beyond rounding errors only.

        64 units in the last place of the largest logit, over the slope of the class that was reached.
        """
        with torch.no_grad():
            z = self.model(adv)
        weight = self.model[-1].weight.detach().double().numpy()
        slopes = weight[self.y.numpy()] - weight[z.argmax(1).numpy()]
        dual = np.linalg.norm(slopes, ord={1.0: INF, 2.0: 2.0, INF: 1.0}[p], axis=1)
        return 64 * torch.finfo(z.dtype).eps * z.abs().amax(1).double().numpy() / np.maximum(dual, 1e-12)


def linear_case(
    d: int, classes: int, n: int, *, seed: int, scale: float = 1.0, lift: float = 0.0
) -> LinearCase:
    """Gaussian weights whose planes meet in a random point of the box, so that every sample is feasible.

    Every other image has most of its pixels on 0 or 1. ``scale`` multiplies the logits. ``lift`` raises the
    bias of class 0, in units of the largest change the box allows: from 1 on, images of class 0 cannot be
    fooled.
    """
    g = torch.Generator().manual_seed(seed)
    weight = torch.randn(classes, d, generator=g)
    x = torch.rand(n, d, generator=g)
    corners = (torch.rand(n, d, generator=g) < 0.8) & (torch.arange(n) % 2 == 1).unsqueeze(1)
    x = torch.where(corners, x.round(), x)
    linear = nn.Linear(d, classes)
    with torch.no_grad():
        linear.weight.copy_(scale * weight)
        linear.bias.copy_(
            -scale * (weight * torch.rand(1 if classes == 2 else classes, d, generator=g)).sum(1)
        )
        linear.bias[0] += scale * lift * (weight[0] - weight[1:]).abs().sum(1).max()
    model = nn.Sequential(nn.Flatten(), linear).eval()
    return LinearCase(model, x, model(x).argmax(1).detach())
