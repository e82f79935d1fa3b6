"""The statistics of batch normalisation, estimated anew."""

import torch
from torch import Generator, nn
from torch.nn.modules.batchnorm import _BatchNorm

from secateur.data import Dataset


def recalibrate(model: nn.Module, dataset: Dataset, *, generator: Generator, batch_size: int = 256) -> None:
    """Replace running means and variances by averages over ``dataset``, in place; no weight changes.

    After pruning, the statistics of the dense network describe channels that receive something else (Li et
    al. 2020, "EagleEye"). The images are shuffled by ``generator`` and taken in nearly equal batches, whose
    statistics count equally. Dropout and other layers stay in evaluation mode. A model without running
    statistics is left alone.
    """
    layers = [part for part in model.modules() if isinstance(part, _BatchNorm) and part.track_running_stats]
    if not layers:
        return
    modes = [(part, part.training) for part in model.modules()]
    momenta = [layer.momentum for layer in layers]
    model.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None
        layer.train()
    order = torch.randperm(dataset.n, generator=generator).to(dataset.x.device)
    try:
        with torch.no_grad():
            for batch in order.tensor_split(max(1, dataset.n // batch_size)):
                model(dataset.x[batch])
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        for part, mode in modes:
            part.training = mode
