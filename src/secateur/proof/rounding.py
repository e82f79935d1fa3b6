"""Fake quantisation in float64, where torch has it in narrower types only."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def per_channel(
    x: Tensor, scale: Tensor, zero_point: Tensor, axis: int, low: int, high: int, *settings: Any
) -> tuple[Tensor, Tensor]:
    """``x`` [..., C, ...] rounded to steps of ``scale`` [C] around ``zero_point`` [C], and what lay in range.

    Gradients pass what lies in range, as torch has it.

    >>> x = torch.tensor([[0.26, 9.0]], dtype=torch.float64)
    >>> per_channel(x, torch.tensor([0.5, 0.5]), torch.tensor([0, 0]), 1, -8, 7)[0]
    tensor([[0.5000, 3.5000]], dtype=torch.float64)
    """
    shape = [-1 if dim == axis % x.ndim else 1 for dim in range(x.ndim)]
    step, zero = scale.to(x.dtype).reshape(shape), zero_point.to(x.dtype).round().reshape(shape)
    position = (x.detach() / step).round() + zero
    inside = (position >= low) & (position <= high)
    rounded = (position.clamp(low, high) - zero) * step
    return torch.where(inside, x + (rounded - x).detach(), rounded), inside


_OPS = torch.ops.aten
WIDE: dict[Any, Callable[..., Any]] = {
    _OPS.fake_quantize_per_channel_affine_cachemask.default: per_channel,
    _OPS.fake_quantize_per_channel_affine.default: lambda *args: per_channel(*args)[0],
    _OPS._fake_quantize_learnable_per_channel_affine.default: lambda *args: per_channel(*args)[0],
}
"""Functions in place of operations that refuse float64."""
