"""Convolutions of grey images, whose gradients by the image torch computes slowly on CPUs."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from secateur.cpu.batchnorm_folding import is_plain


class GreyConvolution(nn.Module):
    """A convolution of one channel; its backward pass is one matrix product and a sum of shifted windows.

    The library behind torch's convolutions on CPUs is made for many channels. The weights get no gradients.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.convolution = convolution

    def forward(self, x: Tensor) -> Tensor:
        """What the convolution answers."""
        answer: Tensor = _Windows.apply(x, self.convolution)  # type: ignore[no-untyped-call]
        return answer


class _Windows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: nn.Conv2d) -> Tensor:
        ctx.size, ctx.layer = x.shape[2:], layer
        answer: Tensor = layer(x)
        return answer

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


def is_grey(layer: nn.Module) -> bool:
    """Whether a layer is a plain convolution of one channel, with zeros around the image."""
    if type(layer) is not nn.Conv2d or layer.in_channels > 1 or not is_plain(layer):
        return False
    return not isinstance(layer.padding, str) and layer.padding_mode == "zeros"


def quicken(model: nn.Module) -> None:
    """Give every such layer inside a network the faster backward pass, in place."""
    for parent in [*model.modules()]:
        for name, layer in parent.named_children():
            if is_grey(layer):
                setattr(parent, name, GreyConvolution(layer))  # type: ignore[arg-type]
