"""Normalisation: channels are joined with their scale, shift and running statistics.

Layer and group norms compute statistics over channels, so that their results depend on which channels there
are (``context.statistic``); pruning before them changes what the network computes, by design.
"""

from secateur.graph.labels import Factor, Marks, along_dim
from secateur.graph.rules.broadcasting import VARIES, freeze_along, join, reduce_dims
from secateur.graph.rules.context import RuleContext, rule
from secateur.graph.trace.tape import Call


def on_dim(marks: Marks, dim: int, ndim: int) -> Marks:
    """A vector as a tensor of ``ndim`` dimensions that varies along ``dim``."""
    shape, free = [1] * ndim, [False] * ndim
    shape[dim], free[dim] = marks.shape[0], marks.free[0]
    factors = tuple(along_dim(factor.atoms, dim, ndim) for factor in marks.factors)
    return Marks(tuple(shape), factors, tuple(free), marks.weight)


@rule(
    *("native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm", "batch_norm"),
    *("_native_batch_norm_legit", "_native_batch_norm_legit_no_training", "_batch_norm_no_update"),
    *("_batch_norm_with_update",),
)
def batch_norm(context: RuleContext, call: Call) -> tuple[Marks | None, ...]:
    """Scale, shift and running statistics belong to the channels of dimension 1."""
    marks = context.of(call.tensor("input"))
    vectors = context.operands(call, "weight", "bias", "running_mean", "running_var")
    operands = [marks, *(on_dim(vector, 1, len(marks.shape)) for vector in vectors)]
    joined = join(context.atoms, operands, marks.shape)
    # Weight standardisation is a batch norm whose batch is one filter: it averages over input channels.
    if call.flag("training") and any(set(factor.support) - {1} for factor in joined.factors):
        context.statistic(call)
    # Means and deviations saved for the backward pass have one entry per channel.
    own = tuple(Factor(factor.atoms.reshape(-1), 0) for factor in joined.factors if factor.support == (1,))
    saved = Marks(marks.shape[1:2], own)
    return (
        joined,
        *(
            saved if number is not None and context.shape(number) == saved.shape else None
            for number in call.outputs[1:]
        ),
    )


@rule("native_layer_norm", "layer_norm", "_fused_rms_norm", "rms_norm")
def layer_norm(context: RuleContext, call: Call) -> tuple[Marks | None, ...]:
    """Normalise over the last dimensions."""
    marks = context.of(call.tensor("input"))
    count = len(call.integers("normalized_shape"))
    dims = set(range(len(marks.shape) - count, len(marks.shape)))
    joined = join(context.atoms, [marks, *context.operands(call, "weight", "bias")], marks.shape)
    others, over = reduce_dims(context.atoms, joined, dims)
    if over:
        context.statistic(call)
    # Means and deviations, which only a backward pass reads, keep the labels of the other dimensions.
    saved = Marks((*marks.shape[:-count], *(1,) * count), others)
    return (joined, *(saved if context.shape(number) == saved.shape else None for number in call.outputs[1:]))


@rule("native_group_norm")
def group_norm(context: RuleContext, call: Call) -> tuple[Marks | None, ...]:
    """Normalise within groups of channels: every group keeps equally many."""
    marks = context.of(call.tensor("input"))
    ndim = len(marks.shape)
    marks = freeze_along(context.atoms, marks, {0, *range(2, ndim)}, VARIES)
    vectors = [on_dim(vector, 1, ndim) for vector in context.operands(call, "weight", "bias")]
    joined = join(context.atoms, [marks, *vectors], marks.shape)
    groups = call.integer("group")
    # The module divides its channels by a fixed number of groups.
    for factor in joined.along(1):
        context.atoms.equal_rows(factor.atoms.reshape(groups, -1))
        context.statistic(call)
    return (joined, *(None for _ in call.outputs[1:]))


@rule("_weight_norm_interface", "_weight_norm")
def weight_norm(context: RuleContext, call: Call) -> tuple[Marks, ...]:
    """Weights as unit directions times lengths, one length per index of one dimension."""
    directions, lengths = context.of(call.tensor("v")), context.of(call.tensor("g"))
    joined = join(context.atoms, [directions, lengths], directions.shape)
    # A direction over input channels is normalised by those that are left.
    if any(factor.column != call.integer("dim") for factor in directions.factors):
        context.statistic(call)
    return (joined, *(lengths for _ in call.outputs[1:]))
