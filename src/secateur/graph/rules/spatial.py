"""Operations on spatial dimensions: channels pass, and labels along positions are frozen."""

from math import prod

import numpy as np

from secateur.graph.labels import Factor, Marks
from secateur.graph.rules.broadcasting import MIXES, VARIES, channels_only, freeze_along, runs
from secateur.graph.rules.context import RuleContext, each_result, rule
from secateur.graph.trace.tape import Call

# Names that exist for 1, 2 and 3 dimensions; torch has not all of them, which does no harm.
_ANY_DIM = (
    *("max_pool{}", "max_pool{}_with_indices", "mkldnn_max_pool{}", "max_unpool{}", "avg_pool{}"),
    *("adaptive_avg_pool{}", "_adaptive_avg_pool{}", "adaptive_max_pool{}", "upsample_nearest{}"),
    *("_upsample_nearest_exact{}", "reflection_pad{}", "replication_pad{}"),
)
_TRAILING = {"1d": 1, "2d": 2, "3d": 3}


@rule(
    *(name.format(tag) for name in _ANY_DIM for tag in _TRAILING),
    *("upsample_linear1d", "upsample_bilinear2d", "upsample_bicubic2d", "upsample_trilinear3d"),
    *("_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa"),
)
def spatial(context: RuleContext, call: Call) -> tuple[Marks | None, ...]:
    """Pooling, resizing and padding work on every channel alone."""
    marks = context.operands(call)[0]
    image = channels_only(context.atoms, marks, tuple(range(len(marks.shape) - trailing(call))), VARIES)
    return each_result(context, call, image.factors, weight=marks.weight)


def trailing(call: Call) -> int:
    """How many dimensions of positions an operation of ``spatial`` has, all behind the channels."""
    return next(count for tag, count in _TRAILING.items() if tag in call.name)


@rule("grid_sampler_2d", "grid_sampler_3d")
def sampled(context: RuleContext, call: Call) -> Marks:
    """An image read at the positions of a grid, which has no channels of its own."""
    image, grid = context.of(call.tensor("input")), context.of(call.tensor("grid"))
    freeze_along(context.atoms, grid, set(range(len(grid.shape))), MIXES)
    image = freeze_along(context.atoms, image, set(range(2, len(image.shape))), MIXES)
    return Marks(context.shape(call.outputs[0]), image.factors)


@rule("torchvision::roi_align", "torchvision::roi_pool")
def regions(context: RuleContext, call: Call) -> tuple[Marks | None, ...]:
    """Regions of images, pooled to one size: channels pass, and boxes have none."""
    image, boxes = context.of(call.tensor("input")), context.of(call.tensor("rois"))
    freeze_along(context.atoms, boxes, {0, 1}, MIXES)
    image = channels_only(context.atoms, image, (1,), MIXES)
    return each_result(context, call, image.factors, weight=image.weight)


@rule("unfold")
def windows(context: RuleContext, call: Call) -> Marks:
    """``x.unfold(dim, size, step)``: windows along one dimension, their positions in a new last one."""
    marks = context.of(call.tensor("self"))
    dim = call.integer("dimension") % len(marks.shape)
    marks = freeze_along(context.atoms, marks, {dim}, VARIES)
    factors = tuple(Factor(factor.atoms[..., None], factor.column) for factor in marks.factors)
    return Marks(context.shape(call.outputs[0]), factors, (), marks.weight)


@rule("im2col", "col2im")
def columns(context: RuleContext, call: Call) -> Marks:
    """``C`` channels of an image as ``C·kh·kw`` rows of patches, or back: a channel's rows go together."""
    marks = context.of(call.tensor("self"))
    kernel = prod(call.integers("kernel_size"))
    back = call.name == "aten::col2im"
    dim = len(marks.shape) - (2 if back else 3)
    factors = []
    for factor in channels_only(context.atoms, marks, tuple(range(dim + 1)), VARIES).factors:
        # One dimension more or less after the channels: positions are two of an image, one of its patches.
        atoms = factor.atoms[..., None] if back else factor.atoms[..., 0]
        if atoms.shape[dim] > 1:
            moved = np.moveaxis(atoms, dim, -1)
            # Rows of patches are channels × kernel positions, channels outermost.
            moved = runs(context.atoms, moved, kernel) if back else np.repeat(moved, kernel, axis=-1)
            atoms = np.moveaxis(moved, -1, dim)
        factors.append(Factor(atoms, factor.column))
    return Marks(context.shape(call.outputs[0]), tuple(factors), (), marks.weight)
