"""Slices of the loss: planes through an image, its adversarial example and the steepest step."""

from dataclasses import dataclass

import torch
from torch import Tensor

from secateur.attacks.core.losses import logit_difference
from secateur.attacks.core.norms import distance
from secateur.attacks.core.pixel_units import quantise
from secateur.attacks.core.steepest import steepest
from secateur.attacks.fgsm import random_perturbation
from secateur.trust.audit_context import AuditContext
from secateur.trust.check import Check

SLICES, POINTS = 16, 9
"""The number of images, and of points along each side of a slice."""


@dataclass(frozen=True)
class Slices:
    """The planes x + a·δ + b·v of n images: δ leads to the stored example, v is a steepest step as long.

    ``rows`` [n] are their places in the sample, ``shares`` [P] the values of a (along the first side) and b,
    from -1 to 1. ``margin`` [n, P, P] is the logit difference there, negative where the model is fooled, and
    ``reached`` [n, P, P] how far the point lies from the image in the attack's norm, clipped to the box and
    rounded to the attack's grey levels.
    """

    rows: Tensor
    shares: Tensor
    margin: Tensor
    reached: Tensor


def slices(context: AuditContext, *, count: int = SLICES, points: int = POINTS) -> Slices:
    """Evaluate the model on a grid in each plane, with ``points``² forward passes per image.

    Where the gradient vanishes, v is random.
    """
    batch, norm = context.batch, context.result.norm
    rows = context.found.nonzero().squeeze(1)[:count]
    generator = torch.Generator().manual_seed(context.seed)
    delta = (context.adv - batch.x)[rows]
    straight = steepest(context.gradient, batch, context.distance, p=norm)
    drawn = random_perturbation(batch, context.distance, p=norm, generator=generator)
    dead = (straight == 0).flatten(1).all(1).view(-1, *[1] * (straight.ndim - 1))
    across = torch.where(dead, drawn, straight)[rows]
    shares = torch.linspace(-1, 1, points, dtype=delta.dtype, device=delta.device)
    margin = torch.empty(len(rows), points, points, dtype=delta.dtype, device=delta.device)
    reached = torch.empty_like(margin)
    whole = batch.x.clone()
    for i, along in enumerate(shares):
        for j, beside in enumerate(shares):
            # The whole sample is asked, so that its labels and targets stay in their places.
            moved = batch.clip(batch.x[rows] + along * delta + beside * across)
            whole[rows] = quantise(moved, context.levels, batch.bounds)
            margin[:, i, j] = logit_difference(batch, context.query(whole))[rows]
            reached[:, i, j] = distance(whole[rows] - batch.x[rows], norm)
    return Slices(rows, shares, margin, reached)


def nearest_in_slices(context: AuditContext) -> Check:
    """F19: in the plane of an example and a steepest step, no other example lies much nearer."""
    if context.result.kind != "minimum-norm":
        return Check("F19", True, "warn", "examples of a given size are not the nearest ones: not looked at")
    seen = slices(context)
    if not len(seen.rows):
        return Check("F19", True, "warn", "there are no examples to slice through")
    own = context.distance[seen.rows].view(-1, 1, 1)
    nearer = ((seen.margin < 0) & (seen.reached < 0.95 * own)).flatten(1).any(1)
    share = nearer.double().mean().item()
    sentence = (
        f"in a plane through each of {len(seen.rows)} examples and the steepest step, "
        f"{share:.0%} have an example that is more than 5 % nearer"
    )
    return Check("F19", share <= 0.125, "fail" if share > 0.5 else "warn", sentence)
