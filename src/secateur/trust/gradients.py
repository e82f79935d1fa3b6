"""Checks of gradients: they exist, and agree with finite differences of the model."""

import torch
from torch import Tensor

from secateur.attacks.core.batch import Batch, select
from secateur.attacks.core.losses import logit_difference
from secateur.attacks.core.norms import distance, per_sample
from secateur.attacks.runner.batching import out_of_memory
from secateur.attacks.runner.classifier import Classifier
from secateur.trust.audit_context import AuditContext, LogitValue
from secateur.trust.baselines import many
from secateur.trust.check import Check, error_text

CHANGES = (1e-3, 1e-2, 1e-4)
"""Changes that a step should make, relative to the logit difference; tried in this order.

One that agrees is enough: a large step may leave the linear range, a small one drown in rounding errors.
"""
DIGITS = 100
"""A change is at least this many rounding errors of the largest logit, which are then 1 % of it."""
LARGEST = 1e-2
"""The largest change, relative to the logits; where rounding errors need more, nothing is compared."""


def gradients(context: AuditContext) -> Check:
    """F05: no gradient vanishes or is infinite, at the image and half-way to its example."""
    half = context.batch.clip((context.batch.x + context.adv) / 2)
    try:
        pair = context.gradient, context.gradient_of(half)
    except RuntimeError as error:
        if out_of_memory(error):
            raise
        return Check("F05", False, "fail", f"the gradient cannot be computed: {error_text(error)}")
    counts = []
    for gradient in pair:
        dead = ~gradient.isfinite().flatten(1).all(1) | (gradient == 0).flatten(1).all(1)
        counts.append(int(dead.sum()))
    k, n = max(counts), len(context.index)
    sentence = f"the gradient vanishes or is not finite on {k} of {n} images"
    return Check("F05", k == 0, "fail" if many(k, n) else "warn", sentence)


def probabilities(logits: Tensor) -> bool:
    """Whether ``logits`` [n, K] are probabilities: not negative, and their sum is 1."""
    return bool(((logits.sum(1) - 1).abs().max() <= 1e-4) & (logits >= 0).all() & (logits <= 1 + 1e-6).all())


def log_margin(batch: Batch, logits: Tensor) -> Tensor:
    """The difference [n] of the logarithms of two probabilities: the logit difference before the softmax."""
    return logit_difference(batch, logits.log())


def finite_differences(context: AuditContext) -> Check:
    """F06: along the gradient the logit difference changes as fast as the gradient says.

    Steps are measured by the change that they should make, a share of the logit difference: that depends
    neither on the scale of the logits nor on that of the images. Probabilities are compared by their
    logarithms. They saturate where the network is sure, and one step leaves the range in which they are
    linear; their logarithms do not, and the gradient is still the one that came through the network.
    """
    value = log_margin if probabilities(context.logits) else logit_difference
    gradient = context.gradient_of(context.batch.x, value) if value is log_margin else context.gradient
    length = distance(gradient.double(), 2.0)
    live = length.isfinite() & (length > 0)
    if not bool(live.any()):
        return Check("F06", False, "fail", "there is no gradient to compare with finite differences")
    off, judged = _disagree(context, gradient, value)
    off, judged = off & live, judged & live
    n, known, k = int(live.sum()), int(judged.sum()), int((off & judged).sum())
    if 2 * known < n:
        sentence = (
            f"the answers are too coarse to compare the gradient with finite differences on {n - known} "
            f"of {n} images"
        )
        return Check("F06", False, "warn", sentence)
    share = k / known
    sentence = f"the gradient disagrees with finite differences on {share:.1%} of {known} images"
    return Check("F06", share <= 0.1, "fail" if share > 0.5 else "warn", sentence)


def _disagree(context: AuditContext, gradient: Tensor, value: LogitValue) -> tuple[Tensor, Tensor]:
    """Where no step agrees with the gradient, [n], and where at least one was large enough to tell, [n]."""
    batch = context.batch
    # The gradient of a saturated softmax has a length whose square float32 cannot hold.
    exact = gradient.double()
    length = distance(exact, 2.0).clamp_min(1e-300)
    logits = context.logits.log() if value is log_margin else context.logits
    start = value(batch, context.logits).double().abs()
    largest = logits.double().abs().nan_to_num(posinf=0.0).amax(1)
    kinds = {context.logits.dtype, batch.x.dtype}
    if isinstance(context.model, Classifier):
        # Its logits are float32, but no finer than what it computes in.
        kinds.add(context.model.ways.precision)
    precision = max(torch.finfo(kind).eps for kind in kinds)
    off = torch.ones_like(context.found)
    judged = torch.zeros_like(off)
    for share in CHANGES:
        change = (share * start).maximum(DIGITS * precision * largest)
        able = change <= LARGEST * start.maximum(largest)
        judged |= able
        rows = (off & able).nonzero().squeeze(1)
        if not len(rows):
            continue
        step = (exact * per_sample(change / length**2, exact))[rows].to(batch.x)
        part, x = select(batch, rows), batch.x[rows]
        ahead, behind = x + step, x - step
        # What the step should change is taken from the pixels as they were rounded.
        expected = (exact[rows] * (ahead.double() - behind.double())).flatten(1).sum(1)
        measured = (value(part, context.query(moved)).double() for moved in (ahead, behind))
        off[rows] = ~((next(measured) - next(measured)) / expected - 1).abs().le(0.1)
    return off, judged
