"""Run a model with plain kernels, in evaluation mode, and leave it and torch's switches as they were."""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from secateur.graph.trace.quantisers import is_quantiser, switch_off
from secateur.undisturbed import same_randomness, undisturbed


@contextmanager
def isolated_forward(model: nn.Module, *, training: bool = False) -> Iterator[None]:
    """Eval mode and plain kernels inside; the model and the global random numbers are as before on exit.

    Fused attention and recurrent kernels and compiled code are off, because they hide the operations that
    they consist of; fake quantisation is off, because it rounds. With ``training`` modules that have children
    or are of the model's own classes are in train mode, so that auxiliary heads run; torch's normalisation
    and dropout stay as in eval.

    >>> model = nn.BatchNorm1d(2).train()
    >>> with isolated_forward(model):
    ...     model.training
    False
    >>> model.training
    True
    """
    fastpath = torch.backends.mha.get_fastpath_enabled()
    fused = torch._C._get_mkldnn_enabled()
    with undisturbed(model), same_randomness():
        recurrent = False
        for module in model.modules():
            own = bool(module._modules) or not type(module).__module__.startswith("torch.")
            _set_mode(module, training and own)
            recurrent = recurrent or isinstance(module, nn.RNNBase)
            if is_quantiser(module):
                switch_off(module)
        torch.backends.mha.set_fastpath_enabled(False)
        if recurrent:
            torch._C._set_mkldnn_enabled(False)
        try:
            with sdpa_kernel(SDPBackend.MATH), _uncompiled(), _visible_lists():
                yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fastpath)
            torch._C._set_mkldnn_enabled(fused)


def _set_mode(module: nn.Module, training: bool) -> None:
    if not isinstance(module, torch.jit.ScriptModule):
        module.__dict__["training"] = training
    elif getattr(module, "training", training) != training:
        module.training = training


def _uncompiled() -> AbstractContextManager[object]:
    """Run the plain code of compiled modules; there are none while torch's compiler is not loaded."""
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()


@contextmanager
def _visible_lists() -> Iterator[None]:
    """Let ``tolist`` read a detached copy, as numpy does: by itself it leaves no trace on a tape."""
    known = vars(Tensor).get("tolist")

    def tolist(self: Tensor) -> Any:
        return torch._C.TensorBase.tolist(self.detach())

    Tensor.tolist = tolist  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        if known is None:
            del Tensor.tolist
        else:
            Tensor.tolist = known  # type: ignore[method-assign]
