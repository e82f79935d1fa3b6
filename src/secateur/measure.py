"""Size and speed of networks: parameters, multiply-adds, latency, peak memory."""

from typing import Any
from weakref import finalize

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import flop_registry

from secateur.graph.trace.dispatch import Watcher
from secateur.graph.trace.input_tree import as_call, tensors_in
from secateur.models import eval_mode, time_calls


def parameters(model: nn.Module) -> int:
    """Number of parameters; shared ones count once.

    >>> parameters(nn.Linear(3, 2))
    8
    """
    return sum(parameter.numel() for parameter in model.parameters())


def macs(model: nn.Module, example_inputs: Any) -> int:
    """Multiply-adds of convolutions and matrix products per image: half of what torch's flop counter counts.

    Other operations (normalisation, activations, pooling) count nothing. The batch size is the length of the
    first tensor in ``example_inputs``.

    >>> macs(nn.Linear(3, 2), torch.rand(5, 3))
    6
    """
    arguments, keywords = as_call(example_inputs)
    first = tensors_in([arguments, keywords])[0]
    with eval_mode(model), torch.no_grad(), _FlopCounter() as counter:
        model(*arguments, **keywords)
    return int(counter.flops) // (2 * len(first))


def latency(
    model: nn.Module, example_inputs: Any, *, seconds: float = 1.0, threads: int | None = None
) -> dict[str, Any]:
    """Seconds per pass in evaluation mode: ``median``, ``quartiles``, ``iqr``, ``runs`` and ``threads``.

    Args:
        model: measured on the device of its parameters; left unchanged.
        example_inputs: a tensor, positional arguments, or keyword arguments, as for ``trace``.
        seconds: time to measure, at least.
        threads: of torch on the CPU; torch's current number by default.

    >>> sorted(latency(nn.Linear(3, 2), torch.rand(5, 3), seconds=0.01))
    ['iqr', 'median', 'quartiles', 'runs', 'threads']
    """
    arguments, keywords = as_call(example_inputs)
    with eval_mode(model), torch.no_grad():
        (found,) = time_calls([lambda: model(*arguments, **keywords)], seconds=seconds, threads=threads)
    return found.to_json()


def peak_memory(model: nn.Module, example_inputs: Any, *, gradients: bool = False) -> int:
    """Peak bytes of a forward pass: parameters, buffers, inputs, and all results alive at the same time.

    With ``gradients``, of a forward and a backward pass, which keep what the backward pass needs.

    Counted from the storages that torch operations return, so it is the same on every run and device; memory
    that kernels allocate internally is not included.

    >>> peak_memory(nn.Linear(3, 2), torch.rand(5, 3))  # 8 weights, 15 inputs and 10 outputs of 4 bytes
    132
    """
    arguments, keywords = as_call(example_inputs)
    known = [*model.parameters(), *model.buffers(), *tensors_in([arguments, keywords])]
    with eval_mode(model), torch.set_grad_enabled(gradients), _Meter() as meter:
        for thing in known:
            meter.see(thing)
        returned = model(*arguments, **keywords)
        if gradients:
            scores = [tensor.sum() for tensor in tensors_in([returned]) if tensor.requires_grad]
            wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
            torch.autograd.grad(scores, wanted, allow_unused=True)
    return int(meter.peak)


# FlopCounterMode counts the same, by the same formulas, but imports torch's compiler at its first operation.
class _FlopCounter(Watcher):  # type: ignore[no-untyped-call]
    """Adds up the floating-point operations for which torch has a formula; a multiply-add is two."""

    def __init__(self) -> None:
        super().__init__()
        self.flops: int = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = kwargs or {}
        # The formulas are those of the parts that an operation consists of, where it has any.
        with self:
            result = func.decompose(*args, **named)
        if result is not NotImplemented:
            return result
        result = func(*args, **named)
        if (formula := flop_registry.get(func._overloadpacket)) is not None:
            self.flops += int(formula(*args, **named, out_val=result))
        return result


# A dispatch mode sees every storage that an operation returns, on any device; allocator statistics exist for
# CUDA alone and include cached blocks.
class _Meter(Watcher):  # type: ignore[no-untyped-call]
    """Adds up the storages that are alive, and keeps the maximum."""

    def __init__(self) -> None:
        super().__init__()
        self.now: int = 0
        self.peak: int = 0
        self._alive: set[int] = set()

    def see(self, thing: Any) -> None:
        """Count the storage of a tensor until nothing refers to it any more."""
        if not isinstance(thing, Tensor):
            return
        storage = thing.untyped_storage()
        key, size = id(storage), storage.nbytes()
        if key in self._alive:
            return
        self._alive.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        # atexit=False: at interpreter exit there is nothing left to count.
        finalize(storage, self._forget, key, size).atexit = False

    def _forget(self, key: int, size: int) -> None:
        self._alive.discard(key)
        self.now -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        tree_map_only(Tensor, self.see, result)
        return result
