"""Bounds of single pixels: a region that may change, or a range for each value."""

from typing import Any

import torch
from torch import Tensor

from secateur.errors import UserError


class Box(tuple[float, float]):
    """The bounds of all pixels, (lowest, highest), and those of each value: ``low`` and ``high`` [N, ...].

    Everything that knows the bounds as two numbers reads them as before.

    >>> x = torch.full((1, 2), 0.5)
    >>> box = Box((0.0, 1.0), low=torch.tensor([[0.5, 0.0]]), high=torch.tensor([[0.5, 1.0]]))
    >>> box == (0.0, 1.0), x.add(9).clamp(box.low, box.high)
    (True, tensor([[0.5000, 1.0000]]))
    """

    low: Tensor
    high: Tensor

    def __new__(cls, bounds: tuple[float, float], *, low: Tensor, high: Tensor) -> "Box":
        """Of images [N, ...] in ``bounds``."""
        made = super().__new__(cls, (float(bounds[0]), float(bounds[1])))
        made.low, made.high = low, high
        return made

    def rows(self, rows: Tensor) -> "Box":
        """Those of the images ``rows``."""
        return Box((self[0], self[1]), low=self.low[rows], high=self.high[rows])

    @property
    def pair(self) -> tuple[Tensor, Tensor]:
        """``low`` and ``high``."""
        return self.low, self.high

    def to(self, like: Tensor) -> "Box":
        """On the device and in the precision of ``like``."""
        return Box((self[0], self[1]), low=self.low.to(like), high=self.high.to(like))


def box_of(
    x: Tensor, bounds: tuple[float, float], *, mask: Any = None, pixel_bounds: Any = None
) -> Box | None:
    """The bounds of each value of ``x`` [N, ...], None where no image has its own.

    Args:
        x: images.
        bounds: of all their pixels.
        mask: bool, of a shape that broadcasts to the images: only where it is true pixels may change.
        pixel_bounds: lowest and highest values, numbers or of a shape that broadcasts to the images.

    Raises:
        UserError: another type or shape, bounds that leave out an image or a pixel that is to stay.

    >>> box_of(torch.zeros(2, 3), (0.0, 1.0), mask=torch.tensor([True, False, False])).high
    tensor([[1., 0., 0.],
            [1., 0., 0.]])
    """
    if mask is None and pixel_bounds is None:
        return None
    low, high = torch.full_like(x, bounds[0]), torch.full_like(x, bounds[1])
    if pixel_bounds is not None:
        low, high = _limits(x, low, high, pixel_bounds)
    if mask is not None:
        free = _broadcast(mask, x, "the mask")
        if free.dtype != torch.bool:
            kind = str(free.dtype).removeprefix("torch.")
            raise UserError(f"the mask is {kind}, not bool", hint="True where pixels may change: mask > 0")
        low, high = torch.where(free, low, x), torch.where(free, high, x)
    still = ~(low < high).flatten(1).any(1)
    if bool(still.any()):
        raise UserError(
            f"no pixel of image {int(still.nonzero()[0])} may change",
            hint="leave the image out, or give it a larger region",
        )
    return Box(bounds, low=low, high=high)


def _limits(x: Tensor, low: Tensor, high: Tensor, given: Any) -> tuple[Tensor, Tensor]:
    """The bounds ``low`` and ``high`` [N, ...], narrowed to those ``given``."""
    if not isinstance(given, list | tuple) or len(given) != 2:
        raise UserError(
            f"pixel_bounds is a {type(given).__name__}",
            hint="give two: (lowest, highest), each like the images",
        )
    own = [_broadcast(part, x, "a bound of the pixels").to(x) for part in given]
    # Written so that NaN counts as outside.
    bad = ~((own[0] <= x) & (x <= own[1])).flatten(1).all(1)
    if bool(bad.any()):
        raise UserError(
            f"image {int(bad.nonzero()[0])} has pixels outside its own bounds",
            hint="an attack begins at the image: pixel_bounds must hold every clean pixel",
        )
    return torch.maximum(low, own[0]), torch.minimum(high, own[1])


def _broadcast(given: Any, x: Tensor, what: str) -> Tensor:
    try:
        return torch.as_tensor(given, device=x.device).broadcast_to(x.shape)
    except (TypeError, ValueError, RuntimeError) as error:
        shape = getattr(given, "shape", None)
        seen = f"of shape {tuple(shape)}" if shape is not None else f"a {type(given).__name__}"
        raise UserError(
            f"{what} is {seen}, which does not fit images of shape {tuple(x.shape)}",
            hint="give one value per pixel, [H, W], [C, H, W] or [N, C, H, W]",
        ) from error
