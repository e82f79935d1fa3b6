"""Gradients by the images, with entries that are not finite mended one by one."""

import torch
from torch import Tensor

from secateur.attacks.core.norms import INF, distance, per_sample

LONGEST = 1e15
"""The largest entry that is left of a gradient whose length overflows."""


def input_gradient(loss: Tensor, x: Tensor, *, keep_graph: bool = False) -> Tensor:
    """The gradient [N, ...] of the sum of ``loss`` [N] by the images ``x`` [N, ...], ``mended``.

    >>> x = torch.tensor([[0.0, 0.25]], requires_grad=True)
    >>> input_gradient(x.sqrt().sum(1), x)  # the slope of a root is infinite at 0
    tensor([[1., 1.]])
    """
    return mended(torch.autograd.grad(loss.sum(), x, retain_graph=keep_graph)[0])


def mended(gradient: Tensor) -> Tensor:
    """``gradient`` [N, ...] with finite entries and lengths only; one that has them is returned as it is.

    An infinite slope, as that of a square root at 0, says where to go but not how steeply: it counts as the
    steepest finite one of its image, with its own sign, or as 1 where no other is known. NaN, zero times
    infinity, says nothing: 0. Where entries are finite and their length overflows, all of them are scaled.

    >>> mended(torch.tensor([[torch.inf, -2.0, torch.nan], [-torch.inf, 0.0, torch.nan]]))
    tensor([[ 2., -2.,  0.],
            [-1.,  0.,  0.]])
    """
    # One sum is much cheaper than looking at every entry, but a GPU would be waited for.
    if gradient.device.type == "cpu" and bool(torch.linalg.vector_norm(gradient).isfinite()):
        return gradient
    known = torch.where(gradient.isfinite(), gradient, 0.0)
    steepest = distance(known, INF)
    steepest = per_sample(torch.where(steepest > 0, steepest, 1.0), gradient)
    filled = torch.where(gradient.isinf(), torch.copysign(steepest, gradient), known)
    return torch.where(
        per_sample(distance(filled, 2.0), filled).isfinite(), filled, filled / steepest * LONGEST
    )
