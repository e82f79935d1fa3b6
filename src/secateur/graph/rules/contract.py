"""Contractions join what they sum over and pass the rest on: matrix products and convolutions.

A contraction is an element-wise product in the space of all its letters followed by a sum, and is treated
as that.
"""

from collections.abc import Sequence
from typing import Any

from secateur.graph.labels import Factor, Marks, place, reshape
from secateur.graph.rules import rule
from secateur.graph.rules.broadcasting import MEETS, collapse, freeze_along, join, reduce_dims
from secateur.graph.rules.normalization import on_dim
from secateur.graph.rules.reduce import drop_dims


def lift(marks: Marks, letters: str, space: str) -> Marks:
    """A tensor whose dimensions are ``letters``, seen in the space of all letters."""
    where = tuple(space.index(letter) for letter in letters)
    shape = [1] * len(space)
    free = [False] * len(space)
    for dim, target in enumerate(where):
        shape[target], free[target] = marks.shape[dim], marks.free[dim]
    factors = tuple(place(factor, where, len(space)) for factor in marks.factors)
    return Marks(tuple(shape), factors, tuple(free), marks.weight)


def contract(tracer: Any, operands: Sequence[tuple[Marks, str]], out: str) -> Marks:
    """Labels of ``einsum``: letters that are not in ``out`` are summed over."""
    space = out + "".join(sorted({letter for _, letters in operands for letter in letters} - set(out)))
    lifted = [lift(marks, letters, space) for marks, letters in operands]
    sizes = [max(marks.shape[dim] for marks in lifted) for dim in range(len(space))]
    summed = set(range(len(out), len(space)))
    for marks in lifted:
        if marks.weight:
            for factor in marks.factors:
                role = tracer.atoms.consumes if factor.column in summed else tracer.atoms.produces
                role(factor.atoms)
    joined = join(tracer.atoms, lifted, tuple(sizes))
    factors, _ = reduce_dims(tracer.atoms, joined, summed)
    kept = drop_dims(factors, summed, len(space), keep=False)
    shape = tuple(sizes[: len(out)])
    return Marks(shape, kept, joined.free[: len(out)], joined.weight)


@rule("mm")
def mm(tracer: Any, call: Any) -> Any:
    """``a[n, k] @ b[k, m]``."""
    bound = call.bind()
    return contract(tracer, [(tracer.of(bound["self"]), "nk"), (tracer.of(bound["mat2"]), "km")], "nm")


@rule("addmm")
def addmm(tracer: Any, call: Any) -> Any:
    """``bias + a[n, k] @ b[k, m]``."""
    bound = call.bind()
    product = contract(tracer, [(tracer.of(bound["mat1"]), "nk"), (tracer.of(bound["mat2"]), "km")], "nm")
    return join(tracer.atoms, [product, tracer.of(bound["self"])], product.shape)


@rule("bmm")
def bmm(tracer: Any, call: Any) -> Any:
    """``a[b, n, k] @ b[b, k, m]``."""
    bound = call.bind()
    return contract(tracer, [(tracer.of(bound["self"]), "bnk"), (tracer.of(bound["mat2"]), "bkm")], "bnm")


@rule("baddbmm")
def baddbmm(tracer: Any, call: Any) -> Any:
    """``c + a[b, n, k] @ b[b, k, m]``."""
    bound = call.bind()
    product = contract(
        tracer, [(tracer.of(bound["batch1"]), "bnk"), (tracer.of(bound["batch2"]), "bkm")], "bnm"
    )
    return join(tracer.atoms, [product, tracer.of(bound["self"])], product.shape)


@rule("mv", "dot", "addmv")
def vector(tracer: Any, call: Any) -> Any:
    """Matrix times vector, vector times vector."""
    bound = call.bind()
    if call.name == "aten::dot":
        return contract(tracer, [(tracer.of(bound["self"]), "k"), (tracer.of(bound["tensor"]), "k")], "")
    matrix = bound["mat"] if call.name == "aten::addmv" else bound["self"]
    product = contract(tracer, [(tracer.of(matrix), "nk"), (tracer.of(bound["vec"]), "k")], "n")
    if call.name == "aten::addmv":
        return join(tracer.atoms, [product, tracer.of(bound["self"])], product.shape)
    return product


@rule("_trilinear")
def trilinear(tracer: Any, call: Any) -> Any:
    """The product of three tensors with new dimensions inserted, summed over some: ``nn.Bilinear``."""
    bound = call.bind()
    first = tracer.of(bound["i1"])
    letters = "abcdefgh"[: len(first.shape) + len(bound["expand1"])]
    operands = []
    for number in "123":
        missing = {dim % len(letters) for dim in bound[f"expand{number}"]}
        own = "".join(letter for dim, letter in enumerate(letters) if dim not in missing)
        operands.append((tracer.of(bound[f"i{number}"]), own))
    summed = {dim % len(letters) for dim in bound["sumdim"]}
    return contract(tracer, operands, "".join(x for dim, x in enumerate(letters) if dim not in summed))


def _regroup(tracer: Any, marks: Marks, dim: int, groups: int) -> Marks:
    """Split a dimension into (group, member)."""
    shape = (*marks.shape[:dim], groups, marks.shape[dim] // groups, *marks.shape[dim + 1 :])
    return tracer.reshaped(marks, shape)  # type: ignore[no-any-return]


def _whole_members(tracer: Any, marks: Marks, dim: int) -> Marks:
    """All members of a group are one channel."""
    factors = tuple(
        Factor(tracer.atoms.merge(factor.atoms, [dim + 1]), dim) if dim + 1 in factor.support else factor
        for factor in marks.factors
    )
    return marks.with_factors(factors)


def _split_plain(tracer: Any, marks: Marks, dim: int, groups: int) -> Marks:
    """Split into (group, member) without asking for equal counts: the groups go as wholes."""
    shape = (*marks.shape[:dim], groups, marks.shape[dim] // groups, *marks.shape[dim + 1 :])
    factors = [reshape(factor, marks.shape, shape) for factor in marks.factors]
    return Marks(shape, tuple(factor for factor in factors if factor), (), marks.weight)


@rule("convolution", "_convolution", "mkldnn_convolution", "cudnn_convolution", "convolution_overrideable")
def convolution(tracer: Any, call: Any) -> Any:
    """Convolutions of any dimension: plain, grouped, depthwise, transposed."""
    bound = call.bind()
    image, weight = tracer.of(bound["input"]), tracer.of(bound["weight"])
    groups, transposed = int(bound["groups"]), bool(bound.get("transposed"))
    spatial = len(image.shape) - 2
    weight = freeze_along(tracer.atoms, weight, set(range(2, spatial + 2)), "indexes a kernel position")
    still = _still_dims(tracer, call, bound, weight.shape)
    image = _channels_only(tracer, image, (1, *still))
    kernel, window = "xyz"[:spatial], "uvw"[:spatial]
    outputs = int(tracer.shape(call.outputs[0])[1])
    depthwise = groups > 1 and (weight.shape[0] // groups if transposed else weight.shape[1]) == 1
    if groups == 1:
        letters = "io" if transposed else "oi"
        product = contract(tracer, [(image, "ni" + window), (weight, letters + kernel)], "no" + window)
    else:
        split = _split_plain if depthwise else _regroup
        image = split(tracer, image, 1, groups)
        weight = split(tracer, weight, 0, groups)
        if depthwise and not transposed:
            weight = _whole_members(tracer, weight, 0)
        letters = "gio" if transposed else "goi"
        product = contract(tracer, [(image, "ngi" + window), (weight, letters + kernel)], "ngo" + window)
        merged = (product.shape[0], outputs, *product.shape[3:])
        product = tracer.reshaped(product, merged)
    shape = tracer.shape(call.outputs[0])
    result = Marks(shape, product.factors, (), product.weight)
    if bound.get("bias") is None:
        return result
    bias = on_dim(tracer.of(bound["bias"]), 1, len(shape))
    return join(tracer.atoms, [result, bias], shape)


def _still_dims(tracer: Any, call: Any, bound: dict[str, Any], weight: tuple[int, ...]) -> list[int]:
    """Dimensions of positions that a convolution leaves alone: kernels of size 1 that look at every one."""
    before, after = tracer.shape(bound["input"].id), tracer.shape(call.outputs[0])
    return [dim for dim in range(2, len(before)) if weight[dim] == 1 and before[dim] == after[dim]]


def _channels_only(tracer: Any, image: Marks, dims: tuple[int, ...]) -> Marks:
    """An image whose labels vary along these dimensions alone: channels, and positions left alone."""
    factors = []
    for factor in image.factors:
        kept = collapse(tracer.atoms, factor, dims)
        if kept is None:
            tracer.atoms.freeze(factor.atoms, MEETS)
        else:
            factors.append(kept)
    return image.with_factors(tuple(factors))
