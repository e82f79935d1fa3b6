"""Images in arrays of any type and layout as float32 [N, ...] within bounds."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from secateur.data.dataset import checked_bounds
from secateur.data.images import WHITE
from secateur.errors import UserError

WHITES = {torch.from_numpy(np.zeros(0, kind)).dtype: white for kind, white in WHITE.items()} | {torch.bool: 1}
"""The value of white, by the type of whole-number images; masks are black and white."""
CHANNELS = (1, 3)


def as_pixels(
    images: Any, *, bounds: tuple[float, float], channels_last: bool | None, name: str
) -> tuple[Tensor, int | None]:
    """Images as contiguous float32 [N, ...], and the value of their white if they were whole numbers.

    Raises:
        UserError: no array of numbers, or whole numbers of unknown white.
    """
    foreign = not isinstance(images, Tensor)
    x = _tensor(images, name).detach()
    low, high = checked_bounds(bounds)
    white = WHITES.get(x.dtype)
    if white is None and not x.is_floating_point():
        raise UserError(
            f"the images of {name} are {str(x.dtype).removeprefix('torch.')}, whose white is unknown",
            hint="give uint8 or uint16 images, or floating-point ones within the bounds, as in x / 255",
        )
    x = _laid_out(x, white is not None, foreign, channels_last)
    x = x.to(torch.float32, copy=white is not None)
    if white is not None:
        x = x.div_(white)
        # Exact where it is the identity: 0 and 1 stay 0 and 1.
        x = x if (low, high) == (0.0, 1.0) else x.mul_(high - low).add_(low).clamp_(low, high)
    # Contiguous, because convolutions on transposed memory are slower and round differently.
    return x.contiguous(), white


def _tensor(images: Any, name: str) -> Tensor:
    if isinstance(images, Tensor):
        if images.is_meta or images.is_nested:
            kind = "on the meta device, without numbers" if images.is_meta else "a nested tensor"
            raise UserError(f"the images of {name} are {kind}", hint="give a tensor of one shape, [N, ...]")
        return images if images.layout == torch.strided else images.to_dense()
    if isinstance(images, np.ma.MaskedArray) and np.ma.is_masked(images):
        raise UserError(f"of the images of {name}, some pixels are masked", hint="fill them: x.filled(0)")
    try:
        array = np.asarray(images)
        if array.dtype == np.float16 or array.dtype.kind in "fiub":
            # Foreign byte orders and read-only arrays cannot become tensors.
            return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("=")))
    except (TypeError, ValueError) as error:
        raise UserError(
            f"the images of {name} are no array of numbers: {error}", hint="give arrays of one shape"
        ) from None
    raise UserError(
        f"the images of {name} are {array.dtype}, not numbers", hint="give an array of numbers, [N, ...]"
    )


def _laid_out(x: Tensor, whole: bool, foreign: bool, channels_last: bool | None) -> Tensor:
    """Pictures with their channels first; whatever is not certainly a picture keeps its shape."""
    if x.ndim == 3 and whole:
        return x.unsqueeze(1)
    if x.ndim != 4:
        return x
    if channels_last is None:
        # Networks take channels first: a float tensor of this shape is more likely meant as it is.
        channels_last = (whole or foreign) and x.shape[3] in CHANNELS and x.shape[1] not in CHANNELS
    return x.permute(0, 3, 1, 2) if channels_last else x
