"""Shapes of common operations by arithmetic, for runs on the meta device.

torch's own meta functions import its compiler and sympy at their first call. Measured on the first ``plan``
of a process (``resnet20``, CPU time, medians of fresh processes): 0.07 s with this file, 2.5 s without it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from secateur.graph.trace.dispatch import Watcher
from secateur.graph.trace.recorder import Recorder
from secateur.graph.trace.tape import Tape

_LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}
_ALONE = (
    *("relu", "gelu", "silu", "elu", "mish", "sigmoid", "tanh", "softplus", "hardswish", "hardsigmoid"),
    *("hardtanh", "leaky_relu", "exp", "sqrt", "rsqrt", "erf", "abs", "neg", "square"),
)
_WITH_SETTINGS = ("_safe_softmax", "clamp", "clamp_min", "clamp_max")
_IN_PLACE = ("relu_", "gelu_", "silu_", "elu_", "hardswish_", "hardsigmoid_", "hardtanh_", "leaky_relu_")
_PAIRED = ("add", "sub", "mul", "div")


class ShapeRecorder(Recorder):  # type: ignore[no-untyped-call]
    """Records a run on the meta device, without source lines, by the shapes of this file."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model, sources=False)

    def compute(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Empty tensors of the result's shape, dtype and layout."""
        return empty_result(func, args, kwargs)


class ShapesAlone(Watcher):  # type: ignore[no-untyped-call]
    """Inside, operations on the meta device are computed by the shapes of this file, and nothing is kept.

    >>> with ShapesAlone(), torch.no_grad():
    ...     nn.Conv2d(1, 4, 3, device="meta")(torch.empty(2, 1, 8, 8, device="meta")).shape
    torch.Size([2, 4, 6, 6])
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return empty_result(func, args, kwargs or {})


class TapeFollower(Watcher):  # type: ignore[no-untyped-call]
    """Compares a run on the meta device with a tape, call by call, and records nothing.

    ``fits(number, shape)`` decides whether a value of the tape may have that shape. The run is stopped at the
    first difference; ``arrived`` is whether it ran exactly the calls of the tape.
    """

    def __init__(self, tape: Tape, fits: Callable[[int, tuple[int, ...]], bool]) -> None:
        super().__init__()
        self._calls = tape.calls
        self._fits = fits
        self._place = 0
        self._astray = False

    @property
    def arrived(self) -> bool:
        """Whether the run matched the tape from the first call to the last."""
        return self._place == len(self._calls) and not self._astray

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = empty_result(func, args, kwargs or {})
        if not self._as_before(func, result if isinstance(result, (list, tuple)) else (result,)):
            # The model may catch this exception and go on.
            self._astray = True
            raise _Astray
        self._place += 1
        return result

    def _as_before(self, func: Any, results: Sequence[Any]) -> bool:
        if self._astray or self._place == len(self._calls) or self._calls[self._place].op is not func:
            return False
        return all(
            number is None or not isinstance(item, Tensor) or self._fits(number, item.shape)
            for number, item in zip(self._calls[self._place].outputs, results, strict=False)
        )


class _Astray(Exception):
    """The run differs from the tape."""


def empty_result(func: Any, args: Any, kwargs: Any) -> Any:
    """The result of an operation on the meta device, by arithmetic where it is known."""
    shape = _SHAPES.get(func)
    result = shape(*args) if shape is not None and not kwargs else None
    return func(*args, **kwargs) if result is None else result


def convolution(image: Tensor, weight: Tensor, bias: Tensor | None, *settings: Any) -> Tensor:
    """An empty result of ``aten.convolution`` with the same arguments.

    Raises:
        RuntimeError: the channels do not fit, or nothing is left of the image.
    """
    stride, padding, dilation, transposed, extra, groups = settings
    inputs = weight.shape[0] if transposed else weight.shape[1] * groups
    outputs = weight.shape[1] * groups if transposed else weight.shape[0]
    fits = image.shape[1] == inputs and weight.shape[0] % groups == 0
    if not fits or (bias is not None and bias.shape != (outputs,)):
        raise _misfit(f"a convolution with weights of shape {list(weight.shape)} and {groups} groups", image)
    sizes = []
    for dim, size in enumerate(image.shape[2:]):
        step, pad, spread = _at(stride, dim), _at(padding, dim), _at(dilation, dim)
        reach = spread * (weight.shape[2 + dim] - 1)
        if transposed:
            sizes.append((size - 1) * step - 2 * pad + reach + _at(extra, dim) + 1)
        else:
            sizes.append((size + 2 * pad - reach - 1) // step + 1)
    if any(size < 1 for size in sizes):
        raise _misfit(f"a convolution with weights of shape {list(weight.shape)}", image)
    last = any(_channels_last(item) for item in (image, weight))
    layout = _LAYOUTS[image.ndim] if last else torch.contiguous_format
    shape = (image.shape[0], outputs, *sizes)
    return torch.empty(shape, dtype=image.dtype, device=image.device, memory_format=layout)


def batch_norm(
    image: Tensor, weight: Tensor | None, bias: Tensor | None, *settings: Any
) -> tuple[Tensor, Tensor, Tensor] | None:
    """Empty results of ``aten.native_batch_norm`` in eval mode.

    Raises:
        RuntimeError: the channels do not fit.
    """
    mean, variance, training = settings[:3]
    if training:
        return None
    for vector in (weight, bias, mean, variance):
        if vector is not None and vector.shape != image.shape[1:2]:
            raise _misfit(f"batch normalisation of {vector.shape[0]} channels", image)
    unused = image.new_empty((0,))
    return _like(image), unused, unused


def layer_norm(
    x: Tensor, sizes: Sequence[int], weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Empty results of ``aten.native_layer_norm``.

    Raises:
        RuntimeError: the sizes do not fit.
    """
    count = len(sizes)
    vectors = [vector for vector in (weight, bias) if vector is not None]
    if list(x.shape[-count:]) != list(sizes) or any(list(v.shape) != list(sizes) for v in vectors):
        raise _misfit(f"layer normalisation over {list(sizes)}", x)
    saved = (*x.shape[:-count], *(1 for _ in sizes))
    return x.new_empty(x.shape), x.new_empty(saved), x.new_empty(saved)


def addmm(bias: Tensor, left: Tensor, right: Tensor) -> Tensor | None:
    """An empty result of ``aten.addmm``; ``None`` where torch should say what does not fit."""
    if left.shape[1] != right.shape[0] or bias.shape != right.shape[1:]:
        return None
    return left.new_empty((left.shape[0], right.shape[1]))


def mean(x: Tensor, dims: Sequence[int] | None, keepdim: bool = False) -> Tensor | None:
    """An empty result of ``aten.mean`` over some dimensions."""
    if not dims or not x.is_floating_point():
        return None
    gone = {dim % x.ndim for dim in dims}
    sizes = [1 if dim in gone else size for dim, size in enumerate(x.shape) if keepdim or dim not in gone]
    return x.new_empty(sizes)


def _alone(x: Tensor, *settings: Any) -> Tensor | None:
    plain = x.is_floating_point() and not any(isinstance(item, Tensor) for item in settings)
    return _like(x) if plain else None


def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor | None:
    """An empty result of ``aten.cat`` of tensors of one type and layout; ``None`` where torch should say."""
    first = tensors[0]
    if first.ndim == 0:
        return None
    dim %= first.ndim
    shape = list(first.shape)
    for item in tensors[1:]:
        if item.ndim != first.ndim or item.dtype != first.dtype:
            return None
        if any(a != b for place, (a, b) in enumerate(zip(shape, item.shape, strict=True)) if place != dim):
            return None
        shape[dim] += item.shape[dim]
    # As torch decides: channels-last only where every tensor has those strides, strided slices included.
    last = all(_like_channels_last(item) for item in tensors)
    layout = _LAYOUTS[first.ndim] if last else torch.contiguous_format
    return torch.empty(shape, dtype=first.dtype, device=first.device, memory_format=layout)


def product(left: Tensor, right: Tensor) -> Tensor | None:
    """An empty result of ``aten.mm`` or ``aten.bmm``; ``None`` where torch should say what does not fit."""
    if left.shape[:-2] != right.shape[:-2] or left.shape[-1] != right.shape[-2]:
        return None
    return left.new_empty((*left.shape[:-1], right.shape[-1]))


def _paired(left: Any, right: Any) -> Tensor | None:
    both = isinstance(left, Tensor) and isinstance(right, Tensor)
    if not both or left.dtype != right.dtype:
        return None
    if left.shape == right.shape:
        return _like(left) if left.stride() == right.stride() else None
    if not (left.is_contiguous() and right.is_contiguous()):
        return None
    shape = _met(left, right)
    return None if shape is None else left.new_empty(shape)


def _met(left: Tensor, right: Tensor) -> tuple[int, ...] | None:
    """The shape two tensors are broadcast to, ``None`` if they do not fit."""
    wide, narrow = (left, right) if left.ndim >= right.ndim else (right, left)
    shape = list(wide.shape)
    for place, size in enumerate(narrow.shape, start=wide.ndim - narrow.ndim):
        if shape[place] == 1:
            shape[place] = size
        elif size not in (1, shape[place]):
            return None
    return tuple(shape)


def _written(left: Tensor, right: Any) -> Tensor | None:
    fits = isinstance(right, Tensor) and left.dtype == right.dtype and _met(left, right) == left.shape
    return left if fits else None


def _like(x: Tensor) -> Tensor:
    if x.is_contiguous():
        return torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if _channels_last(x):
        return torch.empty(x.shape, dtype=x.dtype, device=x.device, memory_format=_LAYOUTS[x.ndim])
    return torch.empty_like(x)


def _misfit(what: str, x: Tensor) -> RuntimeError:
    return RuntimeError(f"{what} does not fit an input of shape {list(x.shape)}")


def _at(values: Sequence[int], dim: int) -> int:
    return values[dim if len(values) > 1 else 0]


def _like_channels_last(x: Tensor) -> bool:
    """Whether the strides order the dimensions as channels-last does, with or without gaps."""
    if x.ndim not in _LAYOUTS or x.is_contiguous():
        return False
    order = [0, *range(2, x.ndim), 1]
    strides = [x.stride(dim) for dim in order]
    return x.stride(1) == 1 and strides == sorted(strides, reverse=True)


def _channels_last(x: Tensor) -> bool:
    layout = _LAYOUTS.get(x.ndim)
    return layout is not None and not x.is_contiguous() and x.is_contiguous(memory_format=layout)


_SHAPES: dict[Any, Callable[..., Any]] = {
    torch.ops.aten.convolution.default: convolution,
    torch.ops.aten.native_batch_norm.default: batch_norm,
    torch.ops.aten.native_layer_norm.default: layer_norm,
    torch.ops.aten.addmm.default: addmm,
    torch.ops.aten.mean.dim: mean,
    torch.ops.aten.cat.default: cat,
    torch.ops.aten.mm.default: product,
    torch.ops.aten.bmm.default: product,
    torch.ops.aten._softmax.default: lambda x, *settings: x.new_empty(x.shape),
    **{getattr(torch.ops.aten, name).default: _alone for name in (*_ALONE, *_WITH_SETTINGS)},
    **{getattr(torch.ops.aten, name).default: lambda x, *settings: x for name in _IN_PLACE},
    **{getattr(torch.ops.aten, name).Tensor: _paired for name in _PAIRED},
    **{getattr(torch.ops.aten, f"{name}_").Tensor: _written for name in _PAIRED},
    **{getattr(torch.ops.aten, name).Scalar: _alone for name in _PAIRED},
}
