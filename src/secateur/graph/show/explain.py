"""The graph as text and as plain data: what can be pruned, and why the rest stays."""

from collections import Counter
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from secateur.graph.channel_masks import ChannelMasks
from secateur.graph.flops import macs
from secateur.graph.trace.tape import Tape
from secateur.text import counted, first_few

if TYPE_CHECKING:
    from secateur.graph.dependency import DependencyGraph
    from secateur.graph.groups import Group, Member


def prunable_parameters(graph: "DependencyGraph") -> tuple[int, int]:
    """How many parameters lie in at least one prunable channel, and how many the traced model has."""
    prunable = total = 0
    touched: dict[str, dict[int, set[int]]] = {}
    for group in graph.groups:
        if group.size > 1:
            for member in group.members:
                touched.setdefault(member.tensor, {}).setdefault(member.dim, set()).update(
                    member.indices.tolist()
                )
    # From the tape, because the model may have been pruned since.
    for value in graph.tape.values:
        if value.kind == "parameter":
            prunable_indices = touched.get(value.name, {})
            total += prod(value.shape)
            prunable += prod(value.shape) - prod(
                size - len(prunable_indices.get(dim, ())) for dim, size in enumerate(value.shape)
            )
    return prunable, total


def prunable_macs(graph: "DependencyGraph") -> tuple[int, int]:
    """Multiply-adds that go if every prunable channel goes, and how many the traced model has."""
    keep = np.ones(graph.atoms.size + 1, dtype=bool)
    for group in graph.groups:
        for member in group.members if group.size > 1 else ():
            keep[graph.atoms.starts[member.tensor, member.dim] + member.indices] = False
    masks = ChannelMasks(keep, graph.marks, graph.statistics, Tape(), {})
    total = macs(graph.tape)
    return total - macs(graph.tape, masks.expected_shape), total


def explain(graph: "DependencyGraph") -> str:
    """A page of text: shares, groups with their slices, frozen channels with reasons."""
    channels = sum(group.size for group in graph.groups)
    stuck = sum(item.size for item in graph.frozen)
    lines = [
        f"{_share(*prunable_parameters(graph))} parameters and {_share(*prunable_macs(graph))} multiply-adds "
        f"lie in prunable channels: {channels:,} channels in {len(graph.groups)} groups; "
        f"{stuck:,} channels stay.",
        "",
    ]
    for number, group in enumerate(graph.groups):
        lines += [
            f"group {number}: {group.name}, {counted(group.size, 'channel')}",
            *_slices(group),
            "",
        ]
    if graph.ties:
        lines.append("counts that must stay equal:")
        lines += [f"  {len(tie.rows)} rows, because of {tie.reason}" for tie in graph.ties]
        lines.append("")
    if graph.frozen:
        lines.append("channels that stay:")
        lines += [f"  {item.size} in {first_few(item.axes, 3)}: {item.reason}" for item in graph.frozen]
    return "\n".join(lines).rstrip() + "\n"


def _share(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,} ({part / max(whole, 1):.1%})"


_WORDS = {"out": "is produced by", "in": "is read by", "with": "goes along in"}


def _slices(group: "Group") -> list[str]:
    lines = []
    for member in group.members:
        where = f"dimension {member.dim} of {member.tensor}[{_position(member)}]"
        each = len(member.indices) / group.size
        many = "" if each == 1 else f", {each:g} indices per channel"
        lines.append(f"  {_WORDS[member.role]} {where}{many}")
    parts = len(np.unique(group.parts))
    if parts > 1:
        lines.append(f"  in {parts} parts (heads, groups or halves) that each keep their own count")
    return lines


def _position(member: "Member") -> str:
    """The member as an index into its tensor: ``:, 0:6 and 9:12``."""
    ordered = np.unique(member.indices)
    edges = np.flatnonzero(np.diff(ordered) > 1) + 1
    runs = [f"{run[0]}:{run[-1] + 1}" for run in np.split(ordered, edges)]
    return ", ".join([":"] * member.dim + [first_few(runs, 3, between=" and ")])


def to_json(graph: "DependencyGraph") -> dict[str, Any]:
    """The same facts as plain data."""
    prunable, total = prunable_parameters(graph)
    macs_prunable, macs_total = prunable_macs(graph)
    reasons = Counter(item.reason.why for item in graph.frozen)
    return {
        "schema_version": 2,
        "parameters": total,
        "prunable_parameters": prunable,
        "macs": macs_total,
        "prunable_macs": macs_prunable,
        "groups": [
            {
                "name": group.name,
                "channels": group.size,
                "parts": len(np.unique(group.parts)),
                "members": [
                    {"tensor": m.tensor, "dim": m.dim, "role": m.role, "indices": len(m.indices)}
                    for m in group.members
                ],
            }
            for group in graph.groups
        ],
        "ties": [{"rows": len(tie.rows), "reason": str(tie.reason)} for tie in graph.ties],
        "frozen": [
            {
                "channels": item.size,
                "axes": list(item.axes),
                "why": item.reason.why,
                "operation": item.reason.op,
                "module": item.reason.module,
                "source": item.reason.source,
            }
            for item in graph.frozen
        ],
        "frozen_reasons": dict(reasons),
    }
