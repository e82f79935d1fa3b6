"""A targeted attack on every other class, of which the nearest example counts."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from secateur.attacks.core.batch import Found, minimum
from secateur.attacks.core.norms import per_sample
from secateur.errors import UserError


def every_class(
    attack: Callable[..., Found], model: nn.Module, x: Tensor, y: Tensor, *, classes: int
) -> Found:
    """Run ``attack`` towards every class but the label, and keep the nearest example of each image.

    An untargeted attack follows the class that is nearest where it looks, and ends in a local minimum when
    another one is nearer elsewhere. This costs ``classes - 1`` times the passes and does not (the idea of
    MultiTargeted, Gowal et al. 2019). Settings are bound beforehand: ``partial(fmn, norm=2.0, steps=300)``.

    Args:
        attack: a pure attack with a parameter ``targets``.
        model: images to logits [N, classes].
        x: images [N, ...].
        y: true labels [N], int64.
        classes: how many classes the model knows.

    Raises:
        UserError: fewer than two classes, or what the attack itself refuses.
    """
    if classes < 2:
        raise UserError(f"classes is {classes}", hint="a classifier has at least two")
    found = attack(model, x, y, targets=(y + 1) % classes)
    for ahead in range(2, classes):
        found = minimum(found, attack(model, x, y, targets=(y + ahead) % classes))
    # Wrong as any class is wrong already: no example of another class makes it a success.
    wrong = found.already_wrong
    adv = torch.where(per_sample(wrong, x), x, found.adv)
    return Found(adv, found.mask & ~wrong, wrong, found.distance.masked_fill(wrong, 0.0))
