"""The same network on smaller inputs: a proof is about channels, whatever the size of images and videos."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from secateur.graph.atoms import Atoms
from secateur.graph.dependency import DependencyGraph
from secateur.graph.propagation import Tracer, propagate
from secateur.graph.trace.example_inputs import InputSpec, inputs_to_device, random_inputs
from secateur.graph.trace.recorder import record
from secateur.graph.trace.tape import Tape
from secateur.models import device_of

# Of videos; networks that pool over time at their end need the second.
FRAMES = (4, 8)
# Shorter sides of images, and the steps of the longer ones: patches of 14 pixels do not divide the first.
SIDES = ((96, 32), (112, 28))


def on_smaller_inputs(graph: DependencyGraph) -> DependencyGraph:
    """The graph on images whose shorter side is 96 (or 112) and videos of 4 (or 8) frames, where that works.

    The same operations in the same modules on the same values are asked for, but for the reading of tables;
    networks that refuse other sizes, or compute otherwise at them, keep their own. The model must still be as
    it was traced.
    """
    if graph.learned.shrunk is None:
        graph.learned.shrunk = _search(graph)
    found: DependencyGraph = graph.learned.shrunk
    return found


def _search(graph: DependencyGraph) -> DependencyGraph:
    smaller: list[Callable[[InputSpec], InputSpec]] = [partial(_smaller, *side) for side in SIDES]
    fewer: list[Callable[[InputSpec], InputSpec]] = [partial(_fewer_frames, frames) for frames in FRAMES]
    both = [lambda item, way=way, less=less: less(way(item)) for less in fewer for way in smaller]
    tried = {graph.inputs}
    for way in (*both, *fewer, *smaller):
        specs = tuple(way(item) for item in graph.inputs)
        if specs in tried:
            continue
        tried.add(specs)
        if (found := _on(graph, specs)) is not None:
            return found
    return graph


def _on(graph: DependencyGraph, specs: tuple[InputSpec, ...]) -> DependencyGraph | None:
    """The graph on other inputs, ``None`` if the network does not do the same with them."""
    inputs = inputs_to_device(random_inputs(specs, torch.Generator().manual_seed(0)), device_of(graph.model))
    try:
        tape, _ = record(graph.model, inputs, logits=graph.logits)
    except Exception:
        # The network is made for inputs of one size.
        return None
    if _steps(tape) != _steps(graph.tape):
        return None
    tracer = Tracer(tape, whole=graph.whole)
    propagate(tracer, graph.model)
    if tracer.atoms.axes != graph.atoms.axes or not _joins_no_more(tracer.atoms, graph.atoms):
        return None
    statistics = frozenset(tracer.statistics)
    return replace(graph, inputs=specs, tape=tape, marks=tracer.marks, statistics=statistics)


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
    """What is done with the inputs: the operations, where, and on which of their results and which leaves.

    Reading tables is left aside: a smaller image may see only a part of them.
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
    """Whether what is joined in one set of atoms is joined in the other, of the same axes, as well."""
    (_, mine), (_, theirs) = atoms.components(), others.components()
    found = np.zeros(mine.size, dtype=np.int64)
    found[mine] = theirs
    return bool((found[mine] == theirs).all())
