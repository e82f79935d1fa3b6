"""The strongest preset: per image, the nearest example that any of several attacks found."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from secateur.attacks.core.batch import Found, minimum
from secateur.attacks.core.norms import INF, check_norm
from secateur.attacks.ddn import ddn
from secateur.attacks.fmn import fmn
from secateur.attacks.sigma_zero import sigma_zero
from secateur.attacks.steep.attack import converges_from as steep_converges_from
from secateur.attacks.steep.attack import steep


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

    FMN and steep in every norm; besides, σ-zero in L0 and DDN (unquantised) in L2. Passes add up.

    Raises:
        UserError: images, labels, settings or logits an attack cannot work with.
    """
    norm = check_norm(norm)
    generator = generator or torch.Generator().manual_seed(0)
    start = generator.get_state()
    found = fmn(model, x, y, norm=norm, steps=steps, targets=targets, bounds=bounds, generator=generator)
    if norm == 0:
        found = minimum(found, sigma_zero(model, x, y, steps=steps, targets=targets, bounds=bounds))
    if norm == 2:
        generator.set_state(start)
        other = ddn(model, x, y, steps=steps, targets=targets, bounds=bounds, generator=generator)
        found = minimum(found, other)
    generator.set_state(start)
    other = steep(model, x, y, norm=norm, steps=steps, targets=targets, bounds=bounds, generator=generator)
    return minimum(found, other)


def converges_from(settings: Mapping[str, Any]) -> int:
    """After how many queries the last attack is on its last way.

    Args:
        settings: of ``strongest``, by name.

    Raises:
        UserError: settings that it refuses.
    """
    norm, steps = settings["norm"], settings["steps"]
    last = steep_converges_from({"norm": norm, "steps": steps, "classes": None, "outside": None})
    return int(last + (steps + 1) * (2 if norm in (0, 2) else 1))
