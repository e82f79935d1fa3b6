"""Operations on the trailing spatial dimensions: channels pass, labelled positions are frozen."""

from typing import Any

from secateur.graph.labels import Marks
from secateur.graph.rules import rule
from secateur.graph.rules.join import collapse

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
)
def spatial(tracer: Any, call: Any) -> Any:
    """Pooling, resizing and padding work on every channel alone."""
    marks = tracer.marks[call.refs()[0]]
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
