"""Random networks as the mean of several forwards (expectation over transformation, Athalye et al. 2018)."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from secateur.undisturbed import same_randomness


class Averaged(nn.Module):
    """A network whose logits, and so their gradients, are the mean over ``samples`` forwards.

    >>> network = Averaged(torch.nn.Dropout(0.5), 4).train()
    >>> bool(torch.isin(network(torch.ones(100)), torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0])).all())
    True
    """

    def __init__(self, network: nn.Module, samples: int) -> None:
        super().__init__()
        self.network, self.samples = network, samples

    def forward(self, x: Tensor) -> Tensor:
        """Mean logits [N, K] for ``x`` [N, ...]."""
        total: Tensor = self.network(x)
        for _ in range(self.samples - 1):
            total = total + self.network(x)
        return total / self.samples


def averaged(network: nn.Module, samples: int) -> nn.Module:
    """``network`` itself for one sample, else ``Averaged``."""
    return network if samples == 1 else Averaged(network, samples)


@contextmanager
def drawing(seed: int, random_numbers: bool) -> Iterator[None]:
    """A network that draws ``random_numbers`` draws them from ``seed``; afterwards as before."""
    if not random_numbers:
        yield
        return
    with torch.random.fork_rng(), same_randomness():
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        yield
