"""Several attacks as one: the strongest preset, and a targeted attack on every class; the nearest counts."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from secateur.attacks.core.batch import Found, minimum
from secateur.attacks.core.norms import INF, check_norm, per_sample
from secateur.attacks.ddn import ddn
from secateur.attacks.fmn import fmn
from secateur.attacks.sigma_zero import sigma_zero
from secateur.attacks.steep.attack import converges_from as steep_converges_from
from secateur.attacks.steep.attack import steep
from secateur.budgets import counts
from secateur.errors import UserError


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

    Args:
        model: images to logits.
        x: images [N, ...], float32 or float64, inside ``bounds``.
        y: true labels [N], int64.
        norm: 0, 1, 2, inf or "L0-pixels".
        steps: iterations of each attack.
        targets: wanted classes [N] of a targeted attack.
        bounds: lowest and highest pixel value.
        generator: every attack starts from its state; a fixed one by default.

    Raises:
        UserError: images, labels, settings or logits an attack cannot work with.

    >>> import torch
    >>> from secateur.attacks import strongest
    >>> model = lambda x: torch.stack([torch.ones(len(x)), x.sum(1)], 1)  # class 1 if pixels sum to over 1
    >>> found = strongest(model, torch.tensor([[0.2, 0.2]]), torch.tensor([0]), norm=2, steps=40)
    >>> round(found.distance.item(), 2)  # 0.6 / √2
    0.42
    """
    p = check_norm(norm)
    generator = generator or torch.Generator().manual_seed(0)
    start = generator.get_state()
    found = fmn(model, x, y, norm=p, steps=steps, targets=targets, bounds=bounds, generator=generator)
    if counts(p):
        other = sigma_zero(model, x, y, norm=p, steps=steps, targets=targets, bounds=bounds)
        found = minimum(found, other)
    if p == 2:
        generator.set_state(start)
        other = ddn(model, x, y, steps=steps, targets=targets, bounds=bounds, generator=generator)
        found = minimum(found, other)
    generator.set_state(start)
    other = steep(model, x, y, norm=p, steps=steps, targets=targets, bounds=bounds, generator=generator)
    return minimum(found, other)


def converges_from(settings: Mapping[str, Any]) -> int:
    """After how many queries the last attack starts its last descent.

    Args:
        settings: of ``strongest``, by name.

    Raises:
        UserError: settings that it refuses.
    """
    norm, steps = settings["norm"], settings["steps"]
    last = steep_converges_from({"norm": norm, "steps": steps, "n_surveyed": None, "pdpgd_share": None})
    return int(last + (steps + 1) * (2 if counts(norm) or norm == 2 else 1))


def every_class(
    attack: Callable[..., Found], model: nn.Module, x: Tensor, y: Tensor, *, classes: int
) -> Found:
    """Run ``attack`` towards every class but the label, and keep the nearest example of each image.

    An untargeted attack follows the class that is nearest to its current iterate, and ends in a local minimum
    when another class is nearer elsewhere. This one does not, at ``classes - 1`` times the passes (the idea
    of MultiTargeted, Gowal et al. 2019). Settings are bound beforehand, as in ``partial(fmn, norm=2.0)``.

    Args:
        attack: a pure attack with a parameter ``targets``.
        model: images to logits.
        x: images [N, ...].
        y: true labels [N], int64.
        classes: how many classes the model knows.

    Raises:
        UserError: fewer than two classes, or what the attack itself refuses.

    >>> import torch
    >>> from functools import partial
    >>> from secateur.attacks import every_class, fmn
    >>> model = lambda x: torch.stack([torch.full((len(x),), 0.5), x[:, 0], x[:, 1]], 1)
    >>> attack = partial(fmn, norm=2, steps=60)
    >>> found = every_class(attack, model, torch.tensor([[0.2, 0.3]]), torch.tensor([0]), classes=3)
    >>> round(found.distance.item(), 2)  # class 2 is nearer than class 1
    0.2
    """
    if classes < 2:
        raise UserError(f"classes is {classes}", hint="a classifier has at least two")
    found = attack(model, x, y, targets=(y + 1) % classes)
    for ahead in range(2, classes):
        found = minimum(found, attack(model, x, y, targets=(y + ahead) % classes))
    # An image that is wrong is so whatever its class: no example of another class makes it a success.
    wrong = found.already_wrong
    adv = torch.where(per_sample(wrong, x), x, found.adv)
    return Found(adv, found.mask & ~wrong, wrong, found.distance.masked_fill(wrong, 0.0))
