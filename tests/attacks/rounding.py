"""How far rounding may move an attack, and a processor that rounds otherwise."""

from contextlib import contextmanager

import torch
from torch import nn

TERMS = 512
"""A sum of n terms is off by at most n units in the last place, in whatever order a kernel adds them up."""
GROWTH = 1.2
"""By which an error grows per step. The fastest is ALMA, whose averages keep 0.9: 2e4 in sixty steps."""


def tolerance(dtype, steps):
    """The relative difference of two searches of ``steps`` that differ in rounding, and in nothing else.

    1e-12 for 12 steps in float64, and 1e-3 for 15 in float32. Beyond some thirty steps in float32 it allows
    more than 1 %, and another class may be the nearest: state it in float64.
    """
    return TERMS * torch.finfo(dtype).eps * GROWTH**steps


@contextmanager
def rounded_otherwise(model, monkeypatch, seed):
    """``model``, with its logits and all lengths off by up to a unit in the last place, as other kernels are.

    The tests must not depend on the kernels of one processor, and cannot change the processor they run on.
    """
    draw = torch.Generator().manual_seed(seed)
    length = torch.linalg.vector_norm

    def off(values):
        units = torch.randint(-1, 2, values.shape, generator=draw).to(values.dtype)
        return values * (1 + torch.finfo(values.dtype).eps * units)

    class Other(nn.Module):
        def forward(self, x):
            return off(model(x))

    with monkeypatch.context() as patched:
        patched.setattr(torch.linalg, "vector_norm", lambda *args, **settings: off(length(*args, **settings)))
        yield Other()
