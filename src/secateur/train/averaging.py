"""Averages over a training: the moving average of the weights, and the statistics of batch normalisation."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Generator, Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from secateur.data import Dataset
from secateur.models import eval_mode


class Average:
    """Exponential moving averages of all floating-point parameters and buffers; counters are copied.

    The decay rises over the first steps: in step t it is min(decay, (1 + t) / (10 + t)), so that the random
    starting weights are soon forgotten.
    """

    # torch.optim.swa_utils.AveragedModel with this decay gives the same averages to the bit, but deep-copies
    # the model. That fails while masks of pruned weights are applied, whose weights are no leaf tensors.
    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.tensors: dict[str, Tensor] = weights_of(model)

    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights after ``step``, which counts from 1 over the whole training."""
        decay = min(self.decay, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, tensor in model.state_dict().items():
                if tensor.is_floating_point():
                    self.tensors[name].lerp_(tensor, 1 - decay)
                else:
                    self.tensors[name].copy_(tensor)

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Inside the ``with`` block, ``model`` has the averages as its weights."""
        own = weights_of(model)
        model.load_state_dict(self.tensors)
        try:
            yield
        finally:
            model.load_state_dict(own)


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the model's state dict."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def recalibrate(model: nn.Module, dataset: Dataset, *, generator: Generator, batch_size: int = 256) -> None:
    """Estimate the running statistics of batch normalisation on ``dataset``, in place; no weight changes.

    After pruning, the statistics are still those of the dense network, although the layers now receive other
    values (Li et al. 2020, "EagleEye"). The images are shuffled by ``generator`` and taken in nearly equal
    batches, whose statistics are averaged with equal weights. Dropout and other layers stay in evaluation
    mode. A model without running statistics is not changed.

    >>> import torch
    >>> from secateur.data import Dataset
    >>> norm = torch.nn.BatchNorm2d(1)
    >>> pixels = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1)
    >>> images = Dataset("two", pixels, torch.tensor([0, 1]), classes=("a", "b"), levels=None)
    >>> recalibrate(norm, images, generator=torch.Generator().manual_seed(0))
    >>> norm.running_mean
    tensor([0.5000])
    """
    layers = [part for part in model.modules() if isinstance(part, _BatchNorm) and part.track_running_stats]
    if not layers:
        return
    # torch.optim.swa_utils.update_bn gives the same statistics to the bit for models without dropout, but
    # puts the whole model in training mode: dropout then inflates the variances of the layers after it.
    momenta = [layer.momentum for layer in layers]
    order = torch.randperm(dataset.n, generator=generator).to(dataset.x.device)
    with eval_mode(model), torch.no_grad():
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None  # a plain average over the batches
            layer.train()
        try:
            for batch in order.tensor_split(max(1, dataset.n // batch_size)):
                model(dataset.x[batch])
        finally:
            for layer, momentum in zip(layers, momenta, strict=True):
                layer.momentum = momentum
