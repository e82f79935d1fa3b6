"""The dependency graph of one model: groups, the thesis' objects, explanations and pictures."""

from dataclasses import dataclass, field
from typing import Any

from torch import nn

from secateur.graph.atoms import Atoms
from secateur.graph.groups import Frozen, Group, Tie
from secateur.graph.labels import IntArray, Marks
from secateur.graph.show import explain as _explain
from secateur.graph.show import thesis_matrices as _views
from secateur.graph.show.draw import draw as _draw
from secateur.graph.trace.example_inputs import InputSpec
from secateur.graph.trace.tape import Tape
from secateur.graph.width_attributes import Learned


@dataclass(frozen=True, eq=False)
class DependencyGraph:
    """Which channels of a model can only be removed together, and why.

    ``groups`` can be pruned; ``frozen`` cannot, each with the operation and source line that says so;
    ``ties`` are counts that must stay equal (heads, groups of a normalisation, halves of a gate).
    ``whole`` is the head of each atom, if heads were to go as wholes; ``logits`` the output that counts.
    """

    model: nn.Module = field(repr=False)
    inputs: tuple[InputSpec, ...]
    groups: tuple[Group, ...]
    ties: tuple[Tie, ...] = field(repr=False)
    frozen: tuple[Frozen, ...] = field(repr=False)
    tape: Tape = field(repr=False)
    marks: dict[int, Marks] = field(repr=False)
    statistics: frozenset[int] = field(repr=False)
    atoms: Atoms = field(repr=False)
    learned: Learned = field(repr=False, default_factory=Learned)
    whole: IntArray | None = field(repr=False, default=None)
    logits: str | int | None = None

    @property
    def heads(self) -> str:
        """What can go of attention: ``width`` or ``whole``."""
        return "width" if self.whole is None else "whole"

    def __getitem__(self, name: str) -> Group:
        return next(group for group in self.groups if group.name == name)

    @property
    def layers(self) -> list["_views.Layer"]:
        """Steps in the order in which they ran, each with its sides f⁻ and f⁺ (thesis 3.2)."""
        return _views.layers(self)

    def dependency_matrix(self) -> "_views.BoolArray":
        """The thesis' D (Eq. 3.1–3.2, Algorithm 2): which layer sides depend on each other."""
        return _views.dependency_matrix(self)

    def grouping_matrix(self) -> "_views.BoolArray":
        """The thesis' G (Algorithm 1): which layer sides lie in one group, the closure of D."""
        return _views.grouping_matrix(self)

    def explain(self) -> str:
        """What can be pruned, what cannot and why, in words."""
        return _explain.explain(self)

    def draw(self, path: str | None = None) -> str:
        """The layers, dependencies and groups as an SVG picture; written to ``path`` if given."""
        return _draw(self, path)

    def to_json(self) -> dict[str, Any]:
        """Groups, frozen channels and shares as plain data."""
        return _explain.to_json(self)
