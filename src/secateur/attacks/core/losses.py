"""Losses that attacks lower, their derivatives, and when logits count as adversarial."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from secateur.attacks.core.batch import Batch
from secateur.errors import UserError

Loss = Literal["margin", "ce", "dlr"]
OwnLoss = Callable[[Tensor, Tensor], Tensor]
"""A loss of one's own: from logits [N, K] and classes [N] to one number per image [N], as in training."""


def reaches_goal(batch: Batch, logits: Tensor) -> Tensor:
    """Where the prediction is wrong (untargeted) or the target (targeted), [N] bool; not for NaN or inf."""
    hit = logits.argmax(1) == batch.reference_class
    goal = ~hit if batch.targets is None else hit
    return goal & logits.isfinite().all(1)


def is_adversarial(batch: Batch, logits: Tensor) -> Tensor:
    """Where the goal is reached by more than rounding errors, [N] bool; only this is a success.

    Logits differ in their last digits between batch sizes and machines: an example nearer to the boundary
    than that would fool here and not there.
    """
    return margin_is_safe(logit_difference(batch, logits), logits)


def margin_is_safe(margin: Tensor, logits: Tensor) -> Tensor:
    """``is_adversarial`` for ``logits`` [N, K] whose logit difference ``margin`` [N] is known already."""
    # A logit that is not finite makes the largest one infinite or NaN, and this comparison false.
    return margin < logits.abs().amax(1) * (-64 * torch.finfo(logits.dtype).eps)


def logit_difference(batch: Batch, logits: Tensor) -> Tensor:
    """Logit of the label minus the largest other one, [N], negative where fooled; targeted: the negative.

    One class takes the gradient of a tie.
    """
    own = logits.gather(1, batch.reference_class.unsqueeze(1)).squeeze(1)
    other = _without(logits, batch.reference_class).max(1).values
    return own - other if batch.targets is None else other - own


def logit_difference_and_grad(batch: Batch, logits: Tensor) -> tuple[Tensor, Tensor]:
    """``logit_difference`` [N] and its derivative by the ``logits`` [N, K]."""
    reference = batch.reference_class.unsqueeze(1)
    other, column = _without(logits, batch.reference_class).max(1, keepdim=True)
    own = logits.gather(1, reference)
    sign = 1.0 if batch.targets is None else -1.0
    grad = torch.zeros_like(logits).scatter_(1, reference, sign).scatter_(1, column, -sign)
    return (own - other if batch.targets is None else other - own).squeeze(1), grad


def log_odds(batch: Batch, logits: Tensor) -> Tensor:
    """``log(p / (1 - p))`` of the label [N], to be lowered; the negative of the target's if targeted.

    Cross-entropy is a monotone function of it, so both have the same normalised gradient. This one keeps
    its digits when the softmax saturates, where the gradient of cross-entropy rounds to zero or to a wrong
    direction.
    """
    own = logits.gather(1, batch.reference_class.unsqueeze(1)).squeeze(1)
    value = own - _without(logits, batch.reference_class).logsumexp(1)
    return value if batch.targets is None else -value


def log_odds_grad(batch: Batch, logits: Tensor) -> Tensor:
    """The derivative of ``log_odds`` by the ``logits`` [N, K]."""
    grad = -_without(logits, batch.reference_class).softmax(1)
    grad.scatter_(1, batch.reference_class.unsqueeze(1), 1.0)
    return grad if batch.targets is None else -grad


def attack_loss(batch: Batch, logits: Tensor, loss: Loss | OwnLoss) -> Tensor:
    """The loss to lower, [N]: ``"margin"`` (logit difference), ``"ce"`` (as log-odds), ``"dlr"``, or own.

    A loss of one's own is one that training lowers: the attack raises it for the labels, and lowers it for
    the targets if it is targeted.

    DLR, the logit difference ratio of Croce & Hein 2020, divides the logit difference by that of the first
    and third largest logits, so that the scale of the logits does not matter.
    """
    if callable(loss):
        return _own(batch, logits, loss)
    # With two classes DLR is the sign of the logit difference, and its gradient zero.
    if loss == "margin" or (loss == "dlr" and logits.shape[1] < 3):
        return logit_difference(batch, logits)
    if loss == "ce":
        return log_odds(batch, logits)
    top = logits.topk(3, dim=1).values
    return logit_difference(batch, logits) / (top[:, 0] - top[:, -1]).clamp_min(1e-12)


def attack_loss_grad(batch: Batch, logits: Tensor, loss: Loss | OwnLoss) -> Tensor:
    """The derivative of ``attack_loss`` by the ``logits`` [N, K]."""
    with torch.enable_grad():
        asked = logits.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(attack_loss(batch, asked, loss).sum(), asked)
    return gradient


def _own(batch: Batch, logits: Tensor, loss: OwnLoss) -> Tensor:
    value = loss(logits, batch.reference_class)
    if not isinstance(value, Tensor) or value.shape != (len(logits),):
        seen = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
        raise UserError(
            f"the loss returned {seen} for {len(logits)} images",
            hint='one number per image, as in F.cross_entropy(logits, y, reduction="none")',
        )
    if logits.requires_grad and not value.requires_grad:
        raise UserError(
            "the loss carries no gradient to the logits", hint="remove no_grad(), detach() or argmax from it"
        )
    return -value if batch.targets is None else value


def _without(logits: Tensor, column: Tensor) -> Tensor:
    return logits.scatter(1, column.unsqueeze(1), -torch.inf)
