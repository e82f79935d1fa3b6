"""Rules: how each family of operations carries labels from its arguments to its results.

A rule is a function ``rule(tracer, call) -> Marks | tuple of Marks``, registered for ATen names without
namespace and overload (``"view"``); in-place variants (``"relu_"``) use the rule of the plain name. An
operation without a rule freezes every label that reaches it.
"""

from collections.abc import Callable
from typing import Any

from secateur.graph.labels import Marks

Rule = Callable[[Any, Any], "Marks | tuple[Marks | None, ...] | None"]
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a rule for operations: ATen names (``"view"``) or qualified ones (``"mylib::op"``)."""

    def register(function: Rule) -> Rule:
        for name in names:
            RULES[name if "::" in name else f"aten::{name}"] = function
        return function

    return register


def find(name: str) -> Rule | None:
    """The rule for a qualified operation name; in-place variants share their plain operation's."""
    return RULES.get(name) or RULES.get(name.rstrip("_"))


from secateur.graph.rules import (  # noqa: E402
    concat_index,
    contract,
    normalization,
    opaque_dims,
    pointwise,
    reduce,
    shape_ops,
    spatial,
)

__all__ = [
    "RULES",
    "Rule",
    "concat_index",
    "contract",
    "find",
    "normalization",
    "opaque_dims",
    "pointwise",
    "reduce",
    "rule",
    "shape_ops",
    "spatial",
]
