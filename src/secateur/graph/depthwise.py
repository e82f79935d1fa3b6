"""Depthwise convolution as a sum of shifted products: torch's own float64 runs channel by channel."""

from itertools import product
from typing import Any

import torch
from torch import Tensor

_FEW = 8


def applies(args: tuple[Any, ...]) -> bool:
    """Whether the arguments of ``aten.convolution`` are a depthwise convolution of many channels."""
    if len(args) != 9 or args[6] or args[8] <= _FEW or not isinstance(args[1], Tensor):
        return False
    return bool(args[1].shape[1] == 1 and args[8] == args[0].shape[1] and args[0].device.type == "cpu")


def convolve(args: tuple[Any, ...]) -> Tensor:
    """The convolution, differentiable in image and weight."""
    image, weight, bias, stride, padding, dilation = args[:6]
    spatial = image.ndim - 2
    stride, padding, dilation = (
        list(item) * (spatial // len(item)) if len(item) < spatial else list(item)
        for item in (stride, padding, dilation)
    )
    times = weight.shape[0] // image.shape[1]
    wide = image.repeat_interleave(times, 1) if times > 1 else image
    padded = torch.nn.functional.pad(wide, [amount for size in reversed(padding) for amount in (size, size)])
    kernel = weight.shape[2:]
    sizes = [
        (padded.shape[2 + d] - dilation[d] * (kernel[d] - 1) - 1) // stride[d] + 1 for d in range(spatial)
    ]
    total: Tensor | None = None
    for place in product(*(range(size) for size in kernel)):
        view = padded
        for d, at in enumerate(place):
            start = at * dilation[d]
            view = view[
                (slice(None),) * (2 + d) + (slice(start, start + stride[d] * (sizes[d] - 1) + 1, stride[d]),)
            ]
        factor = weight[(slice(None), 0, *place)].reshape((1, -1) + (1,) * spatial)
        total = view * factor if total is None else total + view * factor
    assert total is not None
    return total if bias is None else total + bias.reshape((1, -1) + (1,) * spatial)
