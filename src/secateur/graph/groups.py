"""From atoms to groups: channels that touch the same dimensions, and ties between their counts.

A channel is a connected component of atoms. Channels with the same *signature*, the multiset of the axes
they touch, form one group. Within a group, channels in the same rows form one *part*, whose count is chosen
on its own.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from secateur.graph.atoms import Atoms, Axis, Reason
from secateur.graph.labels import IntArray


@dataclass(frozen=True, eq=False)
class Member:
    """One dimension of one parameter or buffer that loses indices with a group.

    ``indices[i]`` along dimension ``dim`` of ``tensor`` belongs to channel ``channels[i]`` of the group.
    ``role`` is ``out`` where the layer produces the channel, ``in`` where it sums over it, ``with`` for
    parameters of the channel itself (biases, normalisation).
    """

    tensor: str
    dim: int
    indices: IntArray
    channels: IntArray
    role: str

    def __str__(self) -> str:
        return f"{self.tensor}[{self.dim}]"


@dataclass(frozen=True, eq=False)
class Group:
    """Channels of one kind: removing channel ``c`` removes its indices from every member.

    ``parts[c]`` is the part that channel ``c`` belongs to. A part (a head, half of a gate, a group of a
    normalisation) keeps a count of its own; channels of one part are interchangeable.

    >>> import torch
    >>> from torch import nn
    >>> from secateur.graph import trace
    >>> model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.GroupNorm(2, 4), nn.Conv2d(4, 5, 1))
    >>> group = trace(model, torch.zeros(1, 3, 8, 8)).groups[0]
    >>> group.size, list(group.part_sizes.values())
    (4, [2, 2])
    >>> for member in group.members:
    ...     print(member, member.role)
    0.weight[0] out
    0.bias[0] with
    1.weight[0] with
    1.bias[0] with
    2.weight[1] in
    """

    name: str
    size: int
    members: tuple[Member, ...]
    parts: IntArray

    @cached_property
    def part_sizes(self) -> dict[int, int]:
        """How many channels each part has."""
        numbers, sizes = np.unique(self.parts, return_counts=True)
        return dict(zip(numbers.tolist(), sizes.tolist(), strict=True))

    def __str__(self) -> str:
        return f"{self.name}: {self.size} channels in {', '.join(str(member) for member in self.members)}"


@dataclass(frozen=True)
class Row:
    """One row of a tie: ``fixed`` positions always stay; each part counts as often as it occurs."""

    fixed: int
    parts: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Tie:
    """Rows that must keep equally many positions, and the operation that needs it."""

    rows: tuple[Row, ...]
    reason: Reason


@dataclass(frozen=True)
class Frozen:
    """Channels that must stay: their indices along each dimension, and the reason."""

    name: str
    size: int
    axes: tuple[str, ...]
    reason: Reason
    indices: dict[str, IntArray] = field(default_factory=dict, repr=False, compare=False)


def splitmix64(values: IntArray) -> npt.NDArray[np.uint64]:
    """A fixed 64-bit hash of each number: the sum of hashes identifies a multiset of numbers."""
    z = (values.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def resolve_rows(atoms: Atoms, component: IntArray) -> list[tuple[IntArray, Reason]]:
    """The rows of equal counts as matrices of components, without those that are always equal."""
    found: dict[tuple[int, bytes], tuple[IntArray, Reason]] = {}
    for rows, reason in atoms.rows.values():
        ids = np.where(rows >= 0, component[rows], -1)
        # Where a whole row is one channel (heads that go as wholes), the rows themselves are counted.
        while ids.ndim > 1 and bool((ids == ids[..., :1]).all()):
            ids = ids[..., 0]
        if ids.ndim < 2:
            continue
        ids = np.unique(np.sort(ids.reshape(-1, ids.shape[-1]), axis=1), axis=0)
        # Rows of the same channels are equal by themselves.
        if len(ids) > 1:
            found.setdefault((len(ids), ids.tobytes()), (ids, reason))
    return list(found.values())


def build_groups(atoms: Atoms) -> tuple[tuple[Group, ...], tuple[Tie, ...], tuple[Frozen, ...]]:
    """Groups, ties between the counts of their parts, and frozen channels."""
    count, component = atoms.components()
    reasons = frozen_components(atoms, component)
    axis_of = atoms.axis_of()
    first = _first_atoms(component, count)
    signature = np.zeros(count, dtype=np.uint64)
    np.add.at(signature, component, splitmix64(np.arange(len(atoms.axes)))[axis_of])
    matrices = resolve_rows(atoms, component)
    # Channels form one part if they lie in the same rows, too. Rows are numbered after the axes.
    part_mark = signature.copy()
    number = len(atoms.axes)
    for ids, _ in matrices:
        rows, inside = np.arange(number, number + len(ids)), ids >= 0
        np.add.at(part_mark, ids[inside], np.broadcast_to(splitmix64(rows)[:, None], ids.shape)[inside])
        number += len(ids)
    for part in atoms.parts:
        np.add.at(part_mark, np.unique(component[part]), splitmix64(np.array([number])))
        number += 1
    is_frozen = np.zeros(count, dtype=bool)
    is_frozen[list(reasons)] = True
    _, part_of = np.unique(np.where(is_frozen, np.uint64(0), part_mark), return_inverse=True)
    part_of = np.where(is_frozen, -1, part_of)
    found = _partition(np.flatnonzero(~is_frozen), signature, first)
    slices = _slices(atoms, component, axis_of, found)
    groups = _distinct(_group(own, part_of[ids]) for own, ids in zip(slices, found, strict=True))
    ties = tuple(tie for ids, reason in matrices if (tie := _tie(ids, reason, part_of)))
    return groups, ties, _frozen(atoms, component, axis_of, reasons, first)


def _distinct(groups: Iterable[Group]) -> tuple[Group, ...]:
    """The same groups with distinct names: of several in one packed projection the second ends in ``#2``."""
    seen = Counter[str]()
    found = []
    for group in groups:
        seen[group.name] += 1
        count = seen[group.name]
        found.append(group if count == 1 else replace(group, name=f"{group.name}#{count}"))
    return tuple(found)


def frozen_components(atoms: Atoms, component: IntArray) -> dict[int, Reason]:
    """Each frozen component with the first reason found for it."""
    reasons: dict[int, Reason] = {}
    for found, reason in atoms.frozen:
        for number in np.unique(component[found]):
            reasons.setdefault(int(number), reason)
    return reasons


def _partition(ids: IntArray, signature: npt.NDArray[np.uint64], first: IntArray) -> list[IntArray]:
    """Components with the same signature together, in order of their first atom."""
    # By first atom, in the order of the model's parameters: names and plans are the same in every run.
    ids = ids[np.argsort(first[ids], kind="stable")]
    _, start, own = np.unique(signature[ids], return_index=True, return_inverse=True)
    by_start = start[own]
    order = np.argsort(by_start, kind="stable")
    edges = np.flatnonzero(np.diff(by_start[order])) + 1
    return [part for part in np.split(ids[order], edges) if part.size]


def _first_atoms(component: IntArray, count: int) -> IntArray:
    """The smallest atom of each component."""
    first = np.zeros(count, dtype=np.int64)
    # Of several assignments to one component numpy keeps the last, here that of its smallest atom.
    first[component[::-1]] = np.arange(component.size)[::-1]
    return first


def _slices(
    atoms: Atoms, component: IntArray, axis_of: IntArray, together: Sequence[IntArray]
) -> list[list[tuple[Axis, Member]]]:
    """For each of several lists of components, the slices of all axes that they touch; channels in order."""
    count = component.max(initial=-1) + 1
    # numpy sorts integers of 16 bits by radix, in one pass.
    number = np.full(count, -1, dtype=np.min_scalar_type(-1 - len(together)))
    channel = np.full(count, -1, dtype=np.int64)
    for index, ids in enumerate(together):
        number[ids], channel[ids] = index, np.arange(len(ids))
    owner = number[component]
    found = np.flatnonzero(owner >= 0)
    found = found[np.argsort(owner[found], kind="stable")]
    owner, own_axis = owner[found], axis_of[found]
    edges = np.flatnonzero((np.diff(owner, prepend=-1) != 0) | (np.diff(own_axis, prepend=-1) != 0))
    produced, consumed = (
        np.logical_or.reduceat(role[found], edges).tolist() if edges.size else [] for role in atoms.roles()
    )
    channels = channel[component[found]]
    result: list[list[tuple[Axis, Member]]] = [[] for _ in together]
    bounds = [*edges.tolist(), len(found)]
    for start, stop, made, read in zip(bounds, bounds[1:], produced, consumed, strict=False):
        own = slice(start, stop)
        axis = atoms.axes[own_axis[start]]
        role = "out" if made else "in" if read else "with"
        member = Member(axis.tensor, axis.dim, found[own] - axis.start, channels[own], role)
        result[owner[start]].append((axis, member))
    return result


def _group(slices: list[tuple[Axis, Member]], parts: IntArray) -> Group:
    members = tuple(member for _, member in slices)
    name = next((str(member) for member in members if member.role == "out"), str(members[0]))
    return Group(name, len(parts), members, parts)


def _tie(ids: IntArray, reason: Reason, part_of: IntArray) -> Tie | None:
    rows = []
    for components, parts in zip(ids.tolist(), np.where(ids >= 0, part_of[ids], -1).tolist(), strict=True):
        inside: dict[int, list[int]] = {}
        for component, number in zip(components, parts, strict=True):
            if number >= 0:
                inside.setdefault(number, []).append(component)
        # A channel with several positions in a row (flattened images) counts as often.
        found = sorted((number, len(own) // len(set(own))) for number, own in inside.items())
        rows.append(Row(parts.count(-1), tuple(found)))
    return Tie(tuple(rows), reason) if any(row.parts for row in rows) else None


def _frozen(
    atoms: Atoms, component: IntArray, axis_of: IntArray, reasons: dict[int, Reason], first: IntArray
) -> tuple[Frozen, ...]:
    """Frozen channels, together where they lie along the same first dimension for the same reason."""
    numbers = np.fromiter(reasons, dtype=np.int64, count=len(reasons))
    numbers = numbers[np.argsort(first[numbers], kind="stable")]
    axes = axis_of[first[numbers]].tolist()
    # Hashing a reason is slow, and thousands of channels share a few.
    known: dict[int, Reason] = {}
    same: dict[Reason, Reason] = {}
    together: dict[tuple[int, int], list[int]] = {}
    for number, axis in zip(numbers.tolist(), axes, strict=True):
        reason = reasons[number]
        if id(reason) not in known:
            known[id(reason)] = same.setdefault(reason, reason)
        together.setdefault((axis, id(known[id(reason)])), []).append(number)
    parts = [np.array(found, dtype=np.int64) for found in together.values()]
    result = []
    for (axis, key), slices in zip(together, _slices(atoms, component, axis_of, parts), strict=True):
        indices = {str(own): member.indices for own, member in slices}
        size = len(together[axis, key])
        result.append(Frozen(str(atoms.axes[axis]), size, tuple(indices), known[key], indices))
    return tuple(result)


def lone_channels(model: nn.Module) -> Iterator[Frozen]:
    """Layers with a single channel: nothing can be removed, and dimensions of size 1 carry no labels."""
    for name, module in model.named_modules():
        if isinstance(module, (nn.modules.conv._ConvNd, nn.Linear)):
            dim = 1 if isinstance(module, nn.modules.conv._ConvTransposeNd) and module.groups == 1 else 0
            # A subclass may keep its weights elsewhere.
            weight = getattr(module, "weight", None)
            if isinstance(weight, Tensor) and weight.ndim > dim and weight.shape[dim] == 1:
                axis = f"{name}.weight[{dim}]".lstrip(".")
                reason = Reason("is the only channel of its layer", module=name)
                yield Frozen(axis, 1, (axis,), reason, {axis: np.zeros(1, dtype=np.int64)})
