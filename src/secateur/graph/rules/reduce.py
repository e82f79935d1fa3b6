"""Reductions drop the labels they sum over; softmax and its like keep them but depend on them."""

from typing import Any

from secateur.graph.labels import Factor, Marks, squash
from secateur.graph.ops import Does, operations
from secateur.graph.rules import rule
from secateur.graph.rules.broadcasting import reduce_dims

_SUMS = operations(Does.SUM)


def _dims(given: Any, ndim: int) -> set[int]:
    if given is None or given == []:
        return set(range(ndim))
    listed = given if isinstance(given, (list, tuple)) else [given]
    return {dim % ndim for dim in listed} if ndim else set()


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
    "sum",
    "mean",
    "var",
    "var_mean",
    "std",
    "std_mean",
    "amax",
    "amin",
    "max",
    "min",
    "prod",
    "logsumexp",
    "norm",
    "linalg_vector_norm",
    "any",
    "all",
    "argmax",
    "argmin",
    "nansum",
    "median",
    "nanmedian",
    "kthvalue",
    "mode",
    "aminmax",
    "count_nonzero",
)
def reduction(tracer: Any, call: Any) -> Any:
    """Reduce over ``dim``; with two tensors ``max`` and ``min`` are element-wise."""
    bound = call.bind()
    if bound.get("other") is not None:
        return tracer.apply_rule("aten::maximum", call)
    marks = tracer.of(bound["self"])
    ndim = len(marks.shape)
    dims = _dims(bound.get("dim"), ndim)
    factors, over = reduce_dims(tracer.atoms, marks, dims)
    if over and call.name not in _SUMS:
        tracer.statistic(call)
    kept = drop_dims(factors, dims, ndim, bool(bound.get("keepdim")))
    return tuple(
        Marks(tracer.shape(number), kept, (), marks.weight) if number is not None else None
        for number in call.outputs
    )


@rule("_softmax", "_log_softmax", "softmax", "log_softmax", "_safe_softmax")
def softmax(tracer: Any, call: Any) -> Any:
    """Normalise over one dimension: labels stay, and the values depend on which channels are there."""
    bound = call.bind()
    marks = tracer.of(bound["self"])
    dim = bound["dim"] % len(marks.shape)
    factors, over = reduce_dims(tracer.atoms, marks, {dim})
    if over:
        tracer.statistic(call)
        factors = marks.factors
    else:
        factors = tuple(
            Factor(squash(factor.atoms, range(factor.atoms.ndim)), factor.column) for factor in factors
        )
    return marks.with_factors(factors)
