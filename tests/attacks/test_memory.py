"""Attacking many images holds a batch's activations, the images and the results, and nothing else."""

import pytest
import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.modules.module import register_module_forward_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from secateur import evaluate
from secateur.attacks import run
from secateur.data import Dataset

BATCH, PIXELS = 16, 16
IMAGE = 4 * PIXELS
COLUMNS = 210
"""Bytes of an image's row in the result: distances in four norms twice, passes, classes, outcomes, sizes."""


class Held(TorchDispatchMode):
    """Counts the bytes of living storages that the operations inside have made; ``peak`` is the most."""

    def __init__(self):
        super().__init__()
        self.alive, self.peak = {}, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                self.alive[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        # The storage may be kept by the graph of a backward pass alone, without any Python object.
        self.alive = {key: entry for key, entry in self.alive.items() if not entry[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self.alive.values()))
        return out


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    wide = [nn.Conv2d(1, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*wide, nn.Flatten(), nn.Linear(64 * PIXELS, 4)).eval()


def peak(net, n, call=run, name="ddn", *, steps=3, **settings):
    x = torch.rand(n, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        y = torch.cat([net(part).argmax(1) for part in x.split(BATCH)])
    dataset = Dataset("noise", x, y, tuple("abcd"), None)
    with Held() as held:
        call(net, dataset, name, steps=steps, batch_size=BATCH, **settings)
    return held.peak


def activations(net):
    """Bytes of a batch's activations and their gradients."""
    x = torch.rand(BATCH, 1, 4, 4)
    with Held() as held:
        query = x.requires_grad_(True)
        torch.autograd.grad(net(query).sum(), query)
    return held.peak


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize(
    ("call", "name", "settings"),
    [
        (run, "ddn", {}),
        (run, "fmn", {"norm": 1}),
        (run, "steep", {"norm": 2}),
        (run, "pgd", {"norm": 2, "eps": 0.1}),
        (evaluate.attack, "fmn", {"norm": 2}),
    ],
)
def test_more_images_cost_their_rows_in_the_result_and_nothing_else(net, call, name, settings):
    one, many = (peak(net, n, call, name, **settings) for n in (BATCH, 4 * BATCH))
    assert one > activations(net)
    assert many - one <= 3 * BATCH * (IMAGE + COLUMNS)


def test_a_batch_that_keeps_its_activations_is_seen(net):
    kept = []
    hook = register_module_forward_hook(lambda module, inputs, output: kept.append(output.detach()))
    try:
        one, many = (peak(net, n, steps=1) for n in (BATCH, 2 * BATCH))
    finally:
        hook.remove()
    assert many - one > 10 * BATCH * (IMAGE + COLUMNS)
