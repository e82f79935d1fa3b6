"""Rules: how each family of operations carries labels from its arguments to its results.

A rule is a function ``rule(context, call)`` from a recorded call to the labels of its results. The law that
every rule must satisfy:

    Remove any channels that the graph lets go. Computing on the smaller arguments gives the elements that
    are left of computing on the arguments with the removed channels set to zero.

Calls that a rule reports with ``context.statistic`` (layer norm, softmax, means over channels) depend on
which channels there are, not only on those they compute. They satisfy a weaker law: their results on the
smaller arguments have the shape that the labels say, and depend on no channel that was removed.

An operation without a rule freezes every label that reaches it, which always satisfies the law. A rule may
freeze as well, but must not lose a label silently: what a result no longer shows could be removed unseen.
``tests/graph/rules/test_law.py`` holds each family to the law on random tensors.
"""

from secateur.graph.rules import concat_index as concat_index
from secateur.graph.rules import contract as contract
from secateur.graph.rules import normalization as normalization
from secateur.graph.rules import picking as picking
from secateur.graph.rules import pointwise as pointwise
from secateur.graph.rules import quantised as quantised
from secateur.graph.rules import reduce as reduce
from secateur.graph.rules import scattering as scattering
from secateur.graph.rules import shape_ops as shape_ops
from secateur.graph.rules import spatial as spatial
from secateur.graph.rules.context import RULES as RULES
from secateur.graph.rules.context import Flags as Flags
from secateur.graph.rules.context import Result as Result
from secateur.graph.rules.context import Rule as Rule
from secateur.graph.rules.context import RuleContext as RuleContext
from secateur.graph.rules.context import find as find
from secateur.graph.rules.context import rule as rule
