"""Operations along a dimension: reductions drop its labels, softmax keeps them, scans freeze them."""

from secateur.graph.labels import Factor, Marks, squash
from secateur.graph.ops import Does, operations
from secateur.graph.rules.broadcasting import (
    COUNTS,
    MIXES,
    broadcast_shape,
    freeze_along,
    join,
    reduce_dims,
)
from secateur.graph.rules.context import RuleContext, each_result, rule
from secateur.graph.rules.pointwise import elementwise
from secateur.graph.trace.tape import Call

_SUMS = operations(Does.SUM)
_POSITIONS = {"aten::argmax", "aten::argmin"}
_FOUND_AT = {f"aten::{name}" for name in ("max", "min", "median", "nanmedian", "mode", "kthvalue")}


def _dims(call: Call, ndim: int) -> set[int]:
    """The dimensions that a call reduces: all of them where it names none."""
    return {dim % ndim for dim in call.integers("dim") if ndim} or set(range(ndim))


def drop_dims(factors: tuple[Factor, ...], dims: set[int], ndim: int, keep: bool) -> tuple[Factor, ...]:
    """Factors after dimensions of size 1 were dropped (or kept)."""
    if keep:
        return factors
    gone = tuple(sorted(dims))
    return tuple(
        Factor(factor.atoms.squeeze(gone), factor.column - sum(dim < factor.column for dim in gone))
        for factor in factors
    )


@rule(
    *("sum", "mean", "var", "var_mean", "std", "std_mean", "amax", "amin", "max", "min", "prod"),
    *("logsumexp", "norm", "linalg_vector_norm", "any", "all", "argmax", "argmin", "nansum", "median"),
    *("nanmedian", "kthvalue", "mode", "aminmax", "count_nonzero"),
)
def reduction(context: RuleContext, call: Call) -> tuple[Marks | None, ...]:
    """Reduce over ``dim``; with two tensors ``max`` and ``min`` are element-wise."""
    if call.argument("other") is not None:
        # ``torch.max(x, y)`` has the name of the reduction.
        return elementwise(context, call)
    marks = context.of(call.tensor("self"))
    ndim = len(marks.shape)
    dims = _dims(call, ndim)
    counted = _names_positions(context, call)
    if counted:
        _freeze_counted(context, marks, dims)
    factors, over = reduce_dims(context.atoms, marks, dims)
    # Zeros in place of removed channels change a mean or a maximum, but not a sum.
    if over and not counted and call.name not in _SUMS:
        context.statistic(call)
    return each_result(
        context, call, drop_dims(factors, dims, ndim, keep=call.flag("keepdim")), weight=marks.weight
    )


def _names_positions(context: RuleContext, call: Call) -> bool:
    """Whether a result that is read says where a value was found, not what it is."""
    # Maxima come with their positions, which most networks drop.
    where = call.outputs if call.name in _POSITIONS else call.outputs[1:] if call.name in _FOUND_AT else ()
    return any(context.is_read(number) for number in where)


def _freeze_counted(context: RuleContext, marks: Marks, dims: set[int]) -> None:
    """Freeze channels that are counted: after pruning, position 5 would be another channel."""
    for factor in marks.factors:
        if factor.column in dims:
            context.atoms.freeze(factor.atoms, COUNTS)


@rule(
    *("mse_loss", "smooth_l1_loss", "huber_loss", "soft_margin_loss", "binary_cross_entropy"),
    "binary_cross_entropy_with_logits",
)
def loss(context: RuleContext, call: Call) -> Marks:
    """Differences element by element, and their mean or sum unless ``reduction`` is 0, that is none."""
    operands = context.operands(call)
    joined = join(context.atoms, operands, broadcast_shape([operand.shape for operand in operands]))
    if call.integer("reduction") == 0:
        return joined
    # Even in a sum zeros count: of two logits that are zero this loss is log 2.
    if joined.factors:
        context.statistic(call)
    return Marks((), (), (), joined.weight)


@rule("_softmax", "_log_softmax", "softmax", "log_softmax", "_safe_softmax")
def softmax(context: RuleContext, call: Call) -> Marks:
    """Normalise over one dimension: labels stay, and the values depend on which channels are there."""
    marks = context.of(call.tensor("self"))
    dim = call.integer("dim") % len(marks.shape)
    factors, over = reduce_dims(context.atoms, marks, {dim})
    if over:
        context.statistic(call)
        factors = marks.factors
    else:
        factors = tuple(
            Factor(squash(factor.atoms, range(factor.atoms.ndim)), factor.column) for factor in factors
        )
    return marks.with_factors(factors)


@rule(
    *("sort", "topk", "cumsum", "cumprod", "cummax", "cummin", "logcumsumexp", "_fft_r2c", "_fft_c2c"),
    *("_fft_c2r",),
)
def scan(context: RuleContext, call: Call) -> tuple[Marks | None, ...]:
    """Orders, running sums and Fourier transforms along ``dim``: every result depends on the positions."""
    marks = context.of(call.tensor("self"))
    marks = freeze_along(context.atoms, marks, _dims(call, len(marks.shape)), MIXES)
    return each_result(context, call, marks.factors, weight=marks.weight)
