"""The costly checks of an audit; each costs about as much as the attack.

They compare the attack with other attacks, other seeds, planted examples and a search without gradients.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from secateur.attacks.core.norms import INF, distance
from secateur.attacks.runner.result import AttackResult, Outcome
from secateur.attacks.runner.run import run
from secateur.registry import ATTACKS
from secateur.registry.settings import rules_of
from secateur.stats import median, wilson
from secateur.text import listed
from secateur.trust.audit_context import AuditContext
from secateur.trust.baselines import many
from secateur.trust.check import Check, error_text
from secateur.trust.joint import Joint
from secateur.trust.loss_slices import nearest_in_slices
from secateur.trust.planted_examples import planted_share

MOVED = 0.1
"""If the joint median is lower by more than this fraction, the evaluation is unreliable."""
SEEDS = 3
RIVAL_STEPS = 200
"""Steps of the rivals of an attack without steps."""


@dataclass(frozen=True)
class Auditor:
    """Runs other attacks on the sample of a result."""

    context: AuditContext

    @cached_property
    def joint(self) -> Joint | None:
        """The minimum over the attack and its rivals, which are run once."""
        return joint_minimum(self)

    @property
    def steps(self) -> int:
        """The steps of the audited attack."""
        steps = self.context.result.settings.get("steps")
        return steps if isinstance(steps, int) else RIVAL_STEPS

    @property
    def own(self) -> Tensor:
        """The distances of the result on its sample, [n]."""
        return self.context.result.distance[self.context.index]

    def again(self, seed: int) -> AttackResult:
        """The audited attack, with another seed."""
        result, index = self.context.result, self.context.index
        start = None if result.start is None else result.start[:, index]
        return self.attack(result.attack, seed=seed, start=start, restarts=result.attempts, **result.asked)

    def attack(self, name: str, *, seed: int = 0, **settings: Any) -> AttackResult:
        """Another attack on the same images and targets."""
        context = self.context
        targets = context.result.targets
        other = run(
            context.model,
            context.dataset.take(context.index),
            name,
            batch_size=context.batch_size,
            seed=seed,
            targets=None if targets is None else targets[context.index],
            pixel_bounds=None if context.result.box is None else context.result.box.rows(context.index).pair,
            **settings,
        )
        context.passes["audit"] += round((other.forwards.sum() + other.backwards.sum()).item())
        return other


def curve(auditor: Auditor) -> Check:
    """F11: under APGD, robust accuracy falls with the budget and ends at zero."""
    result = auditor.context.result
    norm = result.norm if result.norm in (2.0, INF) else INF
    whole = float(distance(auditor.context.batch.distance_to_bounds(), norm).max())
    shares = []
    for budget in (whole / 64, whole / 16, whole / 4, whole):
        found = auditor.attack("apgd", norm=norm, eps=budget, steps=40)
        shares.append(1 - found.adv_success.double().mean().item())
    # 2 % of the images may differ by chance, because APGD starts at random.
    falls = all(later <= earlier + 0.02 for earlier, later in pairwise(shares))
    # A class need not be reachable from every image: a targeted attack may fail inside the whole box.
    ends = shares[-1] <= 0.02 or result.targeted
    said = ", ".join(f"{share:.0%}" for share in shares)
    sentence = f"robust accuracy under APGD at 1/64, 1/16, 1/4 and all of the box is {said}"
    return Check("F11", falls and ends, "fail", sentence)


def rivals(auditor: Auditor) -> Check:
    """F13: other attacks do not find much nearer examples, or more of them at the same size."""
    joint = auditor.joint
    if joint is None or not (joint.rivals or joint.failed):
        return Check("F13", True, "warn", "no other attack of this norm and kind to compare with")
    if not joint.rivals:
        return Check("F13", False, "warn", f"no rival could run{_could_not(joint)}")
    n = len(joint.own)
    names = listed(joint.rivals)
    if joint.eps is not None:
        more = sum(best < own for best, own in zip(joint.best, joint.own, strict=True)) / n
        sentence = f"{names} fool {more:.1%} of the images that this attack left"
        bad, grave = more > 0.01, more > 0.05
    else:
        # Nearer by less than 0.1 % is rounding, not another minimum.
        nearer = sum(best < own * (1 - 1e-3) for best, own in zip(joint.best, joint.own, strict=True)) / n
        sentence = (
            f"{names} find nearer examples of {nearer:.0%} of the images; "
            f"the best of all attacks is {joint.gap:.1%} below this one's median"
        )
        bad = grave = joint.gap > MOVED
    passed = not (bad or joint.failed)
    return Check("F13", passed, "fail" if grave else "warn", sentence + _could_not(joint))


def _could_not(joint: Joint) -> str:
    return "".join(f"; {name} could not run: {said}" for name, said in joint.failed.items())


def joint_minimum(auditor: Auditor) -> Joint | None:
    """The least distances of the attack and its rivals; None where there are no rivals of its norm and kind.

    A rival that cannot run is named, and the others count.
    """
    result = auditor.context.result
    given = result.settings.get("eps")
    fixed = result.kind != "minimum-norm"
    eps = float(given) if fixed and isinstance(given, int | float) else None
    if fixed and (eps is None or result.norm not in (2.0, INF)):
        return None
    jobs = _of_minimum_norm(auditor) if eps is None else _of_fixed_size(auditor, eps)
    own, failed, ran = auditor.own.clone(), {}, []
    if fixed:
        own = torch.where(result.adv_success[auditor.context.index], 0.0, torch.inf).to(own)
    best = own.clone()
    for name, (attack, settings) in jobs.items():
        try:
            other = auditor.attack(attack, **settings)
        except Exception as error:
            failed[name] = error_text(error)
            continue
        ran.append(name)
        reached = torch.where(other.adv_success, 0.0, torch.inf).to(own) if fixed else other.distance
        best = torch.minimum(best, reached)
    attacked = 1 - result.where(Outcome.ALREADY_WRONG).double().mean().item()
    return Joint(
        result.attack,
        tuple(ran),
        result.norm_key,
        auditor.context.index.tolist(),
        own.tolist(),
        best.tolist(),
        attacked,
        result.targeted,
        auditor.context.dataset.bounds,
        auditor.context.dataset.levels,
        eps,
        failed,
    )


Jobs = dict[str, tuple[str, dict[str, Any]]]
"""Attacks to run with their settings, by the names in sentences."""


def _of_minimum_norm(auditor: Auditor) -> Jobs:
    result = auditor.context.result
    shared = {"steps": auditor.steps, "norm": result.norm, "levels": result.settings.get("levels")}
    return {
        entry.name: (entry.name, {key: value for key, value in shared.items() if key in rules_of(entry.name)})
        for entry in ATTACKS.entries()
        if result.norm in entry.facts.get("audits", ()) and entry.name != result.attack
    }


def _of_fixed_size(auditor: Auditor, eps: float) -> Jobs:
    shared = {"norm": auditor.context.result.norm, "eps": eps, "steps": max(40, auditor.steps)}
    return {f"apgd ({loss})": ("apgd", {**shared, "loss": loss}) for loss in ("dlr", "ce")}


def black_box(auditor: Auditor) -> Check:
    """F14 with queries: a search that needs no gradient does not beat the attack."""
    result = auditor.context.result
    known = auditor.own[auditor.own.isfinite()]
    if result.norm != INF or not len(known):
        return Check("F14", True, "fail", "Square looks for Linf examples only: not compared")
    # Square takes one size for all images: a little below the median it can beat half of them.
    eps = result.settings.get("eps") if result.kind != "minimum-norm" else 0.95 * median(known)
    square = auditor.attack("square", eps=eps, steps=max(200, auditor.steps))
    beaten = square.where(Outcome.FOUND) & (square.distance < auditor.own * (1 - 1e-6))
    k, n = int(beaten.sum()), len(beaten)
    sentence = f"Square, which sees no gradients, beats the attack on {k} of {n} images"
    return Check("F14", k == 0, "fail" if many(k, n) else "warn", sentence)


def planted(auditor: Auditor) -> Check:
    """F16: the attack finds examples planted by another last layer (Zimmermann et al. 2022)."""
    share, n = planted_share(auditor.context)
    if n < 4:
        return Check("F16", True, "warn", "no examples could be planted: not tested")
    sentence = f"the attack finds {share:.0%} of {n} examples that were planted within its reach"
    return Check("F16", share >= 0.95, "fail" if share < 0.8 else "warn", sentence)


def seeds(auditor: Auditor) -> Check:
    """F17: the median does not depend on the seed."""
    result = auditor.context.result
    medians = [median(auditor.own)]
    for seed in range(1, SEEDS):
        again = auditor.again(result.seed + seed)
        medians.append(median(again.distance))
    ordered = sorted(medians)
    middle = ordered[len(ordered) // 2]
    # Infinite or zero medians have no relative spread.
    equal = ordered[0] == ordered[-1] or middle == 0
    spread = 0.0 if equal else (ordered[-1] - ordered[0]) / middle
    sentence = f"over {SEEDS} seeds the median distance differs by {spread:.1%}"
    return Check("F17", spread <= 0.05, "fail" if spread > 0.25 else "warn", sentence)


def enough(auditor: Auditor) -> Check:
    """F22: there are enough images for a narrow interval: a robust accuracy is known to ±10 points."""
    result = auditor.context.result
    low, high = wilson(result.n // 2, result.n)
    sentence = f"{result.n} images: a robust accuracy is known to ±{(high - low) / 2:.0%} at best"
    return Check("F22", high - low <= 0.2, "warn", sentence)


def landscape(auditor: Auditor) -> Check:
    """F19: planes through the images and their examples hold no nearer example."""
    return nearest_in_slices(auditor.context)


AUDIT: dict[str, Callable[[Auditor], Check]] = {
    "F11": curve,
    "F13": rivals,
    "F14": black_box,
    "F16": planted,
    "F17": seeds,
    "F19": landscape,
    "F22": enough,
}
"""Checks of ``audit=True``, in order; one with the id of a cheap check replaces it."""
