"""The weights that a network starts from: a file, or a folder that ``save`` wrote."""

from collections.abc import Callable
from pathlib import Path

from torch import nn

from secateur.models import load_weights
from secateur.pruning.saving import load


def with_weights(build: Callable[[], nn.Module], path: str | Path) -> nn.Module:
    """The network that ``build`` returns, with the weights at ``path``.

    Args:
        build: returns the dense network.
        path: a file of weights, or a folder written by :func:`secateur.save`; its plan is replayed first.

    Raises:
        UserError: the file or folder is missing, damaged, or does not fit the network.

    >>> import secateur, tempfile, torch
    >>> build = lambda: nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    >>> pruned = build()
    >>> report = secateur.prune(pruned, torch.rand(1, 3), sparsity=0.5)
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     with_weights(build, secateur.save(pruned, f"{parent}/pruned"))[0]
    Linear(in_features=3, out_features=2, bias=True)
    """
    if Path(path).is_dir():
        return load(path, build)
    model = build()
    load_weights(model, path)
    return model
