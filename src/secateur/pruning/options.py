"""The keyword arguments of ``plan`` as types, for the functions that pass them on."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypedDict

from torch import Tensor


class SelectionOptions(TypedDict, total=False):
    """Which channels are removed, however many."""

    criterion: str | Callable[..., Tensor]
    scope: str
    selection: str
    reduction: str
    keep: Sequence[str]
    min_channels: int
    max_sparsity: float | None
    round_to: int
    batch: tuple[Tensor, Tensor] | None


class PlanOptions(SelectionOptions, total=False):
    """All keyword arguments of ``plan``."""

    sparsity: float
    rates: str | Mapping[str, float] | None
    parameters: float | int | None
    macs: float | int | None
    latency: float | str | None
    seed: int
    dense_sizes: Mapping[str, int] | None
