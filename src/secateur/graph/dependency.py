"""The dependency graph of one model."""

from dataclasses import dataclass, field
from typing import Any

from torch import nn

from secateur.display import Shown
from secateur.graph.atoms import Atoms
from secateur.graph.groups import Frozen, Group, Tie
from secateur.graph.labels import IntArray, Marks
from secateur.graph.show import explain as _explain
from secateur.graph.show import thesis_matrices as _thesis
from secateur.graph.show.draw import draw as _draw
from secateur.graph.trace.example_inputs import Inputs
from secateur.graph.trace.tape import Tape
from secateur.graph.width_attributes import Learned


@dataclass(frozen=True, eq=False, repr=False)
class DependencyGraph(Shown):
    """Which channels of a model can only be removed together, and why.

    Attributes:
        model: the traced model.
        inputs: shapes, types and ranges of the tensors among the example inputs, and where they are.
        groups: channels that can be pruned.
        ties: counts that must stay equal (heads, groups of a normalisation, halves of a gate).
        frozen: channels that must stay, each with the operation and source line that is the reason.
        tape: the recorded forward pass.
        marks: the labels of each of its values.
        statistics: positions of the calls that depend on which channels there are.
        logits: the output that proofs compare, all if None.
        idle: modules and parameters that did not run on the example inputs.
        numbers: parameters and buffers that the code reads as plain numbers.
        example: the example inputs, kept only where the code decides by numbers.
        learned: widths that the model's code reads, found when plans were made.

    >>> import torch
    >>> from torch import nn
    >>> from secateur.graph import trace
    >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> graph = trace(model, torch.zeros(1, 4))
    >>> graph["0.weight[0]"].size
    3
    >>> [str(item.reason) for item in graph.frozen][-1]
    'is an output of the model (addmm, in 2)'
    """

    model: nn.Module = field(repr=False)
    inputs: Inputs
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
    idle: tuple[str, ...] = ()
    numbers: frozenset[str] = frozenset()
    example: Any = field(repr=False, default=None)

    @property
    def heads(self) -> str:
        """How attention is pruned: by ``width`` or by ``whole`` heads."""
        return "width" if self.whole is None else "whole"

    def _shown(self) -> tuple[str, list[tuple[str, str]]]:
        channels = sum(group.size for group in self.groups)
        name, groups = type(self.model).__name__, len(self.groups)
        title = f"DependencyGraph of {name}: {channels:,} channels in {groups} groups"
        stay = f"{title}, {len(self.frozen)} dimensions stay whole" if self.frozen else title
        return stay, [(group.name, f"{group.size} channels") for group in self.groups]

    def __getitem__(self, name: str) -> Group:
        return next(group for group in self.groups if group.name == name)

    @property
    def layers(self) -> list["_thesis.Layer"]:
        """The thesis' layers (3.2) in the order in which they ran, each with its sides f⁻ and f⁺.

        >>> import torch
        >>> from secateur.graph import trace
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU())
        >>> [layer.kind for layer in trace(model, torch.zeros(1, 4)).layers]
        ['Linear', 'ReLU']
        """
        return _thesis.layers(self)

    def dependency_matrix(self) -> "_thesis.BoolArray":
        """The thesis' D (Eq. 3.1–3.2, Algorithm 2): which layer sides depend on each other.

        A Boolean matrix over f₁⁻, f₁⁺, f₂⁻, f₂⁺, …

        >>> import torch
        >>> from torch import nn
        >>> from secateur.graph import trace
        >>> graph = trace(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), torch.zeros(1, 4))
        >>> graph.dependency_matrix().astype(int)
        array([[0, 0, 0, 0],
               [0, 0, 1, 0],
               [0, 1, 0, 1],
               [0, 0, 1, 0]])
        """
        return _thesis.dependency_matrix(self)

    def grouping_matrix(self) -> "_thesis.BoolArray":
        """The thesis' G (Algorithm 1): which layer sides lie in one group, the transitive closure of D.

        >>> import torch
        >>> from torch import nn
        >>> from secateur.graph import trace
        >>> graph = trace(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), torch.zeros(1, 4))
        >>> bool(graph.grouping_matrix()[1, 3])
        True
        """
        return _thesis.grouping_matrix(self)

    def explain(self) -> str:
        """What can be pruned, what cannot and why, as a page of text.

        >>> import torch
        >>> from torch import nn
        >>> from secateur.graph import trace
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> print(trace(model, torch.zeros(1, 4)).explain())
        21 of 23 (91.3%) parameters and ...
        <BLANKLINE>
        group 0: 0.weight[0], 3 channels
          is produced by dimension 0 of 0.weight[0:3]
        ...
        """
        return _explain.explain(self)

    def draw(self, path: str | None = None) -> str:
        """The layers, dependencies and groups as an SVG picture; also written to ``path`` if given.

        >>> import torch
        >>> from secateur.graph import trace
        >>> trace(torch.nn.Linear(4, 3), torch.zeros(1, 4)).draw()[:4]
        '<svg'
        """
        return _draw(self, path)

    def to_json(self) -> dict[str, Any]:
        """Groups, frozen channels and shares as plain data, ready for ``json``.

        >>> import torch
        >>> from secateur.graph import trace
        >>> facts = trace(torch.nn.Linear(4, 3), torch.zeros(1, 4)).to_json()
        >>> facts["parameters"], facts["prunable_parameters"]
        (15, 0)
        """
        return _explain.to_json(self)
