"""Which dimensions a list of index tensors picks from, and where the other ones go."""

from collections.abc import Sequence

from secateur.graph.labels import Factor, Marks
from secateur.graph.rules.context import RuleContext
from secateur.graph.trace.tape import Ref


def indexed_dims(context: RuleContext, refs: Sequence[Ref | None]) -> list[int]:
    """The dimensions that index tensors pick from; a mask picks from as many as it has itself."""
    found: list[int] = []
    dim = 0
    for ref in refs:
        count = len(context.of(ref).shape) if ref is not None and context.is_mask(ref) else 1
        found += range(dim, dim + count) if ref is not None else ()
        dim += count
    return found


def places_after(picked: Sequence[int], ndim: int, width: int) -> dict[int, int]:
    """Where the dimensions that are not picked from stand in the result; ``width`` dimensions are new.

    Those of adjacent indices stand where the first one stood, those of others in front.

    >>> places_after([1, 2], 4, 1)
    {0: 0, 3: 2}
    """
    adjacent = list(picked) == list(range(picked[0], picked[-1] + 1))
    at = picked[0] if adjacent else 0
    rest = [dim for dim in range(ndim) if dim not in picked]
    return {dim: number + (width if number >= at else 0) for number, dim in enumerate(rest)}


def lifted_mask(mask: Marks, lead: int, ndim: int) -> Marks:
    """A mask of the dimensions from ``lead`` on as it broadcasts with the tensor that it picks from."""
    rest = ndim - lead - len(mask.shape)
    factors = tuple(
        Factor(f.atoms.reshape((*(1,) * lead, *f.atoms.shape, *(1,) * rest)), f.column + lead)
        for f in mask.factors
    )
    free = (*(False,) * lead, *mask.free, *(False,) * rest)
    return Marks((*(1,) * lead, *mask.shape, *(1,) * rest), factors, free)
