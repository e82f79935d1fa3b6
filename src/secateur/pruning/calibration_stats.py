"""Gradients and activations on a calibration batch, computed once per plan and on first use."""

from functools import cached_property

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from secateur.errors import UserError
from secateur.models import device_of, eval_mode

CHANNELS_LAST = (nn.Linear, nn.LayerNorm)


class CalibrationStats:
    """Statistics of a model on a labelled calibration batch, each computed on first use.

    The model runs in evaluation mode and is left unchanged; its parameters need not require gradients. For
    criteria that score robustness, pass adversarial images.

    Args:
        model: the network to be pruned.
        x: images [N, C, H, W].
        y: labels, int64 [N].
        batch_size: images per forward pass; the results do not depend on it beyond rounding.

    Raises:
        UserError: no images, or a different number of labels.

    >>> import torch
    >>> from secateur.models import build
    >>> stats = CalibrationStats(build("resnet-tiny"), torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 2, 3]))
    >>> stats.gradients["conv1.weight"].shape, stats.activations["conv1"].shape
    (torch.Size([16, 1, 3, 3]), torch.Size([16]))
    """

    def __init__(self, model: nn.Module, x: Tensor, y: Tensor, *, batch_size: int = 128) -> None:
        if len(x) == 0 or len(x) != len(y):
            raise UserError(
                f"the calibration batch has {len(x)} images and {len(y)} labels",
                hint="pass batch=(images, labels) with one label per image",
            )
        self.model = model
        self.x, self.y = x.to(device_of(model)), y.to(device_of(model))
        self.batch_size = batch_size

    @cached_property
    def gradients(self) -> dict[str, Tensor]:
        """Gradients of the mean cross-entropy, by parameter name."""
        parts = [
            self._gradient(x, y)
            for x, y in zip(
                torch.split(self.x, self.batch_size), torch.split(self.y, self.batch_size), strict=True
            )
        ]
        return {name: torch.stack([part[name] for part in parts]).sum(0) / len(self.x) for name in parts[0]}

    @cached_property
    def fisher(self) -> dict[str, Tensor]:
        """Mean squared per-image gradients by parameter name: the diagonal of the empirical Fisher matrix."""
        total: dict[str, Tensor] = {}
        # One image at a time: the square of a sum is not the sum of squares.
        for index in range(len(self.x)):
            for name, gradient in self._gradient(self.x[index, None], self.y[index, None]).items():
                square = gradient.square() / len(self.x)
                total[name] = total[name] + square if name in total else square
        return total

    @cached_property
    def activations(self) -> dict[str, Tensor]:
        """Mean absolute output per channel, float64 [channels], by name of layer with parameters."""
        sums: dict[str, Tensor] = {}
        counts: dict[str, int] = {}

        def watch(name: str, module: nn.Module, output: object) -> None:
            if not isinstance(output, Tensor) or output.ndim < 2:
                return
            dim = output.ndim - 1 if isinstance(module, CHANNELS_LAST) else 1
            others = [other for other in range(output.ndim) if other != dim]
            found = output.detach().double().abs().sum(others)
            sums[name] = sums[name] + found if name in sums else found
            counts[name] = counts.get(name, 0) + output.numel() // output.shape[dim]

        handles = [
            module.register_forward_hook(lambda module, _, output, name=name: watch(name, module, output))
            for name, module in self.model.named_modules()
            if next(module.parameters(recurse=False), None) is not None
        ]
        try:
            with eval_mode(self.model), torch.no_grad():
                for x in torch.split(self.x, self.batch_size):
                    self.model(x)
        finally:
            for handle in handles:
                handle.remove()
        return {name: found / counts[name] for name, found in sums.items()}

    def _gradient(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Gradients of the summed cross-entropy, by parameter name."""
        # Copies, because a frozen parameter has no gradient and the caller's .grad must not change.
        copies = {
            name: parameter.detach().clone().requires_grad_()
            for name, parameter in self.model.named_parameters()
        }
        with eval_mode(self.model), torch.enable_grad():
            loss = F.cross_entropy(functional_call(self.model, copies, (x,)), y, reduction="sum")
            found = torch.autograd.grad(loss, list(copies.values()), allow_unused=True)
        return {
            name: torch.zeros_like(copy) if gradient is None else gradient
            for (name, copy), gradient in zip(copies.items(), found, strict=True)
        }
