"""Run a model in float64 and complex128, including the casts in its code."""

from typing import Any

import torch
from torch import Tensor

from secateur.graph.trace.recorder import Recorder
from secateur.proof.rounding import WIDE

_WIDE = {
    torch.float32: torch.float64,
    torch.float16: torch.float64,
    torch.bfloat16: torch.float64,
    torch.complex64: torch.complex128,
    torch.complex32: torch.complex128,
}


def to_float64(thing: Any) -> Any:
    """Convert floating-point and complex tensors and dtypes, in nested lists and tuples too.

    >>> to_float64([torch.zeros(2), torch.bfloat16, 3])
    [tensor([0., 0.], dtype=torch.float64), torch.float64, 3]
    """
    if isinstance(thing, Tensor):
        return thing.to(_WIDE.get(thing.dtype, thing.dtype))
    if isinstance(thing, torch.dtype):
        return _WIDE.get(thing, thing)
    if isinstance(thing, (list, tuple)):
        return type(thing)(to_float64(item) for item in thing)
    return thing


class Float64Recorder(Recorder):  # type: ignore[no-untyped-call]
    """Records a run in float64; casts to narrower types in the model's code become casts to float64."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not func._schema.is_mutable:
            args = self._widen(args)
        kwargs = {key: to_float64(value) for key, value in (kwargs or {}).items()}
        return super().__torch_dispatch__(func, types, args, kwargs)

    def compute(self, func: Any, args: Any, kwargs: Any) -> Any:
        """The result of one operation, of the same formula where torch's own refuses float64."""
        return super().compute(WIDE.get(func, func), args, kwargs)

    def _widen(self, thing: Any) -> Any:
        if isinstance(thing, Tensor) and thing.dtype in _WIDE:
            wide = thing.to(_WIDE[thing.dtype])
            self._leaves[id(wide)] = self.number(thing)
            self._alive.append(wide)
            return wide
        if isinstance(thing, (list, tuple)):
            return type(thing)(self._widen(item) for item in thing)
        return to_float64(thing) if isinstance(thing, torch.dtype) else thing
