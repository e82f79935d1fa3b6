"""What images say about a network: computed once per plan, shared by the criteria that ask for it."""

from functools import cached_property

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from secateur.errors import UserError
from secateur.models import eval_mode

CHANNELS_LAST = (nn.Linear, nn.LayerNorm)


class CalibrationStats:
    """Images with labels for one model, and what follows from them, on first use.

    The model is seen in evaluation mode and left as it was; its parameters need not require gradients. To
    score weights by their part in robustness, give adversarial images.

    Args:
        model: the network to be pruned.
        x: images [N, C, H, W].
        y: labels, int64 [N].
        batch_size: how many images at a time.

    Raises:
        UserError: no images, or another number of labels.
    """

    def __init__(self, model: nn.Module, x: Tensor, y: Tensor, *, batch_size: int = 128) -> None:
        if len(x) == 0 or len(x) != len(y):
            raise UserError(
                f"a criterion that looks at data needs images and labels, not {len(x)} and {len(y)}",
                hint="pass batch=(images, labels), a label for each image",
            )
        self.model = model
        device = next(model.parameters()).device
        self.x, self.y = x.to(device), y.to(device)
        self.batch_size = batch_size

    @cached_property
    def gradients(self) -> dict[str, Tensor]:
        """Of the mean cross-entropy, by name of parameter."""
        parts = [
            self._gradient(x, y)
            for x, y in zip(
                torch.split(self.x, self.batch_size), torch.split(self.y, self.batch_size), strict=True
            )
        ]
        return {name: torch.stack([part[name] for part in parts]).sum(0) / len(self.x) for name in parts[0]}

    @cached_property
    def fisher(self) -> dict[str, Tensor]:
        """Mean squared gradients of single images: the diagonal of the empirical Fisher matrix."""
        total: dict[str, Tensor] = {}
        for index in range(len(self.x)):
            for name, gradient in self._gradient(self.x[index, None], self.y[index, None]).items():
                square = gradient.square() / len(self.x)
                total[name] = total[name] + square if name in total else square
        return total

    @cached_property
    def activations(self) -> dict[str, Tensor]:
        """Mean absolute output per channel of every layer with parameters, by name, float64 [channels]."""
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
        """Of the summed cross-entropy, with respect to copies of the parameters."""
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
