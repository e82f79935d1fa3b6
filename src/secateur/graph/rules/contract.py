"""Contractions: matrix products and convolutions, written as ``einsum`` does.

A contraction is an element-wise product over all its letters, followed by a sum over some. So labels along
the same letter are joined, and the labels of letters that are summed over end there.
"""

from collections.abc import Sequence

from secateur.graph.labels import Factor, Marks, Shape, move_dims, reshape
from secateur.graph.rules.broadcasting import (
    MEETS,
    PICKS,
    broadcast_shape,
    channels_only,
    freeze_along,
    join,
    reduce_dims,
)
from secateur.graph.rules.context import RuleContext, rule
from secateur.graph.rules.normalization import on_dim
from secateur.graph.rules.reduce import drop_dims
from secateur.graph.trace.tape import Call


def lift(marks: Marks, letters: str, space: str) -> Marks:
    """A tensor with dimensions ``letters``, with size 1 along all other letters of ``space``."""
    where = tuple(space.index(letter) for letter in letters)
    shape = [1] * len(space)
    free = [False] * len(space)
    for dim, target in enumerate(where):
        shape[target], free[target] = marks.shape[dim], marks.free[dim]
    factors = tuple(move_dims(factor, where, len(space)) for factor in marks.factors)
    return Marks(tuple(shape), factors, tuple(free), marks.weight)


def contract(context: RuleContext, operands: Sequence[tuple[Marks, str]], out: str) -> Marks:
    """Labels of ``einsum``: letters that are not in ``out`` are summed over."""
    space = out + "".join(sorted({letter for _, letters in operands for letter in letters} - set(out)))
    lifted = [lift(marks, letters, space) for marks, letters in operands]
    # Also where nothing is left of a dimension: tokens of an expert that none was sent to.
    sizes = broadcast_shape([marks.shape for marks in lifted])
    summed = set(range(len(out), len(space)))
    for marks in lifted:
        if marks.weight:
            for factor in marks.factors:
                # Only weights make a layer produce or consume channels: names and roles of members follow.
                role = context.atoms.consumes if factor.column in summed else context.atoms.produces
                role(factor.atoms)
    joined = join(context.atoms, lifted, sizes)
    factors, _ = reduce_dims(context.atoms, joined, summed)
    kept = drop_dims(factors, summed, len(space), keep=False)
    shape = sizes[: len(out)]
    return Marks(shape, kept, joined.free[: len(out)], joined.weight)


def _product(context: RuleContext, call: Call, out: str, **letters: str) -> Marks:
    """``contract`` of the arguments of these names."""
    return contract(context, [(context.of(call.tensor(name)), own) for name, own in letters.items()], out)


def _matrix_product(out: str, *names: str, plus: bool = False, **letters: str) -> None:
    """Register a product, with the letters of each argument; with ``plus`` the argument ``self`` is added."""

    @rule(*names)
    def product(context: RuleContext, call: Call) -> Marks:
        found = _product(context, call, out, **letters)
        return join(context.atoms, [found, context.of(call.tensor("self"))], found.shape) if plus else found


_matrix_product("nm", "mm", self="nk", mat2="km")
_matrix_product("nm", "addmm", "_sparse_addmm", plus=True, mat1="nk", mat2="km")
_matrix_product("bnm", "bmm", self="bnk", mat2="bkm")
_matrix_product("bnm", "baddbmm", plus=True, batch1="bnk", batch2="bkm")
_matrix_product("n", "mv", self="nk", vec="k")
_matrix_product("n", "addmv", plus=True, mat="nk", vec="k")
_matrix_product("", "dot", self="k", tensor="k")
# The first one conjugated.
_matrix_product("", "vdot", self="k", other="k")


@rule("_grouped_mm")
def grouped(context: RuleContext, call: Call) -> Marks:
    """``a[n, k] @ b[e, k, m]``, each row by the expert ``e`` that ``offs`` names: experts stay, by number."""
    rows, experts = context.of(call.tensor("self")), context.of(call.tensor("mat2"))
    if (len(rows.shape), len(experts.shape)) != (2, 3) or call.argument("bias") is not None:
        context.freeze_all(call, "is a grouped product of another form")
        return Marks(context.shape(call.outputs[0]))
    experts = freeze_along(context.atoms, experts, {0}, PICKS)
    rows = freeze_along(context.atoms, rows, {0}, PICKS)
    return contract(context, [(rows, "nk"), (experts, "ekm")], "nm")


@rule("_euclidean_dist", "_cdist_forward")
def distances(context: RuleContext, call: Call) -> Marks:
    """Distances between the rows of two tensors: what is zero in both adds nothing."""
    batch = "abcdefgh"[: len(context.shape(call.outputs[0])) - 2]
    own = {}
    for name, row in (("x1", "n"), ("x2", "m")):
        # Batches are broadcast: one of the operands may have fewer of them.
        fewer = len(batch) - (len(context.of(call.tensor(name)).shape) - 2)
        own[name] = batch[fewer:] + row + "k"
    return _product(context, call, batch + "nm", **own)


@rule("_trilinear")
def trilinear(context: RuleContext, call: Call) -> Marks:
    """The product of three tensors with new dimensions inserted, summed over some: ``nn.Bilinear``."""
    ndim = len(context.of(call.tensor("i1")).shape) + len(call.integers("expand1"))
    letters = "abcdefgh"[:ndim]
    own = {f"i{number}": _without(letters, call.integers(f"expand{number}")) for number in (1, 2, 3)}
    return _product(context, call, _without(letters, call.integers("sumdim")), **own)


def _without(letters: str, dims: Sequence[int]) -> str:
    missing = {dim % len(letters) for dim in dims}
    return "".join(letter for dim, letter in enumerate(letters) if dim not in missing)


def _regroup(context: RuleContext, marks: Marks, dim: int, groups: int) -> Marks:
    """Split a dimension into (group, member), where every group keeps equally many members."""
    shape = (*marks.shape[:dim], groups, marks.shape[dim] // groups, *marks.shape[dim + 1 :])
    return context.reshaped(marks, shape)


def _whole_members(context: RuleContext, marks: Marks, dim: int) -> Marks:
    """Join the members of a group into one channel."""
    factors = tuple(
        Factor(context.atoms.merge(factor.atoms, [dim + 1]), dim) if dim + 1 in factor.support else factor
        for factor in marks.factors
    )
    return marks.with_factors(factors)


def _split_plain(context: RuleContext, marks: Marks, dim: int, groups: int) -> Marks:
    """Split into (group, member) without a tie between counts: the groups go as wholes."""
    shape = (*marks.shape[:dim], groups, marks.shape[dim] // groups, *marks.shape[dim + 1 :])
    factors = [reshape(factor, marks.shape, shape) for factor in marks.factors]
    # One kernel that is repeated for every channel fits any number of them.
    free = (
        *marks.free[:dim],
        marks.free[dim],
        marks.free[dim] and shape[dim + 1] > 1,
        *marks.free[dim + 1 :],
    )
    return Marks(shape, tuple(factor for factor in factors if factor), free, marks.weight)


@rule("convolution", "_convolution", "mkldnn_convolution", "cudnn_convolution", "convolution_overrideable")
def convolution(context: RuleContext, call: Call) -> Marks:
    """Convolutions of any dimension: plain, grouped, depthwise, transposed."""
    image, weight = context.of(call.tensor("input")), context.of(call.tensor("weight"))
    groups, transposed = call.integer("groups"), call.flag("transposed")
    shape, spatial = context.shape(call.outputs[0]), len(image.shape) - 2
    # A kernel made of activations or other parameters may carry labels along its positions.
    weight = freeze_along(context.atoms, weight, set(range(2, spatial + 2)), "indexes a kernel position")
    still = _still_dims(image.shape, shape, weight.shape)
    image = channels_only(context.atoms, image, (1, *still), MEETS)
    kernel, window = "xyz"[:spatial], "uvw"[:spatial]
    depthwise = groups > 1 and (weight.shape[0] // groups if transposed else weight.shape[1]) == 1
    if groups == 1:
        letters = "io" if transposed else "oi"
        product = contract(context, [(image, "ni" + window), (weight, letters + kernel)], "no" + window)
    else:
        # A depthwise convolution loses groups as wholes; others keep equally many channels in every group.
        split = _split_plain if depthwise else _regroup
        image = split(context, image, 1, groups)
        weight = split(context, weight, 0, groups)
        # With a multiplier, all outputs of a group go with its one input.
        if depthwise and not transposed:
            weight = _whole_members(context, weight, 0)
        letters = "gio" if transposed else "goi"
        product = contract(context, [(image, "ngi" + window), (weight, letters + kernel)], "ngo" + window)
        product = context.reshaped(product, (product.shape[0], shape[1], *product.shape[3:]))
    result = Marks(shape, product.factors, (), product.weight)
    biases = [on_dim(bias, 1, len(shape)) for bias in context.operands(call, "bias")]
    return join(context.atoms, [result, *biases], shape)


def _still_dims(before: Shape, after: Shape, weight: Shape) -> list[int]:
    """Dimensions of positions that a convolution does not mix: kernel size 1, stride 1."""
    return [dim for dim in range(2, len(before)) if weight[dim] == 1 and before[dim] == after[dim]]
