"""A copy of the network in training whose batch normalisation is folded, for its adversary to attack.

The adversary sees the network in evaluation mode, where batch normalisation is a scale and a shift: folded
into the convolution before it, both cost nothing. The weights change with every step of the optimiser, and
the copy is folded anew before each batch.

Measured on CPUs, seven steps of an adversary on a batch of 64: 1.42 x for ``resnet20`` and 1.43 x for
``resnet-tiny``; 1.08 x for ``preact-resnet18`` on 8 images, where only one of two can be folded.
Measure it here: ``python benchmarks/cpu.py --only adversary``.
"""

import copy
from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights

from secateur.cpu.batchnorm_folding import fold, fold_candidates
from secateur.cpu.channels_last import prefers_channels_last
from secateur.models import eval_mode
from secateur.recipes import Recipe

COMPARED = 4
"""Images on which the copy must answer as the network does before it is used."""
CLOSE = 1e-4
"""Largest difference of logits then, relative to the largest logit."""


class FoldedCopy:
    """A folded copy of ``model`` in evaluation mode; what is not folded it shares with the model."""

    def __init__(self, model: nn.Module, pairs: list[tuple[str, str]], *, channels_last: bool) -> None:
        self._copy = copy.deepcopy(model).eval()
        fold(self._copy, pairs)
        if channels_last:
            self._copy.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            self._copy.register_forward_pre_hook(_channels_last)
        # (ours, theirs, the norm folded into it), and (ours, theirs) of the layers that share their tensors.
        self._folded, self._shared = [], []
        for convolution, norm in pairs:
            own = self._copy.get_submodule(convolution).requires_grad_(False)
            self._folded.append((own, model.get_submodule(convolution), model.get_submodule(norm)))
        besides = {name for pair in pairs for name in pair}
        for name, layer in model.named_modules():
            if name not in besides and (layer._parameters or layer._buffers):
                self._shared.append((self._copy.get_submodule(name), layer))

    @torch.no_grad()
    def updated(self) -> nn.Module:
        """The copy with the present weights of the model."""
        for own, convolution, norm in self._folded:
            weight, bias = _fused(convolution, norm)
            own.get_parameter("weight").copy_(weight)
            own.get_parameter("bias").copy_(bias)
        for own, layer in self._shared:
            # The tensors themselves: what trains or averages them may put others in their place.
            own._parameters.update(layer._parameters)
            own._buffers.update(layer._buffers)
        return self._copy


def folded_copy(model: nn.Module, x: Tensor, recipe: Recipe, *, channels_last: bool) -> FoldedCopy | None:
    """The copy that the adversary of ``recipe`` attacks in place of ``model``; None where there is none.

    There is none if the recipe asks for none, if nothing can be folded, if the model cannot be copied, or if
    the copy does not answer to the first images of ``x`` as the model does.
    """
    if recipe.adversary is None or not recipe.adversary.fold:
        return None
    images = x[:COMPARED]
    try:
        with eval_mode(model):
            pairs = fold_candidates(model, images)
            if not pairs or not _alike(model, pairs, images):
                return None
        narrow = x.device.type == "cpu" and prefers_channels_last(model)
        return FoldedCopy(model, pairs, channels_last=x.ndim == 4 and (channels_last or narrow))
    except (RuntimeError, TypeError, ValueError, AttributeError, AssertionError):
        # It holds something that cannot be copied, or sets its own layers to training mode.
        return None


def _fused(convolution: nn.Module, norm: nn.Module) -> tuple[Tensor, Tensor]:
    first, second = cast(nn.Conv2d, convolution), cast(nn.BatchNorm2d, norm)
    mean, variance = cast(Tensor, second.running_mean), cast(Tensor, second.running_var)
    return fuse_conv_bn_weights(
        first.weight, first.bias, mean, variance, second.eps, second.weight, second.bias
    )


def _channels_last(_: nn.Module, images: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    # A single channel is contiguous in both formats, and only a copy has the strides of this one.
    return tuple(image.clone(memory_format=torch.channels_last) for image in images)


def _alike(model: nn.Module, pairs: list[tuple[str, str]], x: Tensor) -> bool:
    """Whether folding keeps the logits for ``x``, whatever the statistics of batch normalisation.

    Those of a network that is not trained yet would hide a second reader: there the layers change nothing.
    """
    probe = copy.deepcopy(model)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        for tensor, spread, centre in _statistics(probe, pairs):
            tensor.copy_(torch.rand(tensor.shape, generator=generator).sub_(0.5).mul_(spread).add_(centre))
        expected = probe(x)
        fold(probe, pairs)
        answer = probe(x)
    return bool((answer - expected).abs().amax() <= CLOSE * expected.abs().amax())


def _statistics(model: nn.Module, pairs: list[tuple[str, str]]) -> Iterator[tuple[Tensor, float, float]]:
    for _, name in pairs:
        norm = model.get_submodule(name)
        assert isinstance(norm, _BatchNorm)
        for tensor, centre in (
            (norm.running_mean, 0.0), (norm.running_var, 1.0), (norm.weight, 1.0), (norm.bias, 0.0),
        ):  # fmt: skip
            if tensor is not None:
                yield tensor, 0.5, centre
