"""Norms of perturbations, their duals, and exact projections on their balls, per sample."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from secateur.budgets import L0_PIXELS, counts, norm_of, plain
from secateur.errors import UserError
from secateur.registry.settings import NORMS as NORMS

INF = float("inf")


def check_norm(p: float | str, allowed: Sequence[float] = NORMS) -> float:
    """``p``, a number or a word such as ``"Linf"``, as a float, one of those ``allowed``.

    Raises:
        UserError: any other norm.
    """
    p = norm_of(plain(p))
    if p not in allowed:
        *others, last = (f"{norm:g}" for norm in allowed)
        raise UserError(f"there is no norm '{p:g}' here", hint=f"choose {', '.join(others)} or {last}")
    return p


def per_sample(values: Tensor, like: Tensor) -> Tensor:
    """View ``values`` [N] so that it broadcasts over ``like`` [N, ...]."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def halvings(dtype: torch.dtype) -> int:
    """How often an interval is halved until it is shorter than the resolution of ``dtype`` at its upper end.

    25 for float32, 54 for float64. Fewer would cap what float64 can find: where the condition that is tested
    is an equality at a midpoint, rounding decides it, and the answers differ by the last interval.
    """
    return 2 - round(math.log2(torch.finfo(dtype).eps))


def distance(delta: Tensor, p: float) -> Tensor:
    """The p-norm of every sample of ``delta`` [N, ...], as [N]; p = 0 counts non-zero entries.

    ``L0_PIXELS`` counts the places of [N, C, ...] with a non-zero entry in any channel; rows of a table
    [N, D] have no channels, and their entries count.
    """
    # The same numbers as vector_norm's, several times faster on a CPU.
    if p == INF:
        return delta.flatten(1).abs().amax(1)
    if counts(p):
        changed = (delta != 0).any(1) if by_place(delta, p) else delta
        return changed.flatten(1).count_nonzero(1).to(delta.dtype)
    dims = tuple(range(1, delta.ndim))
    norms: Tensor = torch.linalg.vector_norm(delta, ord=p, dim=dims)
    return norms


def by_place(values: Tensor, p: float) -> bool:
    """Whether p counts the places of ``values`` [N, C, ...] and not each entry."""
    return p == L0_PIXELS and values.ndim > 2


def pooled(values: Tensor, p: float, *, largest: bool = False) -> Tensor:
    """The sum of ``values`` [N, C, ...] over the channels, or the ``largest``, [N, 1, ...].

    The values themselves where p does not count places.
    """
    if not by_place(values, p):
        return values
    return values.amax(1, keepdim=True) if largest else values.sum(1, keepdim=True)


def dual(p: float) -> float:
    """The q with 1/p + 1/q = 1, by which a linear function bounds its change inside a p-ball."""
    return {1.0: INF, 2.0: 2.0, INF: 1.0}[p]


def project(delta: Tensor, eps: Tensor, p: float) -> Tensor:
    """The nearest point (in L2) of each sample of ``delta`` [N, ...] inside the p-ball of radius ``eps`` [N].

    Inside the ball nothing moves. Ties of p = 0 keep exactly ``floor(eps)`` entries, the first ones in
    memory order of a contiguous sample; ``L0_PIXELS`` keeps as many whole pixels, those longest in L2. The
    box is not considered: project first, clip afterwards.
    """
    p = check_norm(p)
    if counts(p):
        return keep_top(delta, delta.square() if by_place(delta, p) else delta.abs(), eps, p=p)
    if p == 1:
        return _project_l1(delta, eps)
    if p == 2:
        tiny = torch.finfo(delta.dtype).tiny
        factor = (eps / distance(delta, 2.0).clamp_min(tiny)).clamp_max(1.0)
        return delta * per_sample(factor, delta)
    radius = per_sample(eps, delta)
    return torch.minimum(torch.maximum(delta, -radius), radius)


def keep_top(delta: Tensor, score: Tensor, count: Tensor, *, p: float = 0.0) -> Tensor:
    """``delta`` [N, ...] with all but the ``floor(count)`` [N] entries of highest ``score`` set to zero.

    Under ``L0_PIXELS`` whole pixels are kept, those of the highest sum. Ties keep the first ones in the order
    of a contiguous sample.
    """
    score = pooled(score, p)
    flat = score.flatten(1)
    # Selecting is several times faster than sorting, but needs the count as a number: a GPU would be synced.
    keep = _highest(flat, count.floor()) if flat.device.type == "cpu" else _first(flat, count.floor())
    return torch.where(keep.view(score.shape), delta, torch.zeros_like(delta))


def _first(score: Tensor, count: Tensor) -> Tensor:
    """Mask [N, D] of the ``count`` [N] highest entries of each row of ``score``, by a stable sort."""
    order = score.argsort(dim=1, descending=True, stable=True)
    ranks = torch.arange(order.shape[1], device=score.device).expand_as(order)
    return torch.zeros_like(order, dtype=torch.bool).scatter_(1, order, ranks < count.unsqueeze(1))


def _highest(score: Tensor, count: Tensor) -> Tensor:
    """As ``_first``, by selecting the lowest entry that is kept, of which there may be several."""
    count = count.clamp(0, score.shape[1]).long().unsqueeze(1)
    most = int(count.max())
    if not most:
        return torch.zeros_like(score, dtype=torch.bool)
    # A sort puts NaN before everything else.
    score = score.nan_to_num(torch.inf, torch.inf, -torch.inf)
    last = score.topk(most, dim=1).values.gather(1, (count - 1).clamp_min(0))
    keep = score >= last
    if bool((keep.sum(1, keepdim=True) != count).any()):
        tied, above = score == last, score > last
        left = count - above.sum(1, keepdim=True)
        keep = above | (tied & (tied.cumsum(1) <= left))
        keep &= count > 0
    return keep


def _project_l1(delta: Tensor, eps: Tensor) -> Tensor:
    # Duchi et al. 2008: soft-threshold by the tau at which what is left sums to eps.
    size = delta.abs().flatten(1)
    if size.device.type == "cpu":
        tau = _threshold(size, eps).unsqueeze(1)
    else:
        ordered = size.sort(dim=1, descending=True).values
        excess = ordered.cumsum(1) - eps.unsqueeze(1)
        count = torch.arange(1, size.shape[1] + 1, device=delta.device, dtype=delta.dtype)
        active = (ordered * count > excess).sum(1, keepdim=True).clamp_min(1)
        tau = (excess.gather(1, active - 1) / active).clamp_min(0.0)
    return torch.copysign((size - tau).clamp_min(0.0).view(delta.shape), delta)


def _threshold(size: Tensor, eps: Tensor) -> Tensor:
    """The tau [N] at which what is left of each row [N, D] of ``size`` sums to ``eps``; 0 inside the ball.

    Michelot 1986: the tau of everything is too small, what lies below it is left out, and so on until
    nothing changes. A few passes are much faster than sorting, but each would synchronise a GPU.
    """
    tau = ((size.sum(1) - eps) / size.shape[1]).clamp_min(0.0)
    while True:
        active = size > tau.unsqueeze(1)
        total = torch.where(active, size, 0.0).sum(1)
        higher = (total - eps) / active.sum(1).clamp_min(1)
        if not bool((higher > tau).any()):
            return tau
        tau = torch.maximum(tau, higher)


def project_boxed(delta: Tensor, eps: Tensor, p: float, *, low: Tensor, high: Tensor) -> Tensor:
    """The nearest point of each sample of ``delta`` [N, ...] in the p-ball of radius ``eps`` [N] and the box.

    ``low`` ≤ 0 ≤ ``high`` [N, ...] bound the perturbation. Clipping after ``project`` is feasible too, but
    for p = 1 and 2 it is not the nearest point: what the box takes from one pixel, others may use. Not for
    counts.
    """
    clipped = torch.minimum(torch.maximum(delta, low), high)
    if p == INF:
        return project(clipped, eps, p)

    def shrunk(share: Tensor) -> Tensor:
        level = per_sample(share, delta)
        if p == 2:
            return torch.minimum(torch.maximum(delta * level, low), high)
        soft = torch.copysign((delta.abs() - (1 - level) * peak).clamp_min(0.0), delta)
        return torch.minimum(torch.maximum(soft, low), high)

    peak = per_sample(delta.abs().flatten(1).amax(1), delta)
    small, large = torch.zeros_like(eps), torch.ones_like(eps)
    for _ in range(halvings(delta.dtype)):
        middle = (small + large) / 2
        fits = distance(shrunk(middle), p) <= eps
        small, large = torch.where(fits, middle, small), torch.where(fits, large, middle)
    inside = per_sample(distance(clipped, p) <= eps, delta)
    return torch.where(inside, clipped, shrunk(small))
