"""A cell of a study: one stage at one point of the grid, the unit of work."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from secateur.hashing import canonical, derive_seed, restore
from secateur.recipes import PARTS, Recipe
from secateur.registry import CRITERIA

Stage = Literal["train", "prune", "tune", "attack"]
Role = Literal["dense", "dense_tuned", "untuned", "pruned", "round"]


@dataclass(frozen=True)
class Cell:
    """One unit of work with everything that determines its numbers.

    Attributes:
        id: 32 hex digits, a hash of everything that can change the numbers of this cell.
        stage: which function of ``stages`` carries it out.
        parent: the id of the cell whose network this one starts from; None for training.
        axes: its grid point, in the study's labels: model, seed, criterion, sparsity, arm, attack; a step of
            an iterative schedule also has its number, ``round``, and the sparsity it is ``towards``.
        role: what it is compared as; a "round" is a step of the iterative schedule and never compared.
        settings: the resolved settings of the stage; plain data, infinities are floats.

    >>> axes = {"model": "plain", "seed": 0, "criterion": "l1", "sparsity": 0.5, "arm": "none"}
    >>> axes["attack"] = None
    >>> Cell("0" * 32, "prune", "1" * 32, axes, "untuned", {}).label
    'prune plain/0 l1 0.5'
    """

    id: str
    stage: Stage
    parent: str | None
    axes: Mapping[str, Any]
    role: Role
    settings: Mapping[str, Any]

    @property
    def seed(self) -> int:
        """The seed of every random draw of this cell, in [0, 2**63)."""
        return derive_seed("cell", self.id)

    @property
    def masked(self) -> bool:
        """Whether single weights of its network are masked, instead of channels removed."""
        # An unknown criterion is no error here: a run of a plug-in can be read without the plug-in.
        criterion = self.axes["criterion"]
        return criterion is not None and CRITERIA.facts(criterion).get("kind") == "weights"

    @property
    def label(self) -> str:
        """The cell in words, for progress and messages."""
        axes = self.axes
        parts = [self.stage, f"{axes['model']}/{axes['seed']}"]
        if axes["criterion"]:
            parts.append(f"{axes['criterion']} {axes['sparsity']:g}")
        if axes["arm"] != "none":
            parts.append(str(axes["arm"]))
        if axes["attack"]:
            parts.append(str(axes["attack"]))
        if "round" in axes:
            parts.append(f"round {axes['round']} towards {axes['towards']:g}")
        return " ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """The cell as plain JSON data."""
        return {
            "id": self.id,
            "stage": self.stage,
            "parent": self.parent,
            "axes": canonical(self.axes),
            "role": self.role,
            "settings": canonical(self.settings),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Cell":
        """The inverse of :meth:`to_json`."""
        return cls(
            id=data["id"],
            stage=data["stage"],
            parent=data["parent"],
            axes=dict(data["axes"]),
            role=data["role"],
            settings=restore(data["settings"]),
        )


def recipe_from(data: Mapping[str, Any]) -> Recipe:
    """The recipe in a cell's settings.

    >>> recipe_from({"epochs": 3, "adversary": {"epsilon": 0.1, "step_size": 0.02, "norm": "inf"}}).epochs
    3
    """
    fields = dict(restore(data))  # JSON has no infinity, which the norm of an adversary needs
    for name, part in PARTS.items():
        if fields.get(name) is not None:
            fields[name] = part(**fields[name])
    return Recipe(**fields)
