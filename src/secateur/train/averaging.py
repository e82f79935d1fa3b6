"""The exponential moving average of a model's weights along its training."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """Averages of all floating-point parameters and buffers; counters are copied.

    The decay starts low and rises to its value, as min(decay, (1 + t) / (10 + t)) in step t, so that the
    first weights are soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.tensors: dict[str, Tensor] = {
            name: tensor.detach().clone() for name, tensor in model.state_dict().items()
        }

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
    def shown(self, model: nn.Module) -> Iterator[None]:
        """Put the averages into the model for a while."""
        own = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        model.load_state_dict(self.tensors)
        try:
            yield
        finally:
            model.load_state_dict(own)
