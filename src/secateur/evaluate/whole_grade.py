"""The grade of a result whose images are gone but for a sample: the numbers of all, the sample's answers."""

from collections import Counter
from dataclasses import replace
from functools import partial

import torch
from torch import nn

from secateur import trust
from secateur.attacks.runner.merging import as_dataset, rows_of
from secateur.attacks.runner.result import AttackResult
from secateur.attacks.runner.streaming import GRADED, Attacked
from secateur.models import predict
from secateur.trust.audit import Auditor, enough
from secateur.trust.audit_context import AuditContext
from secateur.trust.check import Check, Grade, guarded, letter_of
from secateur.trust.checks import ALWAYS, FIXED, MINIMUM, clean_accuracy, enough_attacked
from secateur.trust.joint import Joint
from secateur.trust.preprocessing import better_normalised, misfit, of_evidence

NUMBERS = ("F08", "F09", "F10", "F23")
"""Checks that look at the numbers of all images, and at no image."""


def grade_of(
    network: nn.Module, found: Attacked, *, expected_accuracy: float | None, audit: bool, seed: int
) -> Grade:
    """Check a streamed result: its numbers over all images, its examples on the sample that was kept.

    The sample is of images that were attacked, evenly spread; F24 tries other normalisations on one of all.
    """
    whole, chosen = found.result, found.attacked.chosen()
    if not chosen:
        sentence = f"none of the {whole.n} images was classified correctly: nothing was attacked"
        knows = guarded("F24", partial(_knows, network, found))
        return Grade("X", [Check("F02", False, "fail", sentence), knows])
    images, box = as_dataset(chosen, found.last)
    index = torch.tensor([image.number for image in chosen])
    part = rows_of(whole, index, chosen, box)
    graded = trust.grade(network, images, part, audit=audit, seed=seed)
    context = AuditContext(network, images, whole, torch.arange(len(index)), seed)
    again = [clean_accuracy(whole, expected_accuracy), enough_attacked(whole)]
    if audit and again[1].passed:
        again[1] = enough(Auditor(context))
    numbers = {**MINIMUM, **FIXED}
    had = {check.id for check in graded.checks}
    again += [guarded(id, partial(numbers[id], context)) for id in NUMBERS if id in had]
    starts = guarded("F11", partial(ALWAYS["F11"], context))
    # An audit looks at growing budgets instead.
    again += [] if audit and starts.passed else [starts]
    again += [guarded("F24", partial(_knows, network, found)), *_unverified(graded, part, whole)]
    joint = graded.joint and replace(
        graded.joint,
        index=index[graded.joint.index].tolist(),
        attacked=1 - whole.ori_success.double().mean().item(),
    )
    return _replaced(graded, again, part, whole, joint=joint)


def _knows(network: nn.Module, found: Attacked) -> Check:
    """F24 over all images; normalisations are tried on the sample of all."""
    whole, labels, chosen = found.result, torch.tensor(found.labels), found.any.chosen()
    images, box = as_dataset(chosen, found.last)
    if whole.targets is None:
        # An image that was wrong already was not attacked: its class is that of the clean image.
        predicted = torch.where(whole.correct, labels, whole.classes)
    else:
        predicted, labels = predict(network, images.x).cpu(), images.y
    wrong = misfit(predicted, labels, found.last.classes)
    part = rows_of(whole, torch.tensor([image.number for image in chosen]), chosen, box)
    better = better_normalised(network, images, part, Counter())
    return of_evidence(wrong, better, whole)


def _unverified(graded: Grade, part: AttackResult, whole: AttackResult) -> list[Check]:
    """F01 with the examples beyond the sample that fooled an accelerated copy only."""
    more = int(whole.unverified.sum() - part.unverified.sum())
    if not more:
        return []
    said = next(check for check in graded.checks if check.id == "F01")
    sentence = f"{more} examples beyond the sample did not fool the model again; {said.sentence}"
    grave = more > 0.02 * GRADED + 1 or (not said.passed and said.severity == "fail")
    return [Check("F01", False, "fail" if grave else "warn", sentence)]


def _replaced(
    graded: Grade, again: list[Check], part: AttackResult, whole: AttackResult, *, joint: Joint | None
) -> Grade:
    checks = {**{check.id: check for check in graded.checks}, **{check.id: check for check in again}}
    spent, all_spent = (float((each.forwards.sum() + each.backwards.sum()).item()) for each in (part, whole))
    return Grade(
        letter_of(checks.values()),
        sorted(checks.values(), key=lambda check: check.id),
        graded.cost * spent / max(all_spent, 1),
        joint,
    )
