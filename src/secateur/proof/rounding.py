"""Operations in float64 that torch has in narrower types only: fake quantisation, products of experts."""

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


def grouped_product(
    rows: Tensor, experts: Tensor, offs: Tensor | None = None, bias: Tensor | None = None, **_: Any
) -> Tensor:
    """``rows`` [T, K] times ``experts`` [E, K, M], where expert ``e`` has the rows up to ``offs[e]``: [T, M].

    >>> rows, experts = torch.ones(3, 2), torch.tensor([[[1.0], [1.0]], [[2.0], [2.0]]])
    >>> grouped_product(rows, experts, torch.tensor([1, 3])).flatten()
    tensor([2., 4., 4.])
    """
    if offs is None or rows.ndim != 2 or experts.ndim != 3 or bias is not None:
        raise RuntimeError("a grouped product of this form has no counterpart in float64")
    starts = [0, *offs.tolist()]
    parts = [rows[start:end] @ one for start, end, one in zip(starts, starts[1:], experts, strict=False)]
    return torch.cat([*parts, rows.new_zeros(len(rows) - starts[-1], experts.shape[2])])


_OPS = torch.ops.aten
WIDE: dict[Any, Callable[..., Any]] = {
    _OPS.fake_quantize_per_channel_affine_cachemask.default: per_channel,
    _OPS.fake_quantize_per_channel_affine.default: lambda *args: per_channel(*args)[0],
    _OPS._fake_quantize_learnable_per_channel_affine.default: lambda *args: per_channel(*args)[0],
}
"""Functions in place of operations that refuse float64."""
if hasattr(_OPS, "_grouped_mm"):
    WIDE[_OPS._grouped_mm.default] = grouped_product
