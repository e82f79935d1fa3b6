"""Gradients and activations on a calibration batch, computed once per plan and on first use."""

from functools import cached_property
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from secateur.errors import UserError
from secateur.graph import Group
from secateur.graph.groups import Member
from secateur.graph.propagation import Tracer
from secateur.graph.trace.computed_weights import watched
from secateur.graph.trace.example_inputs import inputs_to_device
from secateur.graph.trace.input_tree import as_call, call_model
from secateur.models import device_of, eval_mode
from secateur.pruning.calibration_batches import check_batch, in_parts, only_logits, rows_of
from secateur.pruning.listening import labelled, mean_activations, places_of, said_in_words
from secateur.text import first_line

CHANNELS_LAST = (nn.Linear, nn.Bilinear, nn.LayerNorm, nn.RMSNorm, nn.Embedding)
CHANNELS_SECOND = (nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.PReLU)


class CalibrationStats:
    """Statistics of a model on a labelled calibration batch, each computed on first use.

    The model runs in evaluation mode and is left unchanged; its parameters need not require gradients. For
    criteria that score robustness, pass adversarial images.

    Args:
        model: the network to be pruned.
        x: images [N, C, H, W], or inputs of any form that ``trace`` takes, with N rows.
        y: labels, int64 [N], or what cross-entropy takes for the logits, such as [N, H, W].
        batch_size: images per forward pass; the results do not depend on it beyond rounding.
        logits: which of several outputs the loss is computed from, see ``trace``.

    Raises:
        UserError: no images, or a different number of labels.

    >>> import torch
    >>> from secateur.models import build
    >>> stats = CalibrationStats(build("resnet-tiny"), torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 2, 3]))
    >>> stats.gradients["conv1.weight"].shape, stats.activations["conv1"].shape
    (torch.Size([16, 1, 3, 3]), torch.Size([16]))
    """

    def __init__(
        self, model: nn.Module, x: Any, y: Tensor, *, batch_size: int = 128, logits: str | int | None = None
    ) -> None:
        check_batch(x, y)
        self.model = model
        self.x, self.y = inputs_to_device(x, device_of(model)), y.to(device_of(model))
        self.batch_size = batch_size
        self.logits = logits

    @cached_property
    def gradients(self) -> dict[str, Tensor]:
        """Gradients of the mean cross-entropy, by name of parameter, and of weight where one is computed."""
        labels = torch.split(self.y, self.batch_size)
        parts = [self._gradient(x, y) for x, y in zip(self._split, labels, strict=True)]
        return {name: torch.stack([part[name] for part in parts]).sum(0) / len(self.y) for name in parts[0]}

    @cached_property
    def fisher(self) -> dict[str, Tensor]:
        """Mean squared per-image gradients by parameter name: the diagonal of the empirical Fisher matrix."""
        total: dict[str, Tensor] = {}
        # One image at a time: the square of a sum is not the sum of squares.
        for index in range(len(self.y)):
            one = rows_of(self.x, len(self.y), slice(index, index + 1))
            for name, gradient in self._gradient(one, self.y[index, None]).items():
                square = gradient.square() / len(self.y)
                total[name] = total[name] + square if name in total else square
        return total

    @cached_property
    def activations(self) -> dict[str, Tensor]:
        """Mean absolute output per channel, float64 [channels], by name of layer.

        Layers are torch's own whose channels lie in a known dimension; ``activation_of`` knows others.
        """
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
            if isinstance(module, (*CHANNELS_LAST, *CHANNELS_SECOND))
        ]
        try:
            with said_in_words(), eval_mode(self.model), torch.no_grad():
                for x in self._split:
                    call_model(self.model, x)
        finally:
            for handle in handles:
                handle.remove()
        return {name: found / counts[name] for name, found in sums.items()}

    def activation_of(self, group: Group, member: Member) -> Tensor:
        """Mean absolute value of what a member's weight makes of activations; float64 [C].

        Raises:
            UserError: that cannot be read.
        """
        places = places_of(self.model, self._labelled, group, member)
        if not places:
            raise UserError(
                f"the criterion activation finds no value that {member.tensor} makes of activations",
                hint="exclude it with keep, or use another criterion",
            )
        tape = self._labelled.tape
        return mean_activations(self.model, tape, places, self._alike, size=group.size)

    @cached_property
    def _split(self) -> list[Any]:
        """The inputs in parts of ``batch_size``."""
        count = len(self.y)
        return in_parts(self.x, count, [*range(0, count, self.batch_size), count])

    @cached_property
    def _alike(self) -> list[Any]:
        """The inputs in parts of nearly equal size: a last part of one would run other operations."""
        count, pieces = len(self.y), ceil(len(self.y) / self.batch_size)
        size, rest = divmod(count, pieces)
        bounds = [size * number + min(number, rest) for number in range(pieces + 1)]
        return in_parts(self.x, count, bounds)

    @cached_property
    def _labelled(self) -> Tracer:
        return labelled(self.model, self._alike[0])

    def _gradient(self, x: Any, y: Tensor) -> dict[str, Tensor]:
        """Gradients of the summed cross-entropy, by name of parameter and of computed weight."""
        # Copies, because a frozen parameter has no gradient and the caller's .grad must not change.
        copies = {
            name: parameter.detach().clone().requires_grad_()
            for name, parameter in self.model.named_parameters()
        }
        with eval_mode(self.model), torch.enable_grad(), watched(self.model) as computed:
            with said_in_words():
                result = functional_call(self.model, copies, *as_call(x))
            loss = _cross_entropy(only_logits(result, self.logits), y)
            sought = [*copies.items(), *((name, one) for name, all_ in computed.items() for one in all_)]
            found = torch.autograd.grad(loss, [tensor for _, tensor in sought], allow_unused=True)
        gradients: dict[str, Tensor] = {}
        for (name, tensor), gradient in zip(sought, found, strict=True):
            own = torch.zeros_like(tensor) if gradient is None else gradient
            # A weight is computed once for every call of its layer.
            gradients[name] = gradients[name] + own if name in gradients else own
        return gradients


def _cross_entropy(outputs: Tensor, y: Tensor) -> Tensor:
    """The summed cross-entropy.

    Raises:
        UserError: outputs and labels do not fit.
    """
    try:
        return F.cross_entropy(outputs, y, reduction="sum")
    except (RuntimeError, ValueError, IndexError) as error:
        raise UserError(
            f"outputs of shape {tuple(outputs.shape)} and labels of shape {tuple(y.shape)} have no "
            f"cross-entropy: {first_line(error)}",
            hint="pass a label below the number of outputs for every image, and logits= for other outputs",
        ) from error
