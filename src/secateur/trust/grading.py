"""From checks to a letter, at a cost that stays a fraction of the attack's own."""

from collections import Counter
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from secateur.attacks.runner.result import AttackResult, Outcome
from secateur.attacks.runner.run import undisturbed
from secateur.data import Dataset
from secateur.trust.audit import AUDIT, Auditor
from secateur.trust.audit_context import AuditContext
from secateur.trust.check import Check, Grade, guarded
from secateur.trust.checks import (
    ALWAYS,
    ALWAYS_WIDE,
    FIXED,
    FIXED_WIDE,
    MINIMUM,
    MINIMUM_WIDE,
    clean_accuracy,
    enough_attacked,
)
from secateur.trust.preprocessing import knows_the_images

SAMPLE = 64
"""The most images that are looked at, and the number for checks that need many and ask little of each."""
SHARE = 0.15
"""Share of the attack's own forward and backward passes that the checks may cost."""
LEAST = 8
"""Images that every check sees, even if that costs a larger share of a short attack."""
PASSES, WIDE_PASSES = 24, 5
"""Passes per image of the checks on the small sample, and of those on the large one."""


def grade(
    model: nn.Module,
    dataset: Dataset,
    result: AttackResult,
    *,
    expected_accuracy: float | None = None,
    audit: bool = False,
    seed: int = 0,
) -> Grade:
    """Check ``result`` of an attack on ``model`` and ``dataset`` and grade it.

    Two checks need many images and ask little of each: they see up to ``SAMPLE``. The others see as many as
    keep the cost of all at ``SHARE`` of the attack's own passes, and at least ``LEAST``; ``Grade.cost`` says
    what they cost. ``audit`` adds the costly checks, on ``SAMPLE`` images: other attacks, other seeds,
    planted examples; together a few times the attack's cost on those. ``expected_accuracy`` is the clean
    accuracy that was recorded elsewhere. A check that raises becomes a warning with its sentence, so that
    nothing is lost and the grade is not A; where more than a third do it is C. The model is left as it was.
    """
    attacked = (~result.where(Outcome.ALREADY_WRONG)).nonzero().squeeze(1)
    if not len(attacked):
        sentence = f"none of the {result.n} images was classified correctly: nothing was attacked"
        knows = guarded("F24", partial(knows_the_images, model, dataset, result, Counter()))
        return Grade("X", [Check("F02", False, "fail", sentence), knows])
    minimum = result.kind == "minimum-norm"
    spent = (result.forwards.sum() + result.backwards.sum()).item()
    wide = min(SAMPLE, len(attacked))
    size = int((SHARE * spent - WIDE_PASSES * wide) / PASSES)
    many = AuditContext(model, dataset, result, _spread(attacked, wide), seed)
    few = many if audit else replace(many, index=_spread(attacked, min(wide, max(LEAST, size))))
    jobs = [*((few, id, check) for id, check in {**ALWAYS, **(MINIMUM if minimum else FIXED)}.items())]
    wider = {**ALWAYS_WIDE, **(MINIMUM_WIDE if minimum else FIXED_WIDE)}
    jobs += [(many, id, check) for id, check in wider.items()]
    joint = None
    with undisturbed(model):
        done = [clean_accuracy(result, expected_accuracy), enough_attacked(result)]
        done += [guarded(id, partial(check, context)) for context, id, check in jobs]
        done.append(guarded("F24", partial(knows_the_images, model, dataset, result, many.passes)))
        if audit:
            auditor = Auditor(many)
            done = _merged(done, [guarded(id, partial(check, auditor)) for id, check in AUDIT.items()])
            joint = auditor.joint
    if 3 * sum(not check.ran for check in done) > len(done):
        # Too little is known for a mere warning.
        done = [check if check.ran else replace(check, severity="fail") for check in done]
    failed = {check.severity for check in done if not check.passed}
    cost = sum(many.passes.values()) / max(spent, 1)
    done.sort(key=lambda check: check.id)
    return Grade("C" if "fail" in failed else "B" if failed else "A", done, cost, joint)


def _spread(rows: Tensor, count: int) -> Tensor:
    """``count`` of the ``rows`` [n], evenly spread."""
    return rows[torch.linspace(0, len(rows) - 1, count).round().long()]


def _merged(cheap: list[Check], costly: list[Check]) -> list[Check]:
    """One check per id, in order: where both looked, the one that did not pass, or else the costly one."""
    checks = {check.id: check for check in cheap}
    for check in costly:
        if check.id not in checks or checks[check.id].passed:
            checks[check.id] = check
    return list(checks.values())
