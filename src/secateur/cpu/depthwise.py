"""Depthwise convolution of small images as a sum of shifted products.

In float64 torch runs channel by channel, with a cost for each that small images do not repay.

Measured on a forward pass with the input gradient, 3x3 kernels, batch 2: 1.55 x for 128 channels of 12x12,
2.4 x for 256 and 2.6 x for 384 of 6x6, 5.0 x for 640 of 3x3; 1.15 x for the whole ``verify`` of a MobileNetV2
on 96x96 images. On larger images and kernels torch is faster: 0.74 x for 48x48, 0.62 to 0.84 x for 7x7
kernels.
Measure it here: ``python benchmarks/cpu.py --only depthwise``.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor

from secateur.cpu import enabled

_FEW, _SMALL, _KERNEL = 8, 24 * 24, 9


def applies(args: tuple[Any, ...]) -> bool:
    """Whether the arguments of ``aten.convolution`` are a depthwise convolution that is faster here.

    That is one of more than 8 channels, images of at most 576 pixels, and kernels of at most 9 weights.

    >>> x, weight = torch.rand(1, 9, 5, 5), torch.rand(9, 1, 3, 3)
    >>> args = (x, weight, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 9)
    >>> applies(args), tuple(convolve(args).shape)
    (True, (1, 9, 3, 3))
    """
    if not enabled() or len(args) != 9 or args[6] or args[8] <= _FEW or not isinstance(args[1], Tensor):
        return False
    image, weight = args[:2]
    small = image[0, :1].numel() <= _SMALL and weight[0].numel() <= _KERNEL
    return bool(small and weight.shape[1] == 1 and args[8] == image.shape[1] and image.device.type == "cpu")


def convolve(args: tuple[Any, ...]) -> Tensor:
    """The convolution of those arguments, differentiable in image and weight."""
    image, weight, bias, stride, padding, dilation = args[:6]
    spatial = image.ndim - 2
    stride, padding, dilation = (
        list(item) * (spatial // len(item)) if len(item) < spatial else list(item)
        for item in (stride, padding, dilation)
    )
    times = weight.shape[0] // image.shape[1]
    wide = image.repeat_interleave(times, 1) if times > 1 else image
    padded = torch.nn.functional.pad(wide, [amount for size in reversed(padding) for amount in (size, size)])
    total: Tensor = _Shifts.apply(padded, weight, stride, dilation)  # type: ignore[no-untyped-call]
    return total if bias is None else total + bias.reshape((1, -1) + (1,) * spatial)


class _Shifts(torch.autograd.Function):
    """The sum over kernel positions of the shifted image times the weights at that position.

    Autograd of the slices would allocate a full image of zeros for the gradient of every shift.
    """

    @staticmethod
    def forward(ctx: Any, image: Tensor, weight: Tensor, stride: list[int], dilation: list[int]) -> Tensor:
        ctx.save_for_backward(image if ctx.needs_input_grad[1] else None, weight)
        ctx.shape, ctx.steps = image.shape, (stride, dilation)
        first, *others = _positions(weight)
        total = _shifted(image, weight, first, *ctx.steps) * _weights(weight, first)
        for place in others:
            total.addcmul_(_shifted(image, weight, place, *ctx.steps), _weights(weight, place))
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        image, weight = ctx.saved_tensors
        (gradient,) = gradients
        of_image = gradient.new_zeros(ctx.shape) if ctx.needs_input_grad[0] else None
        of_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        others = [dim for dim in range(gradient.ndim) if dim != 1]
        for place in _positions(weight):
            if of_image is not None:
                spot = _shifted(of_image, weight, place, *ctx.steps)
                spot.addcmul_(gradient, _weights(weight, place))
            if of_weight is not None:
                seen = _shifted(image, weight, place, *ctx.steps)
                of_weight[:, 0].movedim(0, -1)[place] = (gradient * seen).sum(others)
        return of_image, of_weight, None, None


def _positions(weight: Tensor) -> Iterator[tuple[int, ...]]:
    """All positions of the kernel."""
    return product(*(range(size) for size in weight.shape[2:]))


def _weights(weight: Tensor, place: tuple[int, ...]) -> Tensor:
    """The weight of each channel at a position of the kernel, as [1, C, 1, ...]."""
    return weight[:, 0].movedim(0, -1)[place].reshape((1, -1) + (1,) * len(place))


def _shifted(
    image: Tensor, weight: Tensor, place: tuple[int, ...], stride: Sequence[int], dilation: Sequence[int]
) -> Tensor:
    """The view of the image that a position of the kernel is multiplied with."""
    spots: list[slice] = [slice(None), slice(None)]
    for dim, at in enumerate(place):
        size = (image.shape[2 + dim] - dilation[dim] * (weight.shape[2 + dim] - 1) - 1) // stride[dim] + 1
        start = at * dilation[dim]
        spots.append(slice(start, start + stride[dim] * (size - 1) + 1, stride[dim]))
    return image[tuple(spots)]
