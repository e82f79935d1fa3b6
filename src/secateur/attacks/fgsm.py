"""One steepest step inside a ball, the fast gradient sign method and its kin; random noise to compare."""

import torch
from torch import Tensor, nn

from secateur.attacks.core.batch import Batch, Found, check_batch, check_logits, conclude
from secateur.attacks.core.best import query_active
from secateur.attacks.core.gradients import input_gradient
from secateur.attacks.core.losses import is_adversarial, logit_difference, reaches_goal
from secateur.attacks.core.norms import INF, by_place, check_norm, distance, per_sample
from secateur.attacks.core.pixel_units import in_pixels
from secateur.attacks.core.steepest import steepest
from secateur.budgets import L0_PIXELS, counts
from secateur.errors import UserError
from secateur.registry.settings import check


@in_pixels("eps")
def fgsm(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    norm: float = INF,
    eps: float = 8 / 255,
    targets: Tensor | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> Found:
    """One steepest step of size ``eps`` (Goodfellow et al. 2015, arXiv:1412.6572): x + ε sign(∇L).

    Two forwards and one backward. An image whose step does not fool the model is not found.

    Deviations from the paper:

    * L is the logit difference, not cross-entropy: its gradient does not vanish where the softmax saturates.
    * The step is the steepest one inside the box as well: a pixel that is clipped gives its share to others
      in L0 and L1.
    * An image is adversarial if its logit difference is below zero by more than 64 rounding errors of the
      largest logit, so that it fools on other machines too.
    * The other norms have their own steepest steps (``steepest``).

    Args:
        model: images to logits.
        x: images [N, ...], float32 or float64, inside ``bounds``.
        y: true labels [N], int64.
        norm: 0, 1, 2, inf or "L0-pixels".
        eps: ε, by default 8/255 of the width of the ``bounds``; in L0 it counts values or
            pixels and must be given.
        targets: wanted classes [N] of a targeted attack.
        bounds: lowest and highest pixel value.

    Raises:
        UserError: images, labels, settings or logits an attack cannot work with.

    >>> import torch
    >>> from secateur.attacks import fgsm
    >>> model = lambda x: torch.stack([torch.ones(len(x)), x.sum(1)], 1)  # class 1 if pixels sum to over 1
    >>> x, y = torch.tensor([[0.2, 0.2], [0.4, 0.4]]), torch.tensor([0, 0])
    >>> fgsm(model, x, y, eps=0.2).mask  # the boundary is 0.3 and 0.1 away
    tensor([False,  True])
    """
    batch = check_batch(x, y, targets, bounds)
    p = check_norm(norm)
    _check_eps("fgsm", eps, p)
    query = batch.x.clone().requires_grad_(True)
    logits = model(query)
    check_logits(logits, batch, gradient=True)
    gradient = input_gradient(logit_difference(batch, logits), query)
    radius = torch.full_like(batch.x.flatten(1)[:, 0], eps)
    adv = batch.clip(batch.x + steepest(gradient, batch, radius, p=p))
    with torch.no_grad():
        fooled = is_adversarial(batch, model(adv))
    reached = torch.where(fooled, distance(adv - batch.x, p), torch.inf)
    return conclude(batch, adv, reached, reaches_goal(batch, logits.detach()))


@in_pixels("eps")
@torch.no_grad()
def noise(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    norm: float = INF,
    eps: float = 8 / 255,
    steps: int = 100,
    targets: Tensor | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
    generator: torch.Generator | None = None,
) -> Found:
    """The first of ``steps`` random perturbations of size ``eps`` that fools: a floor for attacks.

    Arguments and errors are those of ``fgsm``, besides the ``generator`` of the noise. ``steps + 1``
    forwards, no backward. Every image of the batch gets the same noise, scaled and clipped.

    >>> import torch
    >>> from secateur.attacks import noise
    >>> model = lambda x: torch.stack([torch.ones(len(x)), x.sum(1)], 1)  # class 1 if pixels sum to over 1
    >>> x, y = torch.tensor([[0.2, 0.2], [0.4, 0.4]]), torch.tensor([0, 0])
    >>> noise(model, x, y, eps=0.2).mask
    tensor([False,  True])
    """
    batch = check_batch(x, y, targets, bounds)
    p = check_norm(norm)
    _check_eps("noise", eps, p)
    check("noise", steps=steps)
    generator = generator or torch.Generator().manual_seed(0)
    radius = torch.full_like(batch.x.flatten(1)[:, 0], eps)
    adv, reached = batch.x.clone(), torch.full_like(radius, torch.inf)
    logits = model(batch.x)
    check_logits(logits, batch)
    for _ in range(steps):
        query = batch.clip(batch.x + random_perturbation(batch, radius, p=p, generator=generator))
        seen, active = query_active(model, query)
        fooled = is_adversarial(batch, seen) & active & reached.isinf()
        adv = torch.where(per_sample(fooled, adv), query, adv)
        reached = torch.where(fooled, distance(query - batch.x, p), reached)
    return conclude(batch, adv, reached, reaches_goal(batch, logits))


def random_perturbation(batch: Batch, eps: Tensor, *, p: float, generator: torch.Generator) -> Tensor:
    """Noise [N, ...] of p-norm ``eps`` [N], clipped to the box: signs for inf, Gaussian for 1 and 2.

    Where p counts, random entries, or pixels with all channels, jump to a random end of the box. All images
    of a batch get the same noise, scaled and clipped, so that batching changes nothing.
    """
    x = batch.x
    shape = (1, *x.shape[1:])
    drawn = torch.randn(shape, generator=generator, dtype=x.dtype).to(x.device)
    if counts(p):
        places = (1, 1, *x.shape[2:]) if by_place(x, p) else shape
        score = torch.rand(places, generator=generator, dtype=x.dtype).to(x.device).flatten(1)
        rank = score.argsort(1).argsort(1).view(places)
        corner = torch.where(drawn > 0, batch.limits[1], batch.limits[0])
        return torch.where(rank < per_sample(eps, x), corner - x, torch.zeros_like(x))
    unit = drawn.sign() if p == INF else drawn / per_sample(distance(drawn, p), x)
    return batch.clip(x + unit * per_sample(eps, x)) - x


def _check_eps(attack: str, eps: float, p: float) -> None:
    check(attack, eps=eps)
    if counts(p) and eps < 1:
        name, what = ("L0-pixels", "pixels") if p == L0_PIXELS else ("L0", "values")
        raise UserError(
            f"eps is {eps:g} in {name}", hint=f"there it counts {what}: give at least 1, as in eps=10"
        )
