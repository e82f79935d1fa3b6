"""When the channels-last memory format is the faster one for convolutions on CPUs.

Measured on forward passes with input gradients of networks already folded: 1.12 x for ``resnet20`` and 1.08 x
for ``resnet-tiny`` at batch 64, 1.04 x for ``smallcnn``. Wider networks do not gain: 1.02 x for ``resnet18``
and 0.82 x for ``vgg16-bn`` at batch 8.
Measure it here: ``python benchmarks/cpu.py --only channels-last``.
"""

from torch import nn

from secateur.cpu import enabled

NARROW = 64
"""Largest number of output channels at which channels-last was the faster format, see below."""


def prefers_channels_last(model: nn.Module) -> bool:
    """Whether every ``Conv2d`` of ``model`` is ungrouped and narrow; never with the switch off.

    >>> prefers_channels_last(nn.Conv2d(3, 64, 3)), prefers_channels_last(nn.Conv2d(3, 128, 3))
    (True, False)
    """
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    return enabled() and all(layer.groups == 1 and layer.out_channels <= NARROW for layer in layers)
