"""Verify on smaller images and videos where the network runs the same operations on them."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from secateur.graph.atoms import Atoms
from secateur.graph.dependency import DependencyGraph
from secateur.graph.propagation import Tracer, propagate
from secateur.graph.trace.example_inputs import Inputs, InputSpec, random_inputs
from secateur.graph.trace.recorder import record
from secateur.graph.trace.tape import Tape
from secateur.models import device_of

# Frames of videos; networks that pool over time at their end need 8.
FRAMES = (4, 8)
# Shorter sides, and the steps of longer sides; patches of 14 pixels divide 112, not 96.
SIDES = ((96, 32), (112, 28))


def on_smaller_inputs(graph: DependencyGraph) -> DependencyGraph:
    """The graph on images whose shorter side is 96 (or 112) and videos of 4 (or 8) frames, where that works.

    The tape must have the same operations in the same modules on the same values, except for the reading of
    tables. Otherwise the graph is returned as it is. The model must not have changed since it was traced.
    """
    if graph.learned.shrunk is None:
        # What was decided on the example's own size does not fit another.
        graph.learned.shrunk = graph if graph.tape.decided else _search(graph)
    found: DependencyGraph = graph.learned.shrunk
    return found


def _search(graph: DependencyGraph) -> DependencyGraph:
    smaller: list[Callable[[InputSpec], InputSpec]] = [partial(_smaller, *side) for side in SIDES]
    fewer: list[Callable[[InputSpec], InputSpec]] = [partial(_fewer_frames, frames) for frames in FRAMES]
    both = [lambda item, way=way, less=less: less(way(item)) for less in fewer for way in smaller]
    tried = {graph.inputs.specs}
    for way in (*both, *fewer, *smaller):
        specs = tuple(item if item.given else way(item) for item in graph.inputs)
        if specs in tried:
            continue
        tried.add(specs)
        if (found := _on(graph, replace(graph.inputs, specs=specs))) is not None:
            return found
    return graph


def _on(graph: DependencyGraph, smaller: Inputs) -> DependencyGraph | None:
    """The graph on other inputs; ``None`` if the network runs other operations on them."""
    inputs = random_inputs(smaller, torch.Generator().manual_seed(0), device_of(graph.model))
    try:
        tape, _ = record(graph.model, inputs, logits=graph.logits)
    except Exception:
        # The network accepts only inputs of its own size.
        return None
    if _steps(tape) != _steps(graph.tape):
        return None
    tracer = Tracer(tape, whole=graph.whole)
    propagate(tracer, graph.model)
    if tracer.atoms.axes != graph.atoms.axes or not _joins_no_more(tracer.atoms, graph.atoms):
        return None
    statistics = frozenset(tracer.statistics)
    return replace(graph, inputs=smaller, tape=tape, marks=tracer.marks, statistics=statistics, example=None)


def _smaller(least: int, step: int, item: InputSpec) -> InputSpec:
    """Images (and videos) with a shorter side of ``least`` pixels, the longer one in steps."""
    short = min(item.shape[-2:], default=0)
    if not _numbers(item, 4, 5) or short <= least:
        return item
    sides = (max(least, round(side * least / short / step) * step) for side in item.shape[-2:])
    return replace(item, shape=(*item.shape[:-2], *sides))


def _fewer_frames(frames: int, item: InputSpec) -> InputSpec:
    """Videos of so many frames."""
    if not _numbers(item, 5) or item.shape[-3] <= frames:
        return item
    return replace(item, shape=(*item.shape[:-3], frames, *item.shape[-2:]))


def _numbers(item: InputSpec, *dimensions: int) -> bool:
    return len(item.shape) in dimensions and bool(getattr(torch, item.dtype).is_floating_point)


def _steps(tape: Tape) -> list[tuple[object, ...]]:
    """The calls that depend on the inputs: operation, module, and operands by origin.

    Calls that only read tables are left out: a smaller image may read a part of them.
    """
    place = {number: (-1, position) for position, number in enumerate(tape.inputs)}
    steps: list[tuple[object, ...]] = []
    for call in tape.calls:
        if not any(number in place for number in call.refs):
            continue
        operands = tuple(place.get(number, tape.values[number].name) for number in call.refs)
        for position, number in enumerate(call.outputs):
            if number is not None:
                place[number] = (len(steps), position)
        steps.append((call.name, call.module, operands))
    return steps


def _joins_no_more(atoms: Atoms, others: Atoms) -> bool:
    """Whether all atoms joined in ``atoms`` are joined in ``others``; both are of the same axes."""
    (_, mine), (_, theirs) = atoms.components(), others.components()
    found = np.zeros(mine.size, dtype=np.int64)
    found[mine] = theirs
    return bool((found[mine] == theirs).all())
