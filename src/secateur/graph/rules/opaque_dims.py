"""Operations that mix the positions of some dimensions, and work on every channel along the others alone."""

from typing import Any

from secateur.graph.labels import Factor, Marks
from secateur.graph.rules import rule
from secateur.graph.rules.broadcasting import freeze_along

MIXES = "is mixed over positions"


@rule(
    "sort",
    "topk",
    "cumsum",
    "cumprod",
    "cummax",
    "cummin",
    "logcumsumexp",
    "_fft_r2c",
    "_fft_c2c",
    "_fft_c2r",
)
def along(tracer: Any, call: Any) -> Any:
    """Orders, running sums and Fourier transforms along ``dim``."""
    bound = call.bind()
    marks = tracer.of(bound["self"])
    listed = bound["dim"] if isinstance(bound["dim"], (list, tuple)) else [bound["dim"]]
    marks = freeze_along(tracer.atoms, marks, {dim % len(marks.shape) for dim in listed}, MIXES)
    return tuple(
        None if number is None else Marks(tracer.shape(number), marks.factors, (), marks.weight)
        for number in call.outputs
    )


@rule("view_as_real", "view_as_complex")
def parts(tracer: Any, call: Any) -> Any:
    """Complex numbers as pairs in a last dimension of their own, or back."""
    marks = tracer.of(call.bind()["self"])
    back = call.name == "aten::view_as_complex"
    marks = freeze_along(tracer.atoms, marks, {len(marks.shape) - 1} if back else set(), MIXES)
    factors = tuple(
        Factor(factor.atoms[..., 0] if back else factor.atoms[..., None], factor.column)
        for factor in marks.factors
    )
    return Marks(tracer.shape(call.outputs[0]), factors, (), marks.weight)


@rule("grid_sampler_2d", "grid_sampler_3d")
def sampled(tracer: Any, call: Any) -> Any:
    """An image read at the places of a grid, which has no channels of its own."""
    bound = call.bind()
    image, grid = tracer.of(bound["input"]), tracer.of(bound["grid"])
    freeze_along(tracer.atoms, grid, set(range(len(grid.shape))), MIXES)
    image = freeze_along(tracer.atoms, image, set(range(2, len(image.shape))), MIXES)
    return Marks(tracer.shape(call.outputs[0]), image.factors)
