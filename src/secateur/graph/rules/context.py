"""The type of a rule, what it may ask of the tracer, and the register of rules."""

from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from secateur.graph.atoms import Atoms
from secateur.graph.labels import Factor, IntArray, Marks, Shape
from secateur.graph.trace.tape import Call, Ref


class RuleContext(Protocol):
    """What a rule sees of the tracer: the labels of earlier values, and the atoms it joins or freezes."""

    @property
    def atoms(self) -> Atoms:
        """Where channels are joined (``union``, ``merge``), frozen, and held to equal counts."""

    def of(self, ref: Ref) -> Marks:
        """Labels of an argument."""

    def operands(self, call: Call, *names: str) -> list[Marks]:
        """Labels of the tensors among the arguments: of these names, where given, or of all."""

    def shape(self, number: int | None) -> Shape:
        """Shape of a value in the dense run."""

    def is_mask(self, ref: Ref) -> bool:
        """Whether an argument holds true and false, and as an index picks from all of its dimensions."""

    def picked(self, ref: Ref) -> "Flags | None":
        """What a mask by which a call picks holds, if the run noted it."""

    def state(self, operand: int) -> IntArray | None:
        """The labels that a fill among the operands of this concatenation stands for, if that is known."""

    def channel_dim(self, number: int | None, split: range) -> int | None:
        """Which of the dimensions that one was split into the operations behind take as channels, if any."""

    def reshaped(self, marks: Marks, shape: Shape) -> Marks:
        """Labels after a row-major reshape."""

    def is_read(self, number: int | None) -> bool:
        """Whether a later operation, or the caller of the model, reads this result."""

    def statistic(self, call: Call) -> None:
        """Note that this call computes statistics over channels (see the law in ``rules``)."""

    def freeze_all(self, call: Call, why: str) -> None:
        """Freeze every label that reaches this call."""


Result = Marks | tuple[Marks | None, ...] | None
"""Labels of the result, or of each result; ``None`` for one that has none."""

Rule = Callable[[RuleContext, Call], Result]
Flags = npt.NDArray[np.bool_]
R = TypeVar("R", bound=Rule)
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[R], R]:
    """Register a rule for operations.

    Args:
        names: ATen names without namespace and overload (``"view"``), or qualified ones (``"mylib::op"``).
            In-place variants (``"relu_"``) share the rule of the plain name.

    >>> @rule("mylib::twice")
    ... def twice(context, call):
    ...     return context.of(call.tensor("x"))
    >>> find("mylib::twice") is twice
    True
    """

    def register(function: R) -> R:
        for name in names:
            RULES[name if "::" in name else f"aten::{name}"] = function
        return function

    return register


def find(name: str) -> Rule | None:
    """The rule for a qualified operation name; in-place variants share their plain operation's."""
    return RULES.get(name) or RULES.get(name.rstrip("_"))


def each_result(
    context: RuleContext, call: Call, factors: Iterable[Factor], weight: bool
) -> tuple[Marks | None, ...]:
    """The same labels for every tensor that a call returns, each with its own shape."""
    found = tuple(factors)
    return tuple(
        None if number is None else Marks(context.shape(number), found, (), weight) for number in call.outputs
    )
