"""Element-wise operations join the labels that meet; tensors made from a shape carry none.

An operation that torch tags as pointwise needs no row here: ``elementwise`` is its rule.
"""

from secateur.graph.labels import Marks
from secateur.graph.rules.broadcasting import broadcast_shape, join
from secateur.graph.rules.context import RuleContext, rule
from secateur.graph.trace.tape import Call


@rule(
    *("hardswish", "hardsigmoid", "hardtanh", "elu", "leaky_relu", "prelu", "_prelu_kernel", "mish"),
    *("softplus", "log_sigmoid_forward", "native_dropout", "nan_to_num", "lift_fresh"),
    *("lift_fresh_copy", "_to_copy", "clone", "contiguous", "detach", "alias", "relu6", "celu", "selu"),
    *("threshold", "hardshrink", "softshrink", "where", "masked_fill", "lerp", "addcmul", "addcdiv"),
    *("fmod", "remainder", "rsub", "clamp", "clamp_min", "clamp_max", "pow", "rrelu_with_noise"),
    *("_conj", "to"),
)
def elementwise(context: RuleContext, call: Call) -> tuple[Marks | None, ...]:
    """Join all tensor arguments as they broadcast together."""
    operands = context.operands(call)
    shape = broadcast_shape([operand.shape for operand in operands])
    joined = join(context.atoms, operands, shape)
    return tuple(
        joined if number is not None and context.shape(number) == shape else None for number in call.outputs
    )


@rule(
    *("zeros", "ones", "full", "empty", "new_zeros", "new_ones", "new_full", "new_empty", "zeros_like"),
    *("ones_like", "full_like", "empty_like", "scalar_tensor", "new_empty_strided", "empty_strided"),
    *("fill", "zero", "bernoulli", "rand_like", "randn_like"),
)
def fill(context: RuleContext, call: Call) -> Marks:
    """The same content everywhere, so that any size is right; filled in place, a tensor keeps its labels."""
    if call.name in {"aten::fill_", "aten::zero_"}:
        return context.of(call.tensor("self"))
    shape = context.shape(call.outputs[0])
    return Marks(shape, (), tuple(size > 1 for size in shape))


@rule("arange", "linspace", "eye", "tril_indices", "triu_indices", "logspace")
def sequence(context: RuleContext, call: Call) -> Marks:
    """Content that depends on the position and belongs to no channel: channels that meet it are frozen."""
    return Marks(context.shape(call.outputs[0]))


@rule("copy")
def copy(context: RuleContext, call: Call) -> Marks:
    """``target.copy_(source)``: the target has the labels of the source."""
    target, source = context.of(call.tensor("self")), context.of(call.tensor("src"))
    # Memory without labels, such as ``torch.empty``, takes any: all of it is overwritten.
    blank = Marks(target.shape, target.factors, (True,) * len(target.shape), source.weight)
    return join(context.atoms, [blank if not target.factors else target, source], target.shape)
