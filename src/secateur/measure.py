"""Numbers about networks: sizes, latency, memory."""

from collections.abc import Mapping
from typing import Any
from weakref import finalize

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import FlopCounterMode

from secateur.models import eval_mode, time_calls

Example = Tensor | tuple[Any, ...] | Mapping[str, Any]


def parameters(model: nn.Module) -> int:
    """Number of parameters; shared ones count once."""
    return sum(parameter.numel() for parameter in model.parameters())


def macs(model: nn.Module, example_inputs: Example) -> int:
    """Multiply-accumulates of convolutions and matrix products per image, half of FlopCounterMode's count.

    Other operations (normalisation, activations, pooling) count nothing. The batch size is the length of the
    first tensor of ``example_inputs``.
    """
    arguments, keywords = _call(example_inputs)
    first = next(value for value in (*arguments, *keywords.values()) if isinstance(value, Tensor))
    with eval_mode(model), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(*arguments, **keywords)
    return int(counter.get_total_flops()) // (2 * len(first))


def latency(
    model: nn.Module, example_inputs: Example, *, seconds: float = 1.0, threads: int | None = None
) -> dict[str, Any]:
    """Seconds per pass in evaluation mode: ``median``, ``quartiles``, ``iqr``, ``runs`` ``threads``."""
    arguments, keywords = _call(example_inputs)
    with eval_mode(model), torch.no_grad():
        (found,) = time_calls([lambda: model(*arguments, **keywords)], seconds=seconds, threads=threads)
    return found.to_json()


def peak_memory(model: nn.Module, example_inputs: Example) -> int:
    """Bytes that a forward pass needs at its peak: parameters, buffers, inputs, and results alive together.

    Counted from what torch's operations hand to each other, so it is the same on every run and device; what
    a kernel allocates inside of itself is not seen.
    """
    arguments, keywords = _call(example_inputs)
    held = [*model.parameters(), *model.buffers(), *arguments, *keywords.values()]
    with eval_mode(model), torch.no_grad(), _Meter() as meter:
        for thing in held:
            meter.see(thing)
        model(*arguments, **keywords)
    return int(meter.peak)


class _Meter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the storages that are alive, and remembers the most."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now: int = 0
        self.peak: int = 0
        self._alive: set[int] = set()

    def see(self, thing: Any) -> None:
        """Count the storage of a tensor from now on until nothing refers to it any more."""
        if not isinstance(thing, Tensor):
            return
        storage = thing.untyped_storage()
        place, size = id(storage), storage.nbytes()
        if place in self._alive:
            return
        self._alive.add(place)
        self.now += size
        self.peak = max(self.peak, self.now)
        finalize(storage, self._forget, place, size).atexit = False

    def _forget(self, place: int, size: int) -> None:
        self._alive.discard(place)
        self.now -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        tree_map_only(Tensor, self.see, result)
        return result


def _call(example_inputs: Example) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    if isinstance(example_inputs, Tensor):
        return (example_inputs,), {}
    if isinstance(example_inputs, Mapping):
        return (), example_inputs
    return tuple(example_inputs), {}
