"""The memory format of a training: channels last where it is asked for and safe."""

import torch
from torch import nn

# oneDNN's gradient of 1x1 weights needs this many input channels where it strides over channels-last images.
BLOCK = 16


def channels_last(model: nn.Module, *, asked: bool) -> bool:
    """Give ``model`` the channels-last format if it is ``asked`` for, and say whether it has it.

    On the CPU a network with a strided 1x1 convolution of fewer than 16 input channels, as strong pruning
    leaves them in projection shortcuts, stays as it is: oneDNN writes beyond its workspace there, which gives
    wrong gradients or ends the process (github.com/uxlfoundation/oneDNN/issues/6035).
    """
    first = next(model.parameters(), None)
    on_cpu = first is None or first.device.type == "cpu"
    if not asked or (on_cpu and any(_narrow(part) for part in model.modules())):
        return False
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
    return True


def _narrow(part: nn.Module) -> bool:
    return (
        isinstance(part, nn.Conv2d)
        and part.kernel_size == (1, 1)
        and max(part.stride) > 1
        and part.in_channels // part.groups < BLOCK
    )
