"""Numbers about networks and distances: sizes, latency, memory, quantiles with infinity, intervals."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from weakref import finalize

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import FlopCounterMode

from secateur.errors import UserError
from secateur.models import evaluating, time_calls

CURVE_POINTS: dict[str, tuple[float, ...]] = {
    "l0": (0, 1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 200, 500),
    "l1": (0, 0.5, 1, 1.5, 2, 3, 4, 6, 8, 10, 12, 16, 20, 30, 40, 60, 100),
    "l2": (0, 0.05, 0.1, 0.15, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 7, 10),
    "linf": tuple(k / 255 for k in (0, 0.5, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 255)),
}
"""Default budgets ε of a security curve, for images in [0, 1]."""

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
    with evaluating(model), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(*arguments, **keywords)
    return int(counter.get_total_flops()) // (2 * len(first))


def latency(
    model: nn.Module, example_inputs: Example, *, seconds: float = 1.0, threads: int | None = None
) -> dict[str, Any]:
    """Seconds per pass in evaluation mode: ``median``, ``quartiles``, ``iqr``, ``runs`` ``threads``."""
    arguments, keywords = _call(example_inputs)
    with evaluating(model), torch.no_grad():
        (found,) = time_calls([lambda: model(*arguments, **keywords)], seconds=seconds, threads=threads)
    return found.to_json()


def peak_memory(model: nn.Module, example_inputs: Example) -> int:
    """Bytes that a forward pass needs at its peak: parameters, buffers, inputs, and results alive together.

    Counted from what torch's operations hand to each other, so it is the same on every run and device; what
    a kernel allocates inside of itself is not seen.
    """
    arguments, keywords = _call(example_inputs)
    held = [*model.parameters(), *model.buffers(), *arguments, *keywords.values()]
    with evaluating(model), torch.no_grad(), _Meter() as meter:
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


def quantile(values: Tensor, q: float) -> float:
    """The q-quantile of ``values`` [N] with linear interpolation; inf where it reaches into infinite values.

    Raises:
        UserError: no values, NaN among them, or q outside [0, 1].
    """
    if not len(values) or bool(values.isnan().any()) or not 0 <= q <= 1:
        raise UserError(f"no {q}-quantile of {len(values)} values", hint="give numbers and a q in [0, 1]")
    ordered = values.double().sort().values
    place = q * (len(values) - 1)
    low, share = math.floor(place), place - math.floor(place)
    lower = ordered[low].item()
    upper = ordered[min(low + 1, len(values) - 1)].item()
    return lower if share == 0 or lower == upper else lower + share * (upper - lower)


def median(values: Tensor) -> float:
    """The median of ``values`` [N]; infinite values count as larger than all others."""
    return quantile(values, 0.5)


def wilson(k: int, n: int, *, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval for a proportion of ``k`` in ``n``.

    >>> wilson(0, 10)[0]
    0.0
    """
    if n < 1 or not 0 <= k <= n:
        raise UserError(f"{k} of {n} is not a proportion")
    z = torch.special.ndtri(torch.tensor(0.5 + level / 2, dtype=torch.float64)).item()
    p, shrink = k / n, 1 + z * z / n
    centre = (p + z * z / (2 * n)) / shrink
    half = z / shrink * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # The ends are exact in theory but off by a rounding error in floating point.
    return (0.0 if k == 0 else centre - half), (1.0 if k == n else centre + half)


def bootstrap(
    values: Tensor,
    statistic: Callable[[Tensor], float] = median,
    *,
    generator: torch.Generator,
    draws: int = 1000,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile bootstrap interval of ``statistic`` over samples of ``values`` [N]."""
    index = torch.randint(len(values), (draws, len(values)), generator=generator)
    drawn = torch.tensor([statistic(values[row]) for row in index], dtype=torch.float64)
    return quantile(drawn, (1 - level) / 2), quantile(drawn, (1 + level) / 2)


def security_curve(distances: Tensor, eps: Sequence[float]) -> list[float]:
    """Robust accuracy at every budget of ``eps``: the share of images whose distance exceeds it.

    Images that are wrong from the start have distance 0 and are not robust at any ε ≥ 0; images for which
    nothing was found have distance inf and count as robust, which makes the curve an upper bound.

    Raises:
        UserError: negative or unsorted budgets.
    """
    check_budgets(eps)
    return [(distances > value).double().mean().item() for value in eps]


def check_budgets(eps: Sequence[float]) -> None:
    """``eps`` are budgets of a security curve: not negative, in rising order; else a UserError."""
    if not len(eps) or any(not value >= 0 for value in eps) or list(eps) != sorted(eps):
        raise UserError(f"the budgets {list(eps)} are not a rising list", hint="give ε ≥ 0 in rising order")
