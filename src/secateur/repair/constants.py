"""Widths that stand in the model's code as plain numbers: no attribute can repair them, so they are named."""

from collections.abc import Mapping, Sequence

from secateur.graph.channel_masks import ChannelMasks
from secateur.graph.dependency import DependencyGraph
from secateur.graph.ops import Does, operations
from secateur.graph.states import stood_for
from secateur.graph.trace.tape import Call, Tape
from secateur.graph.width_attributes import factor_at, slots
from secateur.proof.suspects import groups_of, groups_reaching
from secateur.repair.candidates import numbers_in
from secateur.surgery.plan import Plan, masks_of

_FILLS = operations(Does.FILL)
_AROUND = 60
_NAMES = (
    *("hidden_size", "proj_size", "out_channels", "out_features", "embedding_dim", "num_features"),
    *("embed_dim", "d_model", "in_channels", "in_features", "input_size"),
)


def describe(call: Call, why: str) -> str:
    """The call and the reason, in words."""
    place = f"{call.name.removeprefix('aten::')} in {call.module or 'the model'} ({call.source})"
    return f"{place} {why}"


def same_fills(dense: Tape, pruned: Tape, matches: Mapping[int, int]) -> tuple[int, ...]:
    """The calls that fill tensors (first states of zeros) as large as in the dense run."""
    found = []
    for place, twin in matches.items():
        call, other = dense.calls[place], pruned.calls[twin]
        mine, theirs = call.outputs[0], other.outputs[0]
        filled = call.name in _FILLS and mine is not None and theirs is not None
        if filled and dense.values[mine or 0].shape == pruned.values[theirs or 0].shape:
            found.append(place)
    return tuple(found)


def written_width(graph: DependencyGraph, plan: Plan, place: int, fills: Sequence[int]) -> tuple[int, str]:
    """The width of a fill that a number in the code keeps, and what to write there; 0 if there is none."""
    at_stake = _widths_around(graph, masks_of(graph, plan), place)
    for fill in reversed([fill for fill in fills if fill <= place]):
        call = graph.tape.calls[fill]
        shape = graph.tape.values[call.outputs[0]].shape if call.outputs[0] is not None else ()
        wide = [size for size in shape if size in at_stake]
        if wide and call.source:
            instead = _attribute(graph, plan, wide[-1], call.module)
            made = f"the width {wide[-1]} of {call.short_name} at {call.source} is a number in the code"
            return wide[-1], f"; {made}: write {instead} there"
    return 0, ""


def groups_to_block(plan: Plan, graph: DependencyGraph, call: Call, width: int) -> frozenset[str]:
    """The groups to leave whole because of a failing call: those whose widths its module states or reads.

    Where a number in the code keeps a ``width``, those of that width alone.
    """
    planned = {cut.group for cut in plan.cuts}
    # A first state whose width the code does not read: the channels beside it are not to blame.
    if states := groups_of(graph, stood_for(graph.tape, graph.marks, call)) & planned:
        return frozenset(states)
    told = [literal.spot for literal in graph.learned.literals if literal.module == call.module]
    factors = (factor_at(graph.tape, graph.marks, spot) for spot in told)
    named = groups_of(graph, (factor for factor in factors if factor is not None)) & planned
    seen = groups_reaching(plan, graph, call)
    if wide := _as_wide(plan, call.module, width):
        return frozenset(wide & seen or wide)
    return frozenset(named) if named and seen == planned else seen


def _as_wide(plan: Plan, module: str, width: int) -> set[str]:
    """The groups of this width: those with parameters of the module that fails, if there are any."""
    wide = [cut for cut in plan.cuts if cut.channels == width]
    start = f"{module}." if module else ""
    inside = {cut.group for cut in wide if any(part.tensor.startswith(start) for part in cut.slices)}
    return inside or {cut.group for cut in wide}


def _widths_around(graph: DependencyGraph, masks: ChannelMasks, place: int) -> set[int]:
    """The dense sizes that change in the calls from the failing one on."""
    found = set()
    for call in graph.tape.calls[place : place + _AROUND]:
        for number in slots(call):
            pairs = zip(graph.tape.values[number].shape, masks.expected_shape(number), strict=True)
            found |= {dense for dense, after in pairs if dense != after}
    return found


def _attribute(graph: DependencyGraph, plan: Plan, width: int, module: str) -> str:
    """The attribute of a layer that is cut and states the width, as the code of ``module`` would read it."""
    cut = {part.tensor.rpartition(".")[0] for item in plan.cuts for part in item.slices}
    stated = {
        (name, attribute)
        for name, layer in graph.model.named_modules()
        if name in cut
        for attribute, index, value in numbers_in(layer)
        if index is None and value == width and attribute in _NAMES
    }
    start = f"{module}." if module else ""
    # Of layers inside of the module that fills, the one whose own width it is.
    order = {one: (not one[0].startswith(start), _NAMES.index(one[1]), one[0]) for one in stated}
    if not order:
        return "the width of the layer beside it"
    best = min(order, key=order.__getitem__)
    inside = best[0].startswith(start)
    return f"{'self.' if inside else 'the '}{best[0].removeprefix(start) if inside else best[0]}.{best[1]}"
