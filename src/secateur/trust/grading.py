"""Grade a result: run its checks at a fraction of the attack's own cost, and turn them into a letter."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from secateur.attacks.runner.averaging import drawing
from secateur.attacks.runner.classifier import classifier, gradients_allowed
from secateur.attacks.runner.outputs import Logits
from secateur.attacks.runner.result import AttackResult, Outcome
from secateur.attacks.runner.run import held_still
from secateur.data import Dataset
from secateur.trust.audit import AUDIT, Auditor
from secateur.trust.audit_context import AuditContext
from secateur.trust.check import Check, Grade, guarded, letter_of
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
"""The most images of the sample, and their number for checks that need many images but few passes."""
SHARE = 0.15
"""The cost of the checks, as a share of the attack's own forward and backward passes."""
LEAST = 8
"""The fewest images of a check, even if they cost a larger share of a short attack."""
PASSES, WIDE_PASSES = 24, 5
"""Passes per image of all checks on the small sample, and on the large one."""


@gradients_allowed()
def grade(
    model: Callable[..., Any],
    dataset: Dataset,
    result: AttackResult,
    *,
    expected_accuracy: float | None = None,
    audit: bool = False,
    seed: int = 0,
    logits: Logits = None,
) -> Grade:
    """Check ``result`` of an attack on ``model`` and ``dataset`` and grade it.

    Two checks need many images but few passes: they see up to ``SAMPLE``. The others see as many as keep the
    cost of all checks at ``SHARE`` of the attack's own passes, and at least ``LEAST``; ``Grade.cost`` is the
    actual cost. ``audit`` adds the costly checks, on ``SAMPLE`` images: other attacks, other seeds, planted
    examples; together a few times the attack's cost on those. ``expected_accuracy`` is the clean accuracy
    recorded elsewhere. A check that raises becomes a warning, so that the grade is not A; if more than a
    third raise, it is C. The model is left as it was; ``logits`` says which part of its answer counts, as in
    ``attacks.run``.

    >>> import torch
    >>> from secateur.attacks import run
    >>> from secateur.data import Dataset
    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2)).eval()
    >>> x = torch.rand(8, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    >>> images = Dataset("toy", x, model(x).argmax(1), ("a", "b"), None)
    >>> grade(model, images, run(model, images, "fgsm", eps=0.1)).letter  # fewer than 30 images
    'C'
    """
    fitted = int(result.search.get("batch_size", result.n))
    model = classifier(model, dataset.x, logits=logits, batch_size=fitted, data=dataset.name)
    attacked = (~result.where(Outcome.ALREADY_WRONG)).nonzero().squeeze(1)
    if not len(attacked):
        sentence = f"none of the {result.n} images was classified correctly: nothing was attacked"
        knows = guarded("F24", partial(knows_the_images, model, dataset, result, Counter()))
        return Grade("X", [Check("F02", False, "fail", sentence), knows])
    minimum = result.kind == "minimum-norm"
    spent = (result.forwards.sum() + result.backwards.sum()).item()
    wide = min(SAMPLE, len(attacked))
    # The images of the small sample: what the wide checks leave of the allowed passes.
    size = int((SHARE * spent - WIDE_PASSES * wide) / PASSES)
    many = AuditContext(model, dataset, result, _spread(attacked, wide), seed)
    # An audit costs more than all cheap checks, so they may use its whole sample.
    few = many if audit else replace(many, index=_spread(attacked, min(wide, max(LEAST, size))))
    jobs = [*((few, id, check) for id, check in {**ALWAYS, **(MINIMUM if minimum else FIXED)}.items())]
    wider = {**ALWAYS_WIDE, **(MINIMUM_WIDE if minimum else FIXED_WIDE)}
    jobs += [(many, id, check) for id, check in wider.items()]
    joint = None
    with held_still(model), drawing(seed, bool({"draws", "eot_samples"} & result.search.keys())):
        done = [clean_accuracy(result, expected_accuracy), enough_attacked(result)]
        done += [guarded(id, partial(check, context)) for context, id, check in jobs]
        done.append(guarded("F24", partial(knows_the_images, model, dataset, result, many.passes)))
        if audit:
            auditor = Auditor(many)
            done = _merged(done, [guarded(id, partial(check, auditor)) for id, check in AUDIT.items()])
            joint = auditor.joint
    if 3 * sum(not check.ran for check in done) > len(done):
        # With so many findings unknown, a warning would be too weak.
        done = [check if check.ran else replace(check, severity="fail") for check in done]
    cost = sum(many.passes.values()) / max(spent, 1)
    done.sort(key=lambda check: check.id)
    return Grade(letter_of(done), done, cost, joint)


def _spread(rows: Tensor, count: int) -> Tensor:
    """``count`` of the ``rows`` [n], evenly spread."""
    return rows[torch.linspace(0, len(rows) - 1, count).round().long()]


def _merged(cheap: list[Check], costly: list[Check]) -> list[Check]:
    """One check per id, in order: of two, the one that did not pass, or else the costly one."""
    checks = {check.id: check for check in cheap}
    for check in costly:
        if check.id not in checks or checks[check.id].passed:
            checks[check.id] = check
    return list(checks.values())
