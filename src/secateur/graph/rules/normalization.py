"""Normalisation: layers join their parameters; some also depend on which channels remain."""

from typing import Any

from secateur.graph.labels import Factor, Marks
from secateur.graph.rules import rule
from secateur.graph.rules.broadcasting import freeze_along, join, reduce_dims


def on_dim(marks: Marks, dim: int, ndim: int) -> Marks:
    """A vector as a tensor of ``ndim`` dimensions that varies along ``dim``."""
    shape = tuple(marks.shape[0] if place == dim else 1 for place in range(ndim))
    factors = tuple(Factor(factor.atoms.reshape(shape), dim) for factor in marks.factors)
    free = tuple(bool(place == dim and marks.free[0]) for place in range(ndim))
    return Marks(shape, factors, free, marks.weight)


@rule(
    "native_batch_norm",
    "cudnn_batch_norm",
    "miopen_batch_norm",
    "batch_norm",
    "_native_batch_norm_legit",
    "_native_batch_norm_legit_no_training",
    "_batch_norm_no_update",
    "_batch_norm_with_update",
)
def batch_norm(tracer: Any, call: Any) -> Any:
    """Scale, shift and running statistics belong to the channels of dimension 1."""
    bound = call.bind()
    names = ("weight", "bias", "running_mean", "running_var")
    marks = tracer.of(bound["input"])
    vectors = [tracer.of(bound[name]) for name in names if bound.get(name) is not None]
    operands = [marks, *(on_dim(vector, 1, len(marks.shape)) for vector in vectors)]
    joined = join(tracer.atoms, operands, marks.shape)
    # Statistics of the batch's own may run over channels: those of weights that are standardised.
    if bound.get("training") and any(set(factor.support) - {1} for factor in joined.factors):
        tracer.statistic(call)
    # What is saved for the backward pass, where statistics are the batch's own: a number per channel.
    own = tuple(Factor(factor.atoms.reshape(-1), 0) for factor in joined.factors if factor.support == (1,))
    saved = Marks(marks.shape[1:2], own)
    return (
        joined,
        *(
            saved if number is not None and tracer.shape(number) == saved.shape else None
            for number in call.outputs[1:]
        ),
    )


@rule("native_layer_norm", "layer_norm", "_fused_rms_norm", "rms_norm")
def layer_norm(tracer: Any, call: Any) -> Any:
    """Normalise over the last dimensions."""
    bound = call.bind()
    marks = tracer.of(bound["input"])
    count = len(bound["normalized_shape"])
    dims = set(range(len(marks.shape) - count, len(marks.shape)))
    vectors = [tracer.of(bound[name]) for name in ("weight", "bias") if bound.get(name) is not None]
    joined = join(tracer.atoms, [marks, *vectors], marks.shape)
    _, over = reduce_dims(tracer.atoms, joined, dims)
    if over:
        tracer.statistic(call)
    return (joined, *(None for _ in call.outputs[1:]))


@rule("native_group_norm", "group_norm")
def group_norm(tracer: Any, call: Any) -> Any:
    """Normalise within groups of channels: every group keeps equally many."""
    bound = call.bind()
    marks = tracer.of(bound["input"])
    ndim = len(marks.shape)
    marks = freeze_along(tracer.atoms, marks, {0, *range(2, ndim)}, "varies over positions")
    vectors = [tracer.of(bound[name]) for name in ("weight", "bias") if bound.get(name) is not None]
    joined = join(tracer.atoms, [marks, *(on_dim(vector, 1, ndim) for vector in vectors)], marks.shape)
    groups = int(bound.get("group") or bound.get("num_groups"))
    for factor in joined.along(1):
        tracer.atoms.equal_rows(factor.atoms.reshape(groups, -1))
        tracer.statistic(call)
    return (joined, *(None for _ in call.outputs[1:]))


@rule("_weight_norm_interface", "_weight_norm")
def weight_norm(tracer: Any, call: Any) -> Any:
    """Weights as directions of length one times lengths, a length per index of one dimension."""
    bound = call.bind()
    directions, lengths = tracer.of(bound["v"]), tracer.of(bound["g"])
    joined = join(tracer.atoms, [directions, lengths], directions.shape)
    if any(factor.column != bound["dim"] for factor in directions.factors):
        tracer.statistic(call)
    return (joined, *(lengths for _ in call.outputs[1:]))
