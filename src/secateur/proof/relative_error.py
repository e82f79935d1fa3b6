"""How far two tensors are apart, and what counts as equal."""

import numpy as np
import torch
from torch import Tensor

TOLERANCE = 1e-10


def relative_error(found: Tensor, wanted: Tensor) -> float:
    """Largest absolute difference over the largest ``wanted`` value; infinite for NaN or other shapes.

    Infinities that are the same in both are left out.

    Of integers and flags, the fraction that differs.

    >>> relative_error(torch.tensor([1.0, 2.5]), torch.tensor([1.0, 2.0]))
    0.25
    """
    if found.shape != wanted.shape:
        return float("inf")
    # Masks hold infinities on purpose, the same in both.
    masked = wanted.isinf() & (found == wanted)
    if bool(masked.any()):
        found, wanted = found[~masked], wanted[~masked]
    if wanted.numel() == 0:
        return 0.0
    if not (wanted.is_floating_point() or wanted.is_complex()):
        # A label that is off by one is as wrong as one that is off by ten.
        return float((found != wanted).double().mean())
    wide = torch.complex128 if wanted.is_complex() else torch.float64
    scale = float(wanted.abs().max())
    gap = float((found.to(wide) - wanted.to(wide)).abs().max())
    if not np.isfinite(scale) or not np.isfinite(gap):
        return float("inf")
    return gap / scale if scale > 0 else gap
