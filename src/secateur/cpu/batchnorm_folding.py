"""Batch normalisation in evaluation mode as part of the convolution before it."""

from collections import Counter
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def fold_candidates(model: nn.Module, x: Tensor) -> list[tuple[str, str]]:
    """Names of convolutions and of the batch normalisations that take exactly what they answer.

    Found by running the model once on ``x`` and watching which tensor goes where; modules with hooks,
    parametrisations, a subclass' forward, or more than one call are left alone. Whether anything else reads
    the convolution's answer cannot be seen here: compare the folded model with the original one.
    """
    plain = {name: module for name, module in model.named_modules() if _plain(module)}
    if not any(type(module) in NORMS for module in plain.values()):
        return []
    answers: dict[int, tuple[str, Tensor]] = {}
    taken: list[tuple[str, str]] = []
    calls = Counter[str]()

    def watch(name: str) -> Any:
        def saw(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            calls[name] += 1
            if type(module) in CONVOLUTIONS:
                # Kept, so that its identity stays its own.
                answers[id(output)] = (name, output)
            elif id(inputs[0]) in answers:
                taken.append((answers[id(inputs[0])][0], name))

        return saw

    handles = [module.register_forward_hook(watch(name)) for name, module in plain.items()]
    try:
        with torch.no_grad():
            model(x)
    finally:
        for handle in handles:
            handle.remove()
    reads = Counter(convolution for convolution, _ in taken)
    return [
        (convolution, norm)
        for convolution, norm in taken
        if calls[convolution] == calls[norm] == reads[convolution] == 1
    ]


def fold(model: nn.Module, pairs: list[tuple[str, str]]) -> None:
    """Put each batch normalisation of ``pairs`` into its convolution, in place."""
    for convolution, norm in pairs:
        first, second = model.get_submodule(convolution), model.get_submodule(norm)
        fused = fuse_conv_bn_eval(cast(nn.Conv2d, first), cast(nn.BatchNorm2d, second))
        for name, module in ((convolution, fused), (norm, nn.Identity())):
            parent, _, attribute = name.rpartition(".")
            setattr(model.get_submodule(parent), attribute, module)


def is_plain(module: nn.Module) -> bool:
    """Whether nothing was put in the way of a layer: no hooks, parametrisations, or forward of its own."""
    hooked = module._forward_hooks or module._forward_pre_hooks or module._backward_hooks
    own = "forward" in vars(module) or torch.nn.utils.parametrize.is_parametrized(module)
    return not hooked and not own


def _plain(module: nn.Module) -> bool:
    if type(module) not in (*CONVOLUTIONS, *NORMS) or not is_plain(module):
        return False
    counted = type(module) in CONVOLUTIONS or getattr(module, "running_mean", None) is not None
    return counted and not hasattr(module, "weight_g")
