"""Fake quantisation and observers of ``torch.ao.quantization``, which are off while secateur runs a model.

They round values to the steps of a range that they observe, in float32 only. What is traced and proved is
the network without rounding. The scales of single channels belong to these channels and are cut with them;
rounding by the same scales then gives the same numbers before and after.
"""

import sys
from typing import Any

import torch
from torch import Tensor, nn

from secateur.graph.trace.tape import Call

_PER_CHANNEL = {
    torch.per_channel_affine,
    torch.per_channel_symmetric,
    torch.per_channel_affine_float_qparams,
}
MARK = "aten::alias"
"""The operation that stands for a module of this kind on the tape."""


def is_quantiser(module: nn.Module) -> bool:
    """Whether a module is a fake quantisation or an observer."""
    return isinstance(module, _kinds())


def _kinds() -> tuple[type, ...]:
    # Where torch has not loaded them no module is one of them, and torch may drop them one day.
    homes = {"fake_quantize": "FakeQuantizeBase", "observer": "ObserverBase"}
    loaded = {name: sys.modules.get(f"torch.ao.quantization.{name}") for name in homes}
    return tuple(getattr(home, homes[name]) for name, home in loaded.items() if home is not None)


def switch_off(module: nn.Module) -> None:
    """Let values pass; undone by whoever puts back the attributes of the module."""
    module.__dict__["forward"] = _passing


def _passing(x: Any) -> Any:
    return torch.ops.aten.alias(x) if isinstance(x, Tensor) else x


def channel_dim_of(module: nn.Module, ndim: int) -> int | None:
    """The dimension along which every channel has a scale of its own, ``None`` if there is one for all."""
    observer = getattr(module, "activation_post_process", module)
    if getattr(observer, "qscheme", None) not in _PER_CHANNEL:
        return None
    dim = int(getattr(module, "ch_axis", getattr(observer, "ch_axis", 0)))
    return dim % ndim if ndim else None


def scales_of(module: nn.Module, name: str, size: int) -> list[str]:
    """The names of the buffers that hold one number for each of ``size`` channels."""
    return [f"{name}.{own}" for own, buffer in module.named_buffers() if tuple(buffer.shape) == (size,)]


def stands_for(call: Call, names: frozenset[str]) -> bool:
    """Whether a call stands for one of these modules."""
    return call.name == MARK and call.module in names
