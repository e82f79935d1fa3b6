"""Fake quantisation: values are rounded to steps of a scale, one for all or one for each channel.

Zero stays zero, because the zero point is a step of its own.
"""

from secateur.graph.labels import Marks
from secateur.graph.rules.broadcasting import join
from secateur.graph.rules.context import RuleContext, rule
from secateur.graph.rules.normalization import on_dim
from secateur.graph.rules.pointwise import elementwise
from secateur.graph.trace.tape import Call

_ONE_SCALE = (
    *("fake_quantize_per_tensor_affine", "fake_quantize_per_tensor_affine_cachemask"),
    *("_fake_quantize_per_tensor_affine_cachemask_tensor_qparams",),
    "_fake_quantize_learnable_per_tensor_affine",
)
rule(*_ONE_SCALE)(elementwise)


@rule(
    *("fake_quantize_per_channel_affine", "fake_quantize_per_channel_affine_cachemask"),
    "_fake_quantize_learnable_per_channel_affine",
)
def per_channel(context: RuleContext, call: Call) -> tuple[Marks | None, ...]:
    """Scales and zero points belong to the channels along ``axis``."""
    marks = context.of(call.tensor("self"))
    ndim = len(marks.shape)
    steps = [
        on_dim(one, call.integer("axis") % ndim, ndim)
        for one in context.operands(call, "scale", "zero_point")
    ]
    joined = join(context.atoms, [marks, *steps], marks.shape)
    return tuple(joined for _ in call.outputs)
