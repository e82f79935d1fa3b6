"""Channel masks: which positions of every value stay when some channels are removed.

Not to be confused with ``pruning.weight_masks``, which set single weights to zero.
"""

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
    """Masks over the values of a tape, for one choice of channels.

    Attributes:
        keep: whether each atom stays; one more entry, true, for positions that no channel owns (-1).
        marks: the labels of the values.
        statistics: positions of the calls that depend on which channels there are.
        pruned: the tape of the pruned model, from which constants are taken.
        matches: the call of ``pruned`` for each call of the dense tape.
    """

    keep: Keep
    marks: Mapping[int, Marks]
    statistics: frozenset[int]
    pruned: Tape
    matches: Mapping[int, int]
    _stays: dict[Factor, Keep | None] = field(default_factory=dict, init=False, repr=False)
    _sizes: dict[int, tuple[int, ...]] = field(default_factory=dict, init=False, repr=False)

    def of(self, factor: Factor) -> Keep | None:
        """Whether each position of a factor stays, ``None`` if all do."""
        if factor not in self._stays:
            kept = self.keep[factor.atoms]
            self._stays[factor] = None if kept.all() else kept
        return self._stays[factor]

    def loses_channels(self, number: int) -> bool:
        """Whether some positions of a value are removed."""
        return any(self.of(factor) is not None for factor in self.marks[number].factors)

    def kept(self, number: int) -> list[tuple[int, Keep]]:
        """The dimensions of a value that shrink, and whether each position stays (every factor keeps it)."""
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
                # All rows keep equally many, so that the first one tells.
                row = [0 if dim != column else slice(None) for dim in range(kept.ndim)]
                shape[column] = int(np.count_nonzero(kept[tuple(row)]))
            self._sizes[number] = tuple(shape)
        return self._sizes[number]

    def fits(self, number: int, shape: tuple[int, ...]) -> bool:
        """Whether a value may have this shape after surgery: the expected one, but for free dimensions."""
        expected = self.expected_shape(number)
        if shape == expected:
            return True
        marks = self.marks[number]
        open_ = marks.free
        if marks.elastic:
            known = {factor.column for factor in marks.factors}
            open_ = tuple(dim not in known for dim in range(len(marks.shape)))
        return len(shape) == len(expected) and all(
            a == b or anything for a, b, anything in zip(shape, expected, open_, strict=True)
        )

    def apply(self, number: int, tensor: Tensor) -> Tensor:
        """Set removed positions to zero; weights stay, because what they produce is masked."""
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
        # The dimension that shrank last is restored first.
        for column, kept in reversed(self.kept(number)):
            shape = list(tensor.shape)
            shape[column] = self.marks[number].shape[column]
            where = _positions(kept, column).to(tensor.device).expand(tensor.shape)
            blank = torch.zeros(shape, dtype=tensor.dtype, device=tensor.device)
            tensor = blank.scatter(column, where, tensor)
        return tensor


def _positions(kept: Keep, column: int) -> Tensor:
    """The indices of the kept positions along a dimension, in order."""
    count = int(kept.sum(axis=column).min())
    # A stable sort puts kept positions first, in order, in rows that may keep different ones.
    order = np.argsort(~kept, axis=column, kind="stable").take(range(count), column)
    return torch.from_numpy(np.ascontiguousarray(order))
