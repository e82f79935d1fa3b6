"""Queries the model and keeps the nearest adversarial query of every image, for all attack loops."""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from secateur.attacks.core.batch import Batch, Found, check_logits, conclude
from secateur.attacks.core.losses import logit_difference_and_grad, margin_is_safe, reaches_goal
from secateur.attacks.core.norms import distance, per_sample

TIE = 64
"""Units in the last place by which distances may differ and still be equal: the rounding error of a sum."""


@runtime_checkable
class StopsEarly(Protocol):
    """A model that comes with a mask: ``active`` [N] bool, the images of the batch still under attack."""

    active: Tensor

    def forward_active(self, x: Tensor) -> Tensor:
        """Logits [N, K] for ``x`` [N, ...]; only the rows of active images mean anything."""
        ...


def query_active(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Logits [N, K] for ``x``, and the mask [N] of images still under attack, by which they must be masked.

    An attack that queries the model by this function lets its caller stop images early (``StopsEarly``). For
    any other model all images are active.
    """
    if isinstance(model, StopsEarly):
        active = model.active
        return model.forward_active(x), active
    return model(x), torch.ones(len(x), dtype=torch.bool, device=x.device)


class BestAdversarial:
    """The nearest adversarial query of every image so far, by the p-norm.

    ``adv`` [N, ...] is that query and ``distance`` [N] its norm, inf where no query has fooled yet. Of the
    last query, ``is_adversarial`` [N] says whether it fools, ``delta_norm`` [N] how far it lies, ``margin``
    [N] is its logit difference and ``margin_grad`` [N, K] the derivative by the logits. ``already_wrong`` [N]
    holds where a first query that was the clean image met the goal, and where the caller says so. Images that
    are no longer active (``query_active``) keep what they have.

    A query replaces the best one if it is nearer by more than the share ``slack`` of its distance. 0 is right
    where only the distance counts. ``TIE`` units in the last place are right where the search continues from
    the example: of two that are equally near, rounding must not choose.
    """

    def __init__(
        self,
        model: nn.Module,
        batch: Batch,
        p: float,
        *,
        already_wrong: Tensor | None = None,
        slack: float = 0.0,
    ) -> None:
        self.model, self.batch, self.p, self.slack = model, batch, p, slack
        none = torch.zeros_like(batch.y, dtype=torch.bool)
        self.already_wrong = none if already_wrong is None else already_wrong
        self.is_adversarial = none
        self.adv = batch.x.clone()
        self.distance = torch.full((len(none),), torch.inf, dtype=batch.x.dtype, device=batch.x.device)
        self.delta_norm = torch.zeros_like(self.distance)
        self.margin = self.margin_grad = torch.zeros_like(self.distance)
        self._checked: set[bool] = set()

    def query(self, x: Tensor, *, gradient: bool, delta: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """``x`` [N, ...] and its logits [N, K], with a graph between them if a ``gradient`` is wanted.

        ``delta`` is ``x`` minus the clean images, where the caller has it.

        Raises:
            UserError: the first logits, with or without a graph, are none an attack can work with.
        """
        with torch.set_grad_enabled(gradient):
            logits, active = query_active(self.model, x.requires_grad_(gradient))
        # Called by itself, an attack is handed whatever its caller's network answers.
        if gradient not in self._checked:
            check_logits(logits, self.batch, gradient=gradient)
        seen, image = logits.detach(), x.detach()
        self.delta_norm = distance(image - self.batch.x if delta is None else delta, self.p)
        if not self._checked:
            self.already_wrong = self.already_wrong | (
                reaches_goal(self.batch, seen) & (self.delta_norm == 0)
            )
        self._checked.add(gradient)
        margin, self.margin_grad = logit_difference_and_grad(self.batch, seen)
        self.is_adversarial = active & margin_is_safe(margin, seen)
        # Logits may have another precision than the images, and the margin becomes part of a perturbation.
        self.margin = margin.to(self.delta_norm.dtype)
        better = self.is_adversarial & (self.delta_norm < self.distance * (1 - self.slack))
        self.adv = torch.where(per_sample(better, image), image, self.adv)
        self.distance = torch.where(better, self.delta_norm, self.distance)
        return x, logits

    def found(self) -> Found:
        """What was kept, as a record."""
        return conclude(self.batch, self.adv, self.distance, self.already_wrong)
