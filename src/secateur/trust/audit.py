"""The costly checks: other attacks, other seeds, planted examples. Each costs about as much as the attack."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from secateur.attacks.norms import INF, distance
from secateur.attacks.result import AttackResult, Outcome
from secateur.attacks.run import run
from secateur.stats import median, wilson
from secateur.trust.binarised import planted_share
from secateur.trust.evidence import Check, Evidence
from secateur.trust.landscape import nearest_in_slices

RIVALS = {
    0.0: ("fmn", "sigma-zero"),
    1.0: ("fmn", "steep"),
    2.0: ("ddn", "fmn", "steep"),
    INF: ("fmn", "steep"),
}
"""Minimum-norm attacks that a result of each norm is compared with."""
SEEDS = 3
RIVAL_STEPS = 200
"""Steps of the rivals where the attack itself has none."""


@dataclass(frozen=True)
class Auditor:
    """Runs attacks on the sample of a result."""

    evidence: Evidence

    @property
    def steps(self) -> int:
        """The steps of the attack that is audited."""
        steps = self.evidence.result.settings.get("steps")
        return steps if isinstance(steps, int) else RIVAL_STEPS

    @property
    def own(self) -> Tensor:
        """The distances of the result on its sample, [n]."""
        return self.evidence.result.distance[self.evidence.index]

    def again(self, seed: int) -> AttackResult:
        """The attack that is audited, with another seed."""
        result, index = self.evidence.result, self.evidence.index
        start = None if result.start is None else result.start[:, index]
        return self.attack(result.attack, seed=seed, start=start, restarts=result.attempts, **result.settings)

    def attack(self, name: str, *, seed: int = 0, **settings: Any) -> AttackResult:
        """Another attack on the same images and targets."""
        evidence = self.evidence
        targets = evidence.result.targets
        return run(
            evidence.model,
            evidence.dataset.take(evidence.index),
            name,
            seed=seed,
            targets=None if targets is None else targets[evidence.index],
            **settings,
        )


def curve(auditor: Auditor) -> Check:
    """F11: robust accuracy falls with the budget, also under an attack of fixed size, and ends at zero."""
    result = auditor.evidence.result
    norm = result.norm if result.norm in (2.0, INF) else INF
    whole = float(distance(auditor.evidence.problem.reach(), norm).max())
    shares = []
    for budget in (whole / 64, whole / 16, whole / 4, whole):
        found = auditor.attack("apgd", norm=norm, eps=budget, steps=40)
        shares.append(1 - found.adv_success.double().mean().item())
    falls = all(later <= earlier + 0.02 for earlier, later in pairwise(shares))
    # No image is every class' neighbour: a targeted attack may miss inside the whole box.
    ends = shares[-1] <= 0.02 or result.targeted
    said = ", ".join(f"{share:.0%}" for share in shares)
    sentence = f"robust accuracy under APGD at 1/64, 1/16, 1/4 and all of the box is {said}"
    return Check("F11", falls and ends, "fail", sentence)


def rivals(auditor: Auditor) -> Check:
    """F13: other attacks do not find much nearer examples, or more of them at the same size."""
    result = auditor.evidence.result
    if result.kind != "minimum-norm":
        return _rivals_of_fixed_size(auditor)
    levels = {"levels": result.settings.get("levels")}
    names = [name for name in RIVALS[result.norm] if name != result.attack]
    best, winners = auditor.own.clone(), torch.zeros_like(auditor.own, dtype=torch.bool)
    for name in names:
        settings = levels if name == "ddn" else {"norm": result.norm}
        other = auditor.attack(name, steps=auditor.steps, **settings).distance
        winners |= other < auditor.own * (1 - 1e-3)
        best = torch.minimum(best, other)
    own, joint = median(auditor.own), median(best)
    gap = 0.0 if own == joint or own == 0 else 1 - joint / own
    sentence = (
        f"{' and '.join(names)} find nearer examples of {winners.double().mean():.0%} of the images; "
        f"the best of all attacks is {gap:.1%} below this one's median"
    )
    return Check("F13", gap <= 0.1, "fail" if gap > 1 / 3 else "warn", sentence)


def _rivals_of_fixed_size(auditor: Auditor) -> Check:
    result = auditor.evidence.result
    eps = result.settings.get("eps")
    if eps is None or result.norm not in (2.0, INF):
        return Check("F13", True, "warn", "no other attack of this norm and kind to compare with")
    own = result.adv_success[auditor.evidence.index]
    joint = own.clone()
    for loss in ("dlr", "ce"):
        joint |= auditor.attack(
            "apgd", norm=result.norm, eps=eps, steps=max(40, auditor.steps), loss=loss
        ).adv_success
    more = (joint & ~own).double().mean().item()
    sentence = f"APGD with two losses fools {more:.1%} of the images that this attack left"
    return Check("F13", more <= 0.01, "fail" if more > 0.05 else "warn", sentence)


def black_box(auditor: Auditor) -> Check:
    """F14 with queries: a search that needs no gradient does not beat the attack."""
    result = auditor.evidence.result
    known = auditor.own[auditor.own.isfinite()]
    if result.norm != INF or not len(known):
        return Check("F14", True, "fail", "Square looks for Linf examples only: not compared")
    eps = result.settings.get("eps") if result.kind != "minimum-norm" else 0.95 * median(known)
    square = auditor.attack("square", eps=eps, steps=max(200, auditor.steps))
    beaten = square.where(Outcome.FOUND) & (square.distance < auditor.own * (1 - 1e-6))
    share = beaten.double().mean().item()
    sentence = f"Square, which sees no gradients, beats the attack on {share:.1%} of the images"
    return Check("F14", share <= 0.005, "fail" if share > 0.05 else "warn", sentence)


def planted(auditor: Auditor) -> Check:
    """F16: the attack finds examples planted by another last layer (Zimmermann et al. 2022)."""
    share, n = planted_share(auditor.evidence)
    if n < 4:
        return Check("F16", True, "warn", "no examples could be planted: not tested")
    sentence = f"the attack finds {share:.0%} of {n} examples that were planted within its reach"
    return Check("F16", share >= 0.95, "fail" if share < 0.8 else "warn", sentence)


def seeds(auditor: Auditor) -> Check:
    """F17: the median does not hang on the seed."""
    result = auditor.evidence.result
    medians = [median(auditor.own)]
    for seed in range(1, SEEDS):
        again = auditor.again(result.seed + seed)
        medians.append(median(again.distance))
    ordered = sorted(medians)
    middle = ordered[len(ordered) // 2]
    equal = ordered[0] == ordered[-1] or middle == 0
    spread = 0.0 if equal else (ordered[-1] - ordered[0]) / middle
    sentence = f"over {SEEDS} seeds the median distance differs by {spread:.1%}"
    return Check("F17", spread <= 0.05, "fail" if spread > 0.25 else "warn", sentence)


def enough(auditor: Auditor) -> Check:
    """F22: there are enough images for the interval to say something."""
    result = auditor.evidence.result
    low, high = wilson(result.n // 2, result.n)
    sentence = f"{result.n} images: a robust accuracy is known to ±{(high - low) / 2:.0%} at best"
    return Check("F22", high - low <= 0.2, "warn", sentence)


def landscape(auditor: Auditor) -> Check:
    """F19: slices through the answers around an image hold no example that the attack passed by."""
    return nearest_in_slices(auditor.evidence)


AUDIT: tuple[Callable[[Auditor], Check], ...] = (curve, rivals, black_box, planted, seeds, landscape, enough)
"""Checks of ``audit=True``, in order; those with the id of a cheap check take its place."""
