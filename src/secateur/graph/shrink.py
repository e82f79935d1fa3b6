"""The same network on smaller images: a proof is about channels, whatever the size of the images."""

from dataclasses import replace

import torch

from secateur.graph.dependency import DependencyGraph, InputSpec, fresh_inputs, move_inputs
from secateur.graph.tape import Tape, record
from secateur.graph.tracing import Tracer, propagate

SIDE = 96
_STEP = 32


def shrunk(graph: DependencyGraph) -> DependencyGraph:
    """The graph as it is on images whose shorter side is 96, where the network does the same with them.

    The same operations in the same modules on the same values are asked for; networks that refuse other
    sizes, or compute otherwise at them, keep their own. The model must still be as it was traced.
    """
    if graph.learned.shrunk is None:
        graph.learned.shrunk = _shrunk(graph)
    found: DependencyGraph = graph.learned.shrunk
    return found


def _shrunk(graph: DependencyGraph) -> DependencyGraph:
    specs = tuple(_smaller(item) for item in graph.inputs)
    if specs == graph.inputs:
        return graph
    device = next((tensor.device for tensor in graph.model.parameters()), torch.device("cpu"))
    inputs = move_inputs(fresh_inputs(specs, torch.Generator().manual_seed(0)), device)
    try:
        tape, _ = record(graph.model, inputs)
    except Exception:
        # The network is made for images of one size.
        return graph
    tracer = Tracer(tape, whole=graph.whole)
    if _steps(tape) != _steps(graph.tape):
        return graph
    propagate(tracer, graph.model)
    if tracer.atoms.axes != graph.atoms.axes:
        return graph
    statistics = frozenset(tracer.statistics)
    return replace(graph, inputs=specs, tape=tape, marks=tracer.marks, statistics=statistics)


def _smaller(item: InputSpec) -> InputSpec:
    """Images (and videos) with a shorter side of 96, in steps of 32."""
    short = min(item.shape[-2:], default=0)
    image = len(item.shape) in (4, 5) and getattr(torch, item.dtype).is_floating_point
    if not image or short <= SIDE:
        return item
    sides = (max(SIDE, round(side * SIDE / short / _STEP) * _STEP) for side in item.shape[-2:])
    return replace(item, shape=(*item.shape[:-2], *sides))


def _steps(tape: Tape) -> list[tuple[object, ...]]:
    return [(call.name, call.module, call.refs, call.outputs) for call in tape.calls]
