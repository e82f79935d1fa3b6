"""Operations on the trailing spatial dimensions: channels pass, labelled positions are frozen."""

from math import prod
from typing import Any

import numpy as np

from secateur.graph.labels import Factor, Marks
from secateur.graph.rules import rule
from secateur.graph.rules.broadcasting import collapse, freeze_along

_TRAILING = {"1d": 1, "2d": 2, "3d": 3}


@rule(
    "max_pool1d",
    "max_pool1d_with_indices",
    "max_pool2d",
    "max_pool2d_with_indices",
    "max_pool3d",
    "max_pool3d_with_indices",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "_adaptive_avg_pool2d",
    "_adaptive_avg_pool3d",
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
    "upsample_nearest1d",
    "upsample_nearest2d",
    "upsample_nearest3d",
    "_upsample_nearest_exact2d",
    "upsample_linear1d",
    "upsample_bilinear2d",
    "upsample_bicubic2d",
    "upsample_trilinear3d",
    "_upsample_bilinear2d_aa",
    "_upsample_bicubic2d_aa",
    "reflection_pad1d",
    "reflection_pad2d",
    "reflection_pad3d",
    "replication_pad1d",
    "replication_pad2d",
    "replication_pad3d",
    "mkldnn_max_pool2d",
    "max_unpool2d",
    "max_unpool3d",
)
def spatial(tracer: Any, call: Any) -> Any:
    """Pooling, resizing and padding work on every channel alone."""
    marks = tracer.marks[call.refs[0]]
    trailing = next(count for tag, count in _TRAILING.items() if tag in call.name)
    channels = tuple(range(len(marks.shape) - trailing))
    factors = []
    for factor in marks.factors:
        kept = collapse(tracer.atoms, factor, channels)
        if kept is None:
            tracer.atoms.freeze(factor.atoms, "varies over positions")
        else:
            factors.append(kept)
    return tuple(
        None if number is None else Marks(tracer.shape(number), tuple(factors), (), marks.weight)
        for number in call.outputs
    )


@rule("unfold")
def windows(tracer: Any, call: Any) -> Any:
    """``x.unfold(dim, size, step)``: windows along one dimension, their positions in a new last one."""
    bound = call.bind()
    marks = tracer.of(bound["self"])
    dim = bound["dimension"] % len(marks.shape)
    marks = freeze_along(tracer.atoms, marks, {dim}, "varies over positions")
    factors = tuple(Factor(factor.atoms[..., None], factor.column) for factor in marks.factors)
    return Marks(tracer.shape(call.outputs[0]), factors, (), marks.weight)


@rule("im2col", "col2im")
def columns(tracer: Any, call: Any) -> Any:
    """``C`` channels of an image as ``C·kh·kw`` rows of patches, or back: a channel's rows go together."""
    bound = call.bind()
    marks = tracer.of(bound["self"])
    kernel = prod(bound["kernel_size"])
    back = call.name == "aten::col2im"
    dim = len(marks.shape) - (2 if back else 3)
    factors = []
    for factor in marks.factors:
        kept = collapse(tracer.atoms, factor, tuple(range(dim + 1)))
        if kept is None:
            tracer.atoms.freeze(factor.atoms, "varies over positions")
            continue
        # One dimension more or less after the channels: positions are two of an image, one of its patches.
        atoms = kept.atoms[..., None] if back else kept.atoms[..., 0]
        if atoms.shape[dim] > 1:
            moved = np.moveaxis(atoms, dim, -1)
            if back:
                runs = moved.reshape(*moved.shape[:-1], -1, kernel)
                moved = tracer.atoms.merge(runs, [runs.ndim - 1])[..., 0]
            else:
                moved = np.repeat(moved, kernel, axis=-1)
            atoms = np.moveaxis(moved, -1, dim)
        factors.append(Factor(atoms, kept.column))
    return Marks(tracer.shape(call.outputs[0]), tuple(factors), (), marks.weight)
