"""Operations that pick by index tensors and masks, or write what was picked.

What an index picks along channels must stay: after pruning, position 5 is another channel. A mask that the
network computes from its channels picks among those that are left.
"""

import numpy as np

from secateur.graph.labels import Factor, IntArray, Marks, along_dim
from secateur.graph.rules.broadcasting import CHOSEN, COUNTS, PICKS, freeze_along, join
from secateur.graph.rules.context import Flags, RuleContext, rule
from secateur.graph.rules.indexing import indexed_dims, lifted_mask, places_after
from secateur.graph.trace.tape import Call, Ref


@rule("index")
def index(context: RuleContext, call: Call) -> Marks:
    """Pick by index tensors along some dimensions at once."""
    source = context.of(call.tensor("self"))
    refs = call.tensors("indices")
    picked = indexed_dims(context, refs)
    shape = context.shape(call.outputs[0])
    found = [(lead, ref) for lead, ref in enumerate(refs) if ref is not None]
    masked = len(found) == 1 and context.is_mask(found[0][1])
    if masked and any(source.along(dim) for dim in picked):
        return _by_mask(context, source, found[0], shape)
    source = freeze_along(context.atoms, source, set(picked), PICKS)
    for positions in context.operands(call, "indices"):
        freeze_along(context.atoms, positions, set(range(len(positions.shape))), CHOSEN if masked else PICKS)
    moved_to = places_after(picked, len(source.shape), len(shape) - (len(source.shape) - len(picked)))
    came_from = {place: dim for dim, place in moved_to.items()}
    free = tuple(place in came_from and source.free[came_from[place]] for place in range(len(shape)))
    factors = []
    for factor in source.factors:
        sizes = [1] * len(shape)
        for dim in factor.support:
            sizes[moved_to[dim]] = factor.atoms.shape[dim]
        factors.append(Factor(factor.atoms.reshape(sizes), moved_to[factor.column]))
    return Marks(shape, tuple(factors), free, source.weight)


def _by_mask(context: RuleContext, source: Marks, found: tuple[int, Ref], shape: tuple[int, ...]) -> Marks:
    """One vector of what a mask over channels picks: each position belongs to the channel it came from."""
    lead, ref = found
    mask, content = context.of(ref), context.picked(ref)
    ndim, count = len(source.shape), len(mask.shape)
    source = join(context.atoms, [source, lifted_mask(mask, lead, ndim)], source.shape)
    inside = range(lead, lead + count)
    factors = []
    for factor in source.factors:
        within = [dim for dim in factor.support if dim in inside]
        if not within:
            atoms = factor.atoms.reshape((*factor.atoms.shape[:lead], 1, *factor.atoms.shape[lead + count :]))
            factors.append(Factor(atoms, factor.column - (count - 1 if factor.column > lead else 0)))
        elif len(within) < len(factor.support) or content is None or content.sum() < 2:
            context.atoms.freeze(factor.atoms, CHOSEN)
        else:
            factors.append(along_dim(_chosen(factor, content, lead), lead, len(shape)))
    return Marks(shape, tuple(factors), (), source.weight)


def written_by_mask(
    context: RuleContext, target: Marks, found: tuple[int, Ref], values: Marks
) -> Marks | None:
    """A tensor after what a mask picks was written one by one: ``x[mask] = f(x[mask])``, else None.

    Each value belongs to the channel of the place that it is written to.
    """
    lead, ref = found
    mask, content = context.of(ref), context.picked(ref)
    many = content is not None and content.sum() > 1 and values.shape == (int(content.sum()),)
    if content is None or not many or lead or len(mask.shape) != len(target.shape):
        return None
    target = join(context.atoms, [target, mask], target.shape)
    if len(target.factors) != 1 or len(values.factors) != 1:
        return None
    context.atoms.union(_chosen(target.factors[0], content, 0), values.factors[0].atoms)
    return Marks(target.shape, target.factors, (), target.weight)


def _chosen(factor: Factor, content: Flags, lead: int) -> IntArray:
    sizes = factor.atoms.shape[lead : lead + content.ndim]
    found: IntArray = np.broadcast_to(factor.atoms.reshape(sizes), content.shape)[content]
    return found


@rule("masked_select")
def masked_select(context: RuleContext, call: Call) -> Marks:
    """What a mask picks of a tensor as large, as one vector."""
    source, ref = context.of(call.tensor("self")), call.tensor("mask")
    if source.shape == context.of(ref).shape:
        return _by_mask(context, source, (0, ref), context.shape(call.outputs[0]))
    context.freeze_all(call, CHOSEN)
    return Marks(context.shape(call.outputs[0]))


@rule("nonzero", "argwhere")
def where_true(context: RuleContext, call: Call) -> Marks:
    """The positions of what is not zero, by number."""
    context.freeze_all(call, COUNTS)
    return Marks(context.shape(call.outputs[0]))


@rule("masked_scatter")
def masked_scatter(context: RuleContext, call: Call) -> Marks:
    """Fill the places of a mask from a tensor, in order: whole rows where the mask is the same along them."""
    target, mask = context.of(call.tensor("self")), context.of(call.tensor("mask"))
    source, ndim = context.of(call.tensor("source")), len(target.shape)
    if (written := written_by_mask(context, target, (0, call.tensor("mask")), source)) is not None:
        return written
    rows = 0
    while rows < min(ndim, len(mask.shape), len(source.shape)) - 1:
        sizes = {marks.shape[-1 - rows] for marks in (target, source)}
        alike = mask.free[-1 - rows] or mask.shape[-1 - rows] == 1
        if len(sizes) > 1 or not alike:
            break
        rows += 1
    freeze_along(context.atoms, mask, set(range(len(mask.shape))), CHOSEN)
    target = freeze_along(context.atoms, target, set(range(ndim - rows)), CHOSEN)
    source = freeze_along(context.atoms, source, set(range(len(source.shape) - rows)), CHOSEN)
    tails = [_tail(marks, rows) for marks in (target, source)]
    return join(context.atoms, [Marks(target.shape, target.factors, tails[0].free), tails[1]], target.shape)


def _tail(marks: Marks, rows: int) -> Marks:
    """The last dimensions alone, which carry all labels."""
    lead = len(marks.shape) - rows
    factors = tuple(
        Factor(one.atoms.reshape(one.atoms.shape[lead:]), one.column - lead) for one in marks.factors
    )
    return Marks(marks.shape[lead:], factors, marks.free[lead:])
