"""What of every value stays under a selection, and how removed positions are set to zero or dropped."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from secateur.graph.labels import Factor, Marks
from secateur.graph.trace.tape import Tape

Keep = npt.NDArray[np.bool_]


@dataclass
class ChannelMasks:
    """Which atoms are kept, what the values' labels are, and the pruned run to take constants from.

    ``keep`` has one more entry, which is true, for the positions that no channel owns (-1).
    """

    keep: Keep
    marks: Mapping[int, Marks]
    statistics: frozenset[int]
    pruned: Tape
    matches: Mapping[int, int]
    _stays: dict[Factor, Keep | None] = field(default_factory=dict, init=False, repr=False)
    _sizes: dict[int, tuple[int, ...]] = field(default_factory=dict, init=False, repr=False)

    def of(self, factor: Factor) -> Keep | None:
        """Which positions of a factor stay, ``None`` if all do."""
        if factor not in self._stays:
            kept = self.keep[factor.atoms]
            self._stays[factor] = None if kept.all() else kept
        return self._stays[factor]

    def loses_channels(self, number: int) -> bool:
        """Whether some positions of a value go."""
        return any(self.of(factor) is not None for factor in self.marks[number].factors)

    def kept(self, number: int) -> list[tuple[int, Keep]]:
        """The dimensions of a value that shrink, and which positions stay: those that every factor keeps."""
        found: dict[int, Keep] = {}
        for factor in self.marks[number].factors:
            if (kept := self.of(factor)) is None:
                continue
            found[factor.column] = found[factor.column] & kept if factor.column in found else kept
        return list(found.items())

    def expected_shape(self, number: int) -> tuple[int, ...]:
        """The shape of a value after surgery."""
        if number not in self._sizes:
            shape = list(self.marks[number].shape)
            for column, kept in self.kept(number):
                row = [0 if dim != column else slice(None) for dim in range(kept.ndim)]
                shape[column] = int(np.count_nonzero(kept[tuple(row)]))
            self._sizes[number] = tuple(shape)
        return self._sizes[number]

    def fits(self, number: int, shape: tuple[int, ...]) -> bool:
        """Whether a value may have this shape after surgery; free dimensions may have any size."""
        expected = self.expected_shape(number)
        if shape == expected:
            return True
        free = self.marks[number].free
        return len(shape) == len(expected) and all(
            a == b or anything for a, b, anything in zip(shape, expected, free, strict=True)
        )

    def apply(self, number: int, tensor: Tensor) -> Tensor:
        """Set removed positions to zero; weights need not be, what they produce is masked."""
        if not tensor.is_floating_point() or self.marks[number].weight:
            return tensor
        for _, stays in self.kept(number):
            kept = torch.from_numpy(stays).to(tensor.device)
            tensor = torch.where(kept, tensor, torch.zeros((), dtype=tensor.dtype, device=tensor.device))
        return tensor

    def compact(self, number: int, tensor: Tensor) -> Tensor:
        """Drop removed positions."""
        for column, kept in self.kept(number):
            tensor = torch.take_along_dim(tensor, _positions(kept, column).to(tensor.device), column)
        return tensor

    def scatter(self, number: int, tensor: Tensor) -> Tensor:
        """Undo ``compact``: removed positions are zero."""
        for column, kept in reversed(self.kept(number)):
            shape = list(tensor.shape)
            shape[column] = self.marks[number].shape[column]
            where = _positions(kept, column).to(tensor.device).expand(tensor.shape)
            blank = torch.zeros(shape, dtype=tensor.dtype, device=tensor.device)
            tensor = blank.scatter(column, where, tensor)
        return tensor


def _positions(kept: Keep, column: int) -> Tensor:
    """Where the kept positions along a dimension are, in order."""
    count = int(kept.sum(axis=column).min())
    order = np.argsort(~kept, axis=column, kind="stable").take(range(count), column)
    return torch.from_numpy(np.ascontiguousarray(order))
