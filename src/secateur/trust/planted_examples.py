"""Planted examples: a new last layer under which an adversarial example certainly exists nearby."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from secateur.attacks.core.batch import select
from secateur.attacks.core.losses import reaches_goal
from secateur.attacks.core.norms import distance
from secateur.attacks.core.pixel_units import quantise
from secateur.attacks.fgsm import random_perturbation
from secateur.attacks.runner.bind import bind
from secateur.errors import UserError
from secateur.trust.audit_context import AuditContext

INNER = 8
"""Random perturbations smaller than the planted one, which must keep the class."""


def planted_share(context: AuditContext) -> tuple[float, int]:
    """The share of planted examples that the attack finds, and the number planted.

    For every image a point at the distance that the attack reached (or at 95 % of its fixed size), in a
    random direction, becomes class 1, the image and nearer random points class 0: one linear layer on the
    model's own features, fitted exactly. Something at least as near is there to be found, whatever the
    network is (Zimmermann et al. 2022, with one planted point). (0, 0) where the model does not end in a
    linear layer, or the attack asks about parts of its batch, which have no last layer of their own.
    """
    last = _last_layer(context)
    if last is None:
        return 0.0, 0
    batch = replace(context.batch, y=torch.zeros_like(context.batch.y), targets=None)
    generator = torch.Generator().manual_seed(context.seed)
    size = _sizes(context)

    def point(share: float) -> Tensor:
        delta = random_perturbation(batch, share * size, p=context.result.norm, generator=generator)
        return batch.keep(quantise(batch.clip(batch.x + delta), context.levels, batch.bounds))

    plant = point(1.0)
    inner = [batch.x, *(point(0.3 + 0.5 * k / INNER) for k in range(INNER))]
    with torch.no_grad():
        features = torch.stack([_features(context.model, last, x) for x in (*inner, plant)], 1)
    # In float64: the fit must be exact to guarantee that the planted example fools.
    weight, usable = _fit(features.double())
    radius = distance(plant - batch.x, context.result.norm)
    usable &= radius > 0
    rows = usable.nonzero().squeeze(1)
    if len(rows) < 4:
        return 0.0, len(rows)
    chosen = select(batch, rows)
    model = _Binarised(context.model, last, weight[rows].to(batch.x.dtype))
    result = context.result
    bound = bind(result.attack, context.dataset, result.settings)
    try:
        found = bound.attack(model, chosen, torch.Generator().manual_seed(result.seed))
    except _PartOfBatch:
        return 0.0, 0
    with torch.no_grad():
        there = reaches_goal(chosen, model(chosen.clip(found.adv))) & found.mask
    reached = distance(chosen.clip(found.adv) - chosen.x, result.norm)
    within = reached <= radius[rows] * 1.05 if result.kind == "minimum-norm" else torch.ones_like(there)
    return (there & within).double().mean().item(), len(rows)


def _sizes(context: AuditContext) -> Tensor:
    own = context.distance
    if context.result.kind != "minimum-norm":
        return torch.full_like(own, 0.95 * float(context.result.settings.get("eps", 0.0)))
    known = own[own.isfinite()]
    whole = distance(context.batch.distance_to_bounds(), context.result.norm)
    return torch.where(own.isfinite(), own, known.median() if len(known) else whole / 4)


def _last_layer(context: AuditContext) -> nn.Linear | None:
    """The linear layer whose output is the model's output, if there is one."""
    seen: list[tuple[nn.Linear, Tensor]] = []
    handles = [
        module.register_forward_hook(lambda layer, _, output: seen.append((layer, output)))
        for module in context.model.modules()
        if isinstance(module, nn.Linear)
    ]
    try:
        logits = context.query(context.batch.x[: context.batch_size])
    finally:
        for handle in handles:
            handle.remove()
    # The very tensor: a softmax or a scaling after the layer would make another one.
    return seen[-1][0] if seen and seen[-1][1] is logits else None


def _features(model: nn.Module, last: nn.Linear, x: Tensor) -> Tensor:
    """The input of the last layer, [N, F], with its graph."""
    given: list[Tensor] = []
    handle = last.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    try:
        model(x)
    finally:
        handle.remove()
    return given[-1].flatten(1)


def _fit(features: Tensor) -> tuple[Tensor, Tensor]:
    """Weights [N, F + 1] that give the last of [N, P, F] points +1 and the others -1, and where they do."""
    wide = torch.cat([features, torch.ones_like(features[..., :1])], 2)
    wanted = -torch.ones(features.shape[:2], dtype=features.dtype, device=features.device)
    wanted[:, -1] = 1
    weight = (torch.linalg.pinv(wide) @ wanted.unsqueeze(2)).squeeze(2)
    answers = (wide @ weight.unsqueeze(2)).squeeze(2)
    return weight, ((answers - wanted).abs() < 0.5).all(1)


class _PartOfBatch(UserError):
    """An attack queried other images than the whole batch."""


class _Binarised(nn.Module):
    """Two logits per image, by a last layer of its own."""

    def __init__(self, model: nn.Module, last: nn.Linear, weight: Tensor) -> None:
        super().__init__()
        self.model, self.last, self.weight = model, last, weight

    def forward(self, x: Tensor) -> Tensor:
        if len(x) != len(self.weight):
            raise _PartOfBatch(f"asked about {len(x)} of {len(self.weight)} images")
        value = (_features(self.model, self.last, x) * self.weight[:, :-1]).sum(1) + self.weight[:, -1]
        return torch.stack([-value, value], 1)
