"""What must be removed together, in any module: trace a model and read its dependency graph."""

from secateur.graph.dependency import DependencyGraph as DependencyGraph
from secateur.graph.groups import Group as Group
from secateur.graph.rules import rule as rule
from secateur.graph.tracing import trace as trace

__all__ = ["DependencyGraph", "Group", "rule", "trace"]
