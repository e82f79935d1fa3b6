"""What networks cost when they run: latency of networks measured in turns, and peak memory."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from secateur import measure
from secateur.errors import UserError
from secateur.exports.inputs import random_batch
from secateur.graph.trace.example_inputs import Inputs, inputs_to_device
from secateur.graph.trace.input_tree import call_model
from secateur.kinds import is_whole
from secateur.models import Latency, device_of, eval_mode, time_calls


@dataclass(frozen=True)
class Cost:
    """Cost of one pass of one batch; ``peak_bytes`` is None for a file, whose allocations are not observable.

    >>> from secateur.models import Latency
    >>> Cost("model", 32, Latency(0.002, 0.001, 0.003, runs=9, threads=1), 4096).to_json()["peak_bytes"]
    4096
    """

    network: str
    batch: int
    latency: Latency
    peak_bytes: int | None

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "network": self.network,
            "batch": self.batch,
            "latency": self.latency.to_json(),
            "peak_bytes": self.peak_bytes,
        }


def measure_costs(
    networks: Mapping[str, nn.Module],
    inputs: Inputs,
    *,
    batch_sizes: Sequence[int] = (1, 32),
    seconds: float = 1.0,
    threads: int | None = None,
    runs: Mapping[str, Callable[[Any], object]] | None = None,
) -> list[Cost]:
    """Measure networks on the device of their parameters, in turns, so that machine load affects all alike.

    Args:
        networks: by name.
        inputs: what ``batch_input_specs`` finds in example inputs; their batch size is replaced.
        batch_sizes: images per pass, one measurement each.
        seconds: time to measure each network and batch size, at least.
        threads: of the CPU; torch's current number by default.
        runs: other callables that take such inputs on the CPU, such as exported files.

    Raises:
        UserError: a batch size that is not a positive integer.

    >>> from secateur.exports.inputs import batch_input_specs
    >>> inputs = batch_input_specs(torch.rand(1, 4))
    >>> (cost,) = measure_costs({"net": nn.Linear(4, 2)}, inputs, batch_sizes=[8], seconds=0.01)
    >>> cost.network, cost.batch
    ('net', 8)
    """
    found = []
    for size in batch_sizes:
        if not is_whole(size, least=1):
            raise UserError(f"a batch size must be a positive integer, got {size!r}", hint="for example 1")
        inputs_here = random_batch(inputs, size, seed=0)
        ready = ((model, to_model_device(model, inputs_here)) for model in networks.values())
        calls: list[Callable[[], object]] = [partial(call_model, *pair) for pair in ready]
        calls += [partial(run, inputs_here) for run in (runs or {}).values()]
        with ExitStack() as stack, torch.no_grad():
            for model in networks.values():
                stack.enter_context(eval_mode(model))
            # All in one call, so that they are measured in turns under the same load.
            times = time_calls(calls, seconds=seconds, threads=threads)
        names = [*networks, *(runs or {})]
        for name, latency in zip(names, times, strict=True):
            # Storages of an exported file are not visible to torch.
            seen = networks.get(name)
            peak = None if seen is None else measure.peak_memory(seen, to_model_device(seen, inputs_here))
            found.append(Cost(name, size, latency, peak))
    return found


def to_model_device(model: nn.Module, inputs: Any) -> Any:
    """Inputs moved to the model's device."""
    return inputs_to_device(inputs, device_of(model))
