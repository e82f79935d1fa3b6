"""Run a model and leave it as it was: modes, attributes, buffers, caches and backend switches."""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from secateur.graph.trace.named_tensors import parameters_and_buffers

_INTERNAL = frozenset(nn.Module().__dict__)


@contextmanager
def isolated_forward(model: nn.Module, *, training: bool = False) -> Iterator[None]:
    """Eval mode and plain kernels inside; modes, attributes and buffers are restored on exit.

    Fused attention and recurrent kernels and compiled code are off, because they hide the operations that
    they consist of. With ``training`` modules that have children are in train mode, so that auxiliary heads
    run; normalisation and dropout stay as in eval.

    >>> model = nn.BatchNorm1d(2).train()
    >>> with isolated_forward(model):
    ...     model.training
    False
    >>> model.training
    True
    """
    held = [(module, _contents(module)) for module in model.modules()]
    # Inference tensors have no version, and cannot be written to outside of inference mode.
    buffers = [buffer for buffer in parameters_and_buffers(model)[1].values() if not buffer.is_inference()]
    versions = [(buffer, buffer._version, buffer.detach().clone()) for buffer in buffers]
    fastpath = torch.backends.mha.get_fastpath_enabled()
    for module, _ in held:
        module.__dict__["training"] = training and bool(module._modules)
    torch.backends.mha.set_fastpath_enabled(False)
    recurrent = any(isinstance(module, nn.RNNBase) for module, _ in held)
    fused = torch._C._get_mkldnn_enabled()
    if recurrent:
        torch._C._set_mkldnn_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), _uncompiled(), _visible_lists():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)
        torch._C._set_mkldnn_enabled(fused)
        for module, contents in held:
            _restore(module, contents)
        with torch.no_grad():
            for buffer, version, before in versions:
                # Writing raises the version of buffers that autograd may have saved: only where needed.
                if buffer._version != version:
                    buffer.copy_(before)


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


def _contents(module: nn.Module) -> tuple[dict[str, Any], list[tuple[Any, Any]]]:
    """A module's attributes, and copies of its own dicts and lists: a forward pass may cache things there."""
    attributes = module.__dict__.copy()
    own = [attributes[name] for name in attributes.keys() - _INTERNAL]
    plain = [module._buffers, *(value for value in own if type(value) in (dict, list))]
    return attributes, [(value, value.copy()) for value in plain]


def _restore(module: nn.Module, contents: tuple[dict[str, Any], list[tuple[Any, Any]]]) -> None:
    attributes, containers = contents
    if module.__dict__.keys() != attributes.keys():
        for name in module.__dict__.keys() - attributes.keys():
            del module.__dict__[name]
    module.__dict__.update(attributes)
    for value, copy in containers:
        # In place, because others may refer to the same container.
        if isinstance(value, dict):
            value.clear()
            value.update(copy)
        else:
            value[:] = copy
