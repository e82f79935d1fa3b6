"""The cheap checks of a result; each takes few passes and states its finding in one sentence.

The identifiers (F01, F03, ...) name kinds of failure, the same in every report.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from secateur.attacks.core.losses import logit_difference, reaches_goal
from secateur.attacks.core.norms import distance
from secateur.attacks.core.pixel_units import quantise
from secateur.attacks.runner.result import AttackResult, Outcome
from secateur.attacks.runner.verification import largest_distance
from secateur.budgets import recorded
from secateur.trust.audit_context import AuditContext
from secateur.trust.baselines import beats_noise, beats_one_step, beats_one_step_of_its_size
from secateur.trust.check import Check
from secateur.trust.gradients import finite_differences, gradients, probabilities

ROUNDING = 1e-4
"""Largest difference of logits that should be equal, relative to the largest logit."""
LEAST_ATTACKED = 30
"""Fewest attacked images for medians and shares that describe a network."""


def clean_accuracy(result: AttackResult, expected: float | None) -> Check:
    """F02: the clean accuracy is the one recorded elsewhere, if there is one."""
    if expected is None:
        return Check("F02", True, "fail", f"clean accuracy {result.accuracy:.1%}, nothing to compare it with")
    off = abs(result.accuracy - expected)
    sentence = f"clean accuracy {result.accuracy:.1%} here, {expected:.1%} in the network's record"
    return Check("F02", off <= 1e-3, "fail", sentence)


def _reproduced(context: AuditContext) -> Check:
    again = context.query_in_other_batches(context.adv)
    lost = context.found & ~reaches_goal(context.batch, again)
    # Answers differ in their last digits between batch sizes: what is lost by no more is as near as it was.
    far = lost & ~(logit_difference(context.batch, again) <= ROUNDING * _scale(again))
    unverified = int(context.result.unverified.sum())
    count, grave = int(lost.sum()) + unverified, int(far.sum()) + unverified
    sentence = (
        f"{count} examples did not fool the model again, in other batches" if count else "examples fool again"
    )
    return Check("F01", count == 0, "fail" if grave > 0.02 * len(context.index) + 1 else "warn", sentence)


def _consistent(context: AuditContext) -> Check:
    result, dataset = context.result, context.dataset
    found = result.where(Outcome.FOUND)
    adv = result.adv[found].double()
    delta = adv - dataset.x[found].cpu().double()
    low, high = dataset.bounds
    problems = []
    if bool(((adv < low) | (adv > high)).any()) or bool(result.box_failures.any()):
        problems.append("examples leave the box")
    norms = {key: distance(delta, p) for p, key in recorded(result.norm).items()}
    stored = {key: column[found] for key, column in result.distances.items()}
    if any(not torch.allclose(norms[key], stored[key], rtol=1e-5, atol=1e-7) for key in norms):
        problems.append("stored distances are not those of the stored examples")
    if bool((stored["linf"] <= 0).any()):
        problems.append("clean images are counted as found")
    # Norms of the same vector are ordered; float64 sums may differ in their last digits.
    slack, root = 1 + 1e-6, max(1, delta[0].numel() if len(delta) else 1) ** 0.5
    if not bool(
        (stored["linf"] <= stored["l2"] * slack).all()
        and (stored["l2"] <= stored["l1"] * slack).all()
        and (stored["l2"] <= root * stored["linf"] * slack).all()
        and (stored["l0"] == stored["l0"].round()).all()
    ):
        problems.append("the norms of the same perturbations contradict each other")
    sentence = "; ".join(problems) or "distances, box and norms agree with the stored examples"
    return Check("F12", not problems, "fail", sentence)


def _deterministic(context: AuditContext) -> Check:
    spread = max(
        float((context.query(context.batch.x) - context.logits).abs().max() / _scale(context.logits))
        for _ in range(4)
    )
    sentence = f"repeated answers to the same images differ by {spread:.1e} of the largest logit"
    return Check("F03", spread <= ROUNDING, "fail", sentence)


def _scale(logits: Tensor) -> Tensor:
    return logits.abs().max().clamp_min(torch.finfo(logits.dtype).tiny)


def _logits_not_probabilities(context: AuditContext) -> Check:
    simplex = probabilities(context.logits)
    said = "the model returns probabilities, not logits: gradients vanish where it is sure"
    return Check("F04", not simplex, "warn", said if simplex else "the model returns logits")


def _batch_invariant(context: AuditContext) -> Check:
    others = context.query_in_other_batches(context.batch.x)
    off = float((others - context.logits).abs().max() / _scale(context.logits))
    sentence = f"answers in small batches and in a large one differ by {off:.1e} of the largest logit"
    return Check("F07", off <= ROUNDING, "fail" if off > 1e-2 else "warn", sentence)


def _scaled(context: AuditContext) -> Check:
    margin = logit_difference(context.batch, context.logits).abs().median().item()
    sentence = f"the median logit difference is {margin:.3g}"
    return Check(
        "F18", margin <= 100, "warn", sentence + ("" if margin <= 100 else ": the softmax saturates")
    )


def _starts_clean(context: AuditContext) -> Check:
    """F11 from the record alone: at budget 0 the security curve is the clean accuracy, then it falls."""
    result = context.result
    wrong = result.where(Outcome.ALREADY_WRONG)
    zero = (result.distance <= 0) if result.targets is None else wrong
    start = 1 - (result.distance <= 0).double().mean().item()
    agrees = result.targets is not None or abs(start - result.accuracy) < 1e-9
    passed = agrees and torch.equal(zero, wrong) and not bool(result.distance.isnan().any())
    sentence = f"at budget 0 robust accuracy is {start:.1%}, clean accuracy {result.accuracy:.1%}"
    return Check("F11", passed, "fail", sentence)


def _survives_rounding(context: AuditContext) -> Check:
    """F20, reported only: the share of examples that survive rounding to the grey levels of image files."""
    batch = context.batch
    stored = quantise(context.adv, context.dataset.levels or 256, batch.bounds)
    left = (reaches_goal(batch, context.query(stored)) & context.found).sum().item()
    share = left / max(1, int(context.found.sum()))
    grid = context.dataset.levels or 256
    return Check(
        "F20", True, "warn", f"{share:.0%} of the examples still fool when rounded to {grid} grey levels"
    )


def _silent(context: AuditContext) -> Check:
    result = context.result
    # The best query is in the attack's norm, whatever the attack itself minimised.
    best = result.best_optim_distances[result.norm_key]
    worse = int((best < result.distance * (1 - 1e-4)).sum())
    missed = int((best.isfinite() & result.where(Outcome.NOT_FOUND)).sum())
    sentence = f"on {worse} images the attack passed a better example than it returned, {missed} of them lost"
    return Check("F08", worse == 0, "fail" if missed or worse > 0.01 * result.n else "warn", sentence)


def _complete(context: AuditContext) -> Check:
    result = context.result
    missed = int(result.where(Outcome.NOT_FOUND).sum())
    attacked = result.n - int(result.where(Outcome.ALREADY_WRONG).sum())
    sentence = (
        f"the attack failed on {missed} of {attacked} images although it could change them without limit"
    )
    return Check("F09", missed == 0, "fail" if missed > 0.05 * attacked else "warn", sentence)


def _converged(context: AuditContext) -> Check:
    result = context.result
    attacked = ~result.where(Outcome.ALREADY_WRONG)
    late, end = (column[attacked].median().item() for column in (result.late, result.distance))
    # Of a random network even the clean image may be an example: there is nothing left to gain.
    gain = 0.0 if end == late or late == 0 else 1 - end / late
    sentence = f"the last quarter of the steps lowered the median distance by {gain:.1%}"
    return Check("F10", gain <= 0.02, "warn", sentence)


def enough_attacked(result: AttackResult) -> Check:
    """F22: at least ``LEAST_ATTACKED`` images were classified correctly, and so attacked."""
    attacked = result.n - int(result.where(Outcome.ALREADY_WRONG).sum())
    if attacked < LEAST_ATTACKED:
        sentence = f"too few images: {attacked} were attacked, at least {LEAST_ATTACKED} are needed"
        return Check("F22", False, "fail", sentence)
    return Check("F22", True, "fail", f"{attacked} images were attacked")


def size_kept(context: AuditContext) -> Check:
    """F23: no example lies beyond the size that the attack was given; see ``largest_distance``.

    Examples beyond it count as not found already. That there were any means that the attack, its norm or its
    settings are not what they are called.
    """
    result, dataset = context.result, context.dataset
    if result.fell is None or result.oversized is None:
        return Check("F23", True, "fail", "the attack has no size to keep to")
    shape, bounds = tuple(dataset.x.shape[1:]), dataset.bounds
    found = result.where(Outcome.FOUND)
    limits = [largest_distance(eps, result.norm, shape, bounds) for eps in result.fell[found].tolist()]
    beyond = sum(
        reached > limit for reached, limit in zip(result.distance[found].tolist(), limits, strict=True)
    )
    count = int(result.oversized.sum()) + beyond
    if not count:
        return Check("F23", True, "fail", f"no example lies beyond ε = {_said(result)}")
    sentence = (
        f"the attack returned {count} examples beyond its size, ε = {_said(result)} in {result.norm_key}: "
        "they count as not found"
    )
    return Check("F23", False, "fail", sentence)


def _said(result: AttackResult) -> str:
    return ", ".join(f"{eps:.4g}" for eps in result.sizes)


ALWAYS: dict[str, Callable[[AuditContext], Check]] = {
    "F01": _reproduced,
    "F12": _consistent,
    "F03": _deterministic,
    "F04": _logits_not_probabilities,
    "F06": finite_differences,
    "F07": _batch_invariant,
    "F11": _starts_clean,
    "F18": _scaled,
    "F20": _survives_rounding,
}
"""Checks of any attack, on the small sample."""
ALWAYS_WIDE: dict[str, Callable[[AuditContext], Check]] = {"F05": gradients}
"""Checks of any attack that need many images but few passes."""
MINIMUM: dict[str, Callable[[AuditContext], Check]] = {
    "F08": _silent,
    "F09": _complete,
    "F10": _converged,
    "F14": beats_noise,
}
"""Checks of minimum-norm attacks, on the small sample."""
MINIMUM_WIDE: dict[str, Callable[[AuditContext], Check]] = {"F15": beats_one_step}
"""Checks of such attacks that need many images."""
FIXED: dict[str, Callable[[AuditContext], Check]] = {"F23": size_kept}
"""Checks of attacks of fixed size, on the small sample."""
FIXED_WIDE: dict[str, Callable[[AuditContext], Check]] = {"F15": beats_one_step_of_its_size}
"""Checks of such attacks that need many images."""
