"""A plan: the indices to remove from each parameter, as plain data that applies to any fresh model."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from secateur.display import Shown
from secateur.errors import UserError
from secateur.graph.channel_masks import ChannelMasks, Keep
from secateur.graph.dependency import DependencyGraph
from secateur.graph.labels import IntArray
from secateur.graph.trace.example_inputs import Inputs
from secateur.graph.trace.tape import Tape
from secateur.hashing import json_sha256
from secateur.surgery.input_json import inputs_from_json, inputs_to_json

SCHEMA_VERSION = 1
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Slice:
    """The indices removed from one dimension of one parameter or buffer."""

    tensor: str
    dim: int
    removed: tuple[int, ...]


@dataclass(frozen=True)
class Cut:
    """The channels one group loses; groups with a common number in ``ties`` keep equal counts."""

    group: str
    channels: int
    kept: int
    slices: tuple[Slice, ...]
    ties: tuple[int, ...] = ()


@dataclass(frozen=True)
class Repair:
    """A width that the model's own code reads from an attribute: its value before and after."""

    module: str
    attribute: str
    before: Any
    after: Any


@dataclass(frozen=True, repr=False)
class Plan(Shown):
    """Everything needed to prune a module of the architecture it was made for.

    ``shapes`` are those of the parameters and buffers it expects, ``cuts`` the channels each group loses.
    ``notes`` say in words what differs from the request. ``heads`` and ``logits`` are the settings of
    ``trace``.

    >>> import secateur, torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2)).eval()
    >>> plan = secateur.plan(secateur.trace(model, torch.rand(1, 3)), sparsity=0.5)
    >>> plan.shapes_after()["0.weight"], Plan.from_json(plan.to_json()) == plan
    ((2, 3), True)
    """

    criterion: str
    sparsity: float
    scope: str
    seed: int
    shapes: Shapes
    inputs: Inputs
    cuts: tuple[Cut, ...]
    repairs: tuple[Repair, ...] = ()
    notes: tuple[str, ...] = ()
    heads: str = "width"
    logits: str | int | None = None
    graph: DependencyGraph | None = field(default=None, compare=False, repr=False)

    def _shown(self) -> tuple[str, list[tuple[str, str]]]:
        lost = sum(cut.channels - cut.kept for cut in self.cuts)
        amount = f"sparsity {self.sparsity:.3g}: {lost:,} channels of {len(self.cuts)} groups"
        title = f"Plan by {self.criterion} at {amount}"
        rows = [(cut.group, f"{cut.channels} → {cut.kept}") for cut in self.cuts]
        return title, [*(("note", note) for note in self.notes[:3]), *rows]

    def removed(self) -> Mapping[tuple[str, int], tuple[int, ...]]:
        """All removed indices, sorted, for each dimension of each tensor."""
        return self._removed

    @cached_property
    def masks(self) -> ChannelMasks:
        """The kept channels and the expected shape of every value, on the graph the plan was made from."""
        assert self.graph is not None
        return _masks(self.graph, self)

    @cached_property
    def _removed(self) -> dict[tuple[str, int], tuple[int, ...]]:
        together: dict[tuple[str, int], list[tuple[int, ...]]] = {}
        for cut in self.cuts:
            for part in cut.slices:
                together.setdefault((part.tensor, part.dim), []).append(part.removed)
        return {
            key: parts[0] if len(parts) == 1 else tuple(sorted({i for part in parts for i in part}))
            for key, parts in sorted(together.items())
        }

    def shapes_after(self) -> Shapes:
        """Shapes of all parameters and buffers after surgery."""
        after = {name: list(shape) for name, shape in self.shapes.items()}
        for (name, dim), indices in self.removed().items():
            after[name][dim] -= len(indices)
        return {name: tuple(shape) for name, shape in after.items()}

    def count_after(self, names: set[str]) -> int:
        """The number of elements of the named tensors after surgery."""
        return sum(prod(shape) for name, shape in self.shapes_after().items() if name in names)

    def without(self, groups: set[str], note: str) -> "Plan":
        """The plan without the cuts of ``groups`` and of all groups whose counts are tied to theirs."""
        dropped, tied = set(groups), set[int]()
        while True:
            tied |= {tie for cut in self.cuts if cut.group in dropped for tie in cut.ties}
            more = {cut.group for cut in self.cuts if tied & set(cut.ties)} | dropped
            if more == dropped:
                break
            dropped = more
        cuts = tuple(cut for cut in self.cuts if cut.group not in dropped)
        return replace(self, cuts=cuts, notes=(*self.notes, note))

    @property
    def fingerprint(self) -> str:
        """sha256 of the plan's JSON."""
        return json_sha256(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """The plan as dicts, lists, strings and numbers, for JSON."""
        return {
            "schema_version": SCHEMA_VERSION,
            "criterion": self.criterion,
            "sparsity": self.sparsity,
            "scope": self.scope,
            "seed": self.seed,
            "shapes": {name: list(shape) for name, shape in sorted(self.shapes.items())},
            **inputs_to_json(self.inputs),
            "cuts": [
                {
                    "group": cut.group,
                    "channels": cut.channels,
                    "kept": cut.kept,
                    "ties": list(cut.ties),
                    "slices": [
                        {"tensor": part.tensor, "dim": part.dim, "removed": list(part.removed)}
                        for part in cut.slices
                    ],
                }
                for cut in self.cuts
            ],
            "repairs": [
                {
                    "module": r.module,
                    "attribute": r.attribute,
                    "before": _plain(r.before),
                    "after": _plain(r.after),
                }
                for r in self.repairs
            ],
            "notes": list(self.notes),
            **({} if self.heads == "width" else {"heads": self.heads}),
            **({} if self.logits is None else {"logits": self.logits}),
        }

    @staticmethod
    def from_json(data: Any) -> "Plan":
        """Read a plan back.

        Raises:
            UserError: it is not a plan, or of another version.
        """
        if not isinstance(data, Mapping) or "cuts" not in data:
            raise UserError("this is not a pruning plan", hint="expected the JSON that Plan.to_json() gives")
        if data.get("schema_version") != SCHEMA_VERSION:
            raise UserError(
                f"the plan has schema version {data.get('schema_version')}, not {SCHEMA_VERSION}",
                hint="use the version of secateur that wrote it",
            )
        try:
            return _parse(data)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(
                f"the pruning plan is damaged: {type(error).__name__}: {error}", hint="make the plan again"
            ) from error


def masks_of(graph: DependencyGraph, plan: Plan) -> ChannelMasks:
    """Expected shapes under a plan."""
    return plan.masks if plan.graph is graph else _masks(graph, plan)


def _masks(graph: DependencyGraph, plan: Plan) -> ChannelMasks:
    return ChannelMasks(kept_atoms(graph, plan), graph.marks, graph.statistics, Tape(), {})


def kept_atoms(graph: DependencyGraph, plan: Plan) -> Keep:
    """Which atoms of the graph stay under a plan, as ``ChannelMasks`` takes them."""
    keep = np.ones(graph.atoms.size + 1, dtype=bool)
    # The layers of a group share one tuple object, which is converted once.
    arrays: dict[int, IntArray] = {}
    for key, indices in plan.removed().items():
        if id(indices) not in arrays:
            arrays[id(indices)] = np.fromiter(indices, np.int64, len(indices))
        keep[graph.atoms.starts[key] + arrays[id(indices)]] = False
    return keep


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _restored(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _parse(data: Mapping[str, Any]) -> Plan:
    cuts = tuple(
        Cut(
            str(cut["group"]),
            int(cut["channels"]),
            int(cut["kept"]),
            tuple(
                Slice(str(part["tensor"]), int(part["dim"]), tuple(sorted(int(i) for i in part["removed"])))
                for part in cut["slices"]
            ),
            tuple(int(tie) for tie in cut["ties"]),
        )
        for cut in data["cuts"]
    )
    repairs = tuple(
        Repair(r["module"], r["attribute"], _restored(r["before"]), _restored(r["after"]))
        for r in data["repairs"]
    )
    return Plan(
        str(data["criterion"]),
        float(data["sparsity"]),
        str(data["scope"]),
        int(data["seed"]),
        {str(name): tuple(int(size) for size in shape) for name, shape in data["shapes"].items()},
        inputs_from_json(data),
        cuts,
        repairs,
        tuple(str(note) for note in data["notes"]),
        str(data.get("heads", "width")),
        data.get("logits"),
    )
