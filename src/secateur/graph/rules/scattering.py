"""Operations that write or add values at given positions: message passing, counts, masked writes.

Positions along the indexed dimensions stay, because the index names them by number. All other dimensions are
those of every operand, so that labels along them are joined as in an element-wise operation.
"""

from secateur.graph.labels import Factor, Marks, Shape
from secateur.graph.rules.broadcasting import PICKS, freeze_along, join
from secateur.graph.rules.context import RuleContext, rule
from secateur.graph.rules.indexing import indexed_dims, lifted_mask, places_after
from secateur.graph.rules.picking import written_by_mask
from secateur.graph.trace.tape import Call, Ref


@rule("index_add", "index_copy", "index_reduce", "index_fill")
def along_index(context: RuleContext, call: Call) -> Marks:
    """``self[..., index[i], ...]`` takes up ``source[..., i, ...]``; other dimensions are common to both."""
    target = context.of(call.tensor("self"))
    # A single number counts as a vector.
    dims = {call.integer("dim") % len(target.shape)} if target.shape else set()
    index = context.of(call.tensor("index"))
    freeze_along(context.atoms, index, set(range(len(index.shape))), PICKS)
    return _written(context, call, [target, *context.operands(call, "source", "value")], dims)


@rule("segment_reduce")
def segments(context: RuleContext, call: Call) -> Marks:
    """Runs of positions along ``axis`` are reduced to one each; other dimensions pass."""
    data = context.of(call.tensor("data"))
    still = freeze_along(context.atoms, data, {call.integer("axis") % len(data.shape)}, PICKS)
    return Marks(context.shape(call.outputs[0]), still.factors, (), data.weight)


@rule("scatter", "scatter_add", "scatter_reduce")
def scatter(context: RuleContext, call: Call) -> Marks:
    """Each value goes to the position along ``dim`` that the index names for it.

    Where operands differ in size along another dimension the index reaches the first positions only.
    """
    operands = context.operands(call, "self", "index", "src", "value")
    shape = operands[0].shape
    dims = {call.integer("dim") % len(shape)} if shape else set()
    for marks in operands:
        dims |= {dim for dim, size in enumerate(marks.shape) if size != shape[dim]}
    return _written(context, call, operands, dims)


@rule("index_put", "_index_put_impl", "_unsafe_index_put")
def index_put(context: RuleContext, call: Call) -> Marks:
    """Write at index tensors: a mask with one value for all is element-wise, others name positions."""
    target, values = context.of(call.tensor("self")), context.of(call.tensor("values"))
    refs = call.tensors("indices")
    if (masked := _masked(context, target, refs, values)) is not None:
        return join(context.atoms, [target, *masked], target.shape)
    found = [(lead, ref) for lead, ref in enumerate(refs) if ref is not None]
    if len(found) == 1 and context.is_mask(found[0][1]):
        written = written_by_mask(context, target, found[0], values)
        if written is not None:
            return written
    for positions in context.operands(call, "indices"):
        freeze_along(context.atoms, positions, set(range(len(positions.shape))), PICKS)
    picked = indexed_dims(context, refs)
    ndim = len(target.shape)
    # A mask stands for one vector of positions per dimension.
    width = max(1 if context.is_mask(ref) else len(context.of(ref).shape) for ref in refs if ref is not None)
    missing = ndim - len(picked) + width - len(values.shape)
    back = {place - missing: dim for dim, place in places_after(picked, ndim, width).items()}
    others = set(range(len(values.shape))) - set(back)
    values = freeze_along(context.atoms, values, others, PICKS)
    sizes = {back[place]: size for place, size in enumerate(values.shape) if place in back}
    factors = []
    for factor in values.factors:
        shape = [1] * ndim
        for place in factor.support:
            shape[back[place]] = factor.atoms.shape[place]
        factors.append(Factor(factor.atoms.reshape(shape), back[factor.column]))
    free = tuple(dim in sizes and values.free[place] for dim, place in _turned(back, ndim))
    written = Marks(tuple(sizes.get(dim, 1) for dim in range(ndim)), tuple(factors), free)
    return _written(context, call, [target, written], set(picked))


def _turned(back: dict[int, int], ndim: int) -> list[tuple[int, int]]:
    places = {dim: place for place, dim in back.items()}
    return [(dim, places.get(dim, -1)) for dim in range(ndim)]


def _masked(context: RuleContext, target: Marks, refs: list[Ref | None], values: Marks) -> list[Marks] | None:
    """The mask and the values as they broadcast with the target, if one value is written at all places."""
    masks = [(place, ref) for place, ref in enumerate(refs) if ref is not None]
    if len(masks) != 1 or not context.is_mask(masks[0][1]):
        return None
    (lead, ref), ndim = masks[0], len(target.shape)
    mask = context.of(ref)
    rest = ndim - lead - len(mask.shape)
    wide = lifted_mask(mask, lead, ndim)
    place = len(values.shape) - rest - 1
    if place < 0:
        return [wide, values]
    if values.shape[place] != 1:
        return None

    def opened(shape: Shape) -> Shape:
        return (*shape[:place], *(1,) * len(mask.shape), *shape[place + 1 :])

    more = len(mask.shape) - 1
    factors = tuple(
        Factor(f.atoms.reshape(opened(f.atoms.shape)), f.column + (more if f.column > place else 0))
        for f in values.factors
    )
    free = (*values.free[:place], *(False,) * len(mask.shape), *values.free[place + 1 :])
    return [wide, Marks(opened(values.shape), factors, free)]


def _written(context: RuleContext, call: Call, operands: list[Marks], dims: set[int]) -> Marks:
    """Join operands that have the target's dimensions; labels along ``dims`` are frozen."""
    shape = context.shape(call.outputs[0])
    met = []
    for marks in operands:
        if len(marks.shape) != len(shape):
            # A single value, or a single row of one.
            met.append(marks)
            continue
        still = freeze_along(context.atoms, marks, dims, PICKS)
        sizes = tuple(
            whole if dim in dims else size
            for dim, (size, whole) in enumerate(zip(marks.shape, shape, strict=True))
        )
        free = tuple(own and dim not in dims for dim, own in enumerate(marks.free))
        met.append(Marks(sizes, still.factors, free, marks.weight))
    joined = join(context.atoms, met, shape)
    free = tuple(own and dim not in dims for dim, own in enumerate(joined.free))
    return Marks(shape, joined.factors, free, joined.weight)
