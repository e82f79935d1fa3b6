"""The strongest preset: per image, the nearest example that any of several attacks found."""

import torch
from torch import Tensor, nn

from secateur.attacks.ddn import ddn
from secateur.attacks.fmn import fmn
from secateur.attacks.norms import INF, check_norm
from secateur.attacks.problem import Found, nearer
from secateur.attacks.sigma_zero import sigma_zero
from secateur.attacks.steep import steep


def strongest(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    norm: float = INF,
    steps: int = 300,
    targets: Tensor | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
    generator: torch.Generator | None = None,
) -> Found:
    """Run every attack of ``norm`` for ``steps`` and keep the nearest example of each image.

    L0: σ-zero and FMN. L1 and Linf: steep and FMN. L2: steep, DDN (unquantised) and FMN. Passes add up.

    Raises:
        UserError: images, labels, settings or logits an attack cannot work with.
    """
    norm = check_norm(norm)
    generator = generator or torch.Generator().manual_seed(0)
    start = generator.get_state()
    found = fmn(model, x, y, norm=norm, steps=steps, targets=targets, bounds=bounds, generator=generator)
    if norm == 0:
        return nearer(found, sigma_zero(model, x, y, steps=steps, targets=targets, bounds=bounds))
    generator.set_state(start)
    other = steep(model, x, y, norm=norm, steps=steps, targets=targets, bounds=bounds, generator=generator)
    found = nearer(found, other)
    if norm == 2:
        generator.set_state(start)
        other = ddn(model, x, y, steps=steps, targets=targets, bounds=bounds, generator=generator)
        found = nearer(found, other)
    return found
