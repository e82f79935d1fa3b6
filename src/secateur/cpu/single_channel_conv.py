"""Faster input gradients for convolutions of one channel (grey images).

The library behind torch's convolutions on CPUs blocks channels; a single one leaves most of a block empty.

Measured on forward passes with input gradients at batches of 32 to 256, channels-last: 1.03 to 1.05 x for
``smallcnn`` on 28x28 images (contiguous 1.02 to 1.09 x); 0.97 to 1.01 x for ``resnet-tiny`` on 8x8 images.
Measure it here: ``python benchmarks/cpu.py --only single-channel``.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from secateur.cpu import enabled
from secateur.cpu.batchnorm_folding import is_plain


class SingleChannelConv2d(nn.Module):
    """A convolution of one channel whose backward pass is one matrix product and a sum of shifted windows.

    The weights get no gradients.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.convolution = convolution

    def forward(self, x: Tensor) -> Tensor:
        """The output of the convolution for images [N, 1, H, W]."""
        # Under autocast the output has another precision than the weights, and so has its gradient.
        if torch.is_autocast_enabled(x.device.type):
            return self.convolution(x)  # type: ignore[no-any-return]
        output: Tensor = _FoldedGradient.apply(x, self.convolution)  # type: ignore[no-untyped-call]
        return output


class _FoldedGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: nn.Conv2d) -> Tensor:
        ctx.size, ctx.layer = x.shape[2:], layer
        output: Tensor = layer(x)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,), layer = gradients, ctx.layer
        # [N, channels, positions], without a copy in either memory format.
        columns = gradient.permute(0, 2, 3, 1).flatten(1, 2).transpose(1, 2)
        windows = layer.weight.flatten(1).t() @ columns
        image = F.fold(
            windows,
            ctx.size,
            layer.kernel_size,
            dilation=layer.dilation,
            padding=layer.padding,
            stride=layer.stride,
        )
        return image, None


def is_single_channel(layer: nn.Module) -> bool:
    """Whether a layer is a plain ``Conv2d`` of one channel with zero padding; never with the switch off."""
    if not enabled() or type(layer) is not nn.Conv2d or layer.in_channels > 1 or not is_plain(layer):
        return False
    return not isinstance(layer.padding, str) and layer.padding_mode == "zeros"


def replace_single_channel_convs(model: nn.Module) -> None:
    """Replace every such layer inside ``model``, in place.

    >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3))
    >>> replace_single_channel_convs(model)
    >>> [type(layer).__name__ for layer in model]
    ['SingleChannelConv2d', 'Conv2d']
    """
    for parent in [*model.modules()]:
        for name, layer in parent.named_children():
            if is_single_channel(layer):
                setattr(parent, name, SingleChannelConv2d(layer))  # type: ignore[arg-type]
