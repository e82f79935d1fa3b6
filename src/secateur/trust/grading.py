"""From checks to a letter, at a cost that stays a fraction of the attack's own."""

import torch
from torch import nn

from secateur.attacks.result import AttackResult, Outcome
from secateur.attacks.run import undisturbed
from secateur.data import Dataset
from secateur.trust.audit import AUDIT, Auditor
from secateur.trust.checks import ALWAYS, MINIMUM, clean_accuracy
from secateur.trust.evidence import Check, Evidence, Grade
from secateur.trust.predictions import knows_the_images

SAMPLE = 64
SHARE = 0.15
"""Largest share of the attack's own forward and backward passes that the checks may cost."""
PASSES = 40
"""Passes per sampled image that all checks together need."""


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

    The checks cost at most ``SHARE`` of the attack's own passes. ``audit`` adds the costly ones, on a sample:
    other attacks, other seeds, planted examples; together a few times the attack's cost on ``SAMPLE`` images.
    ``expected_accuracy`` is the clean accuracy that was recorded elsewhere. The model is left as it was.
    """
    attacked = (~result.where(Outcome.ALREADY_WRONG)).nonzero().squeeze(1)
    if not len(attacked):
        sentence = f"none of the {result.n} images was classified correctly: nothing was attacked"
        return Grade("X", [Check("F02", False, "fail", sentence), knows_the_images(model, dataset, result)])
    spent = (result.forwards.sum() + result.backwards.sum()).item()
    size = SAMPLE if audit else max(2, min(SAMPLE, len(attacked), int(SHARE * spent / PASSES)))
    index = attacked[torch.linspace(0, len(attacked) - 1, min(size, len(attacked))).round().long()]
    evidence = Evidence(model, dataset, result, index, seed)
    minimum = result.kind == "minimum-norm"
    checks = [*ALWAYS, *(MINIMUM if minimum else ())]
    with undisturbed(model):
        done = [clean_accuracy(result, expected_accuracy), *(check(evidence) for check in checks)]
        done.append(knows_the_images(model, dataset, result))
        if audit:
            done = _merged(done, [check(Auditor(evidence)) for check in AUDIT])
    failed = {check.severity for check in done if not check.passed}
    return Grade("C" if "fail" in failed else "B" if failed else "A", done)


def _merged(cheap: list[Check], costly: list[Check]) -> list[Check]:
    """One check per id, in order: where both looked, the one that did not pass, or else the costly one."""
    checks = {check.id: check for check in cheap}
    for check in costly:
        if check.id not in checks or checks[check.id].passed:
            checks[check.id] = check
    return sorted(checks.values(), key=lambda check: check.id)
