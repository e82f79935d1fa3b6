"""The columns of an attack's result while its batches come in."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from secateur.attacks.core.batch import Found, Problem
from secateur.attacks.core.norms import NORMS, distance, per_sample
from secateur.attacks.runner.bind import Call
from secateur.attacks.runner.fixed_sizes import allowed
from secateur.attacks.runner.query_counter import Counted
from secateur.attacks.runner.result import NORM_KEYS, AttackResult, Outcome


@dataclass
class Ledger:
    """The columns of a result while batches come in."""

    problem: Problem
    adv: Tensor
    correct: Tensor
    ori_success: Tensor
    found: Tensor
    unverified: Tensor
    oversized: Tensor
    fell: Tensor
    box_failures: Tensor
    forwards: Tensor
    backwards: Tensor
    distances: dict[str, Tensor]
    best: dict[str, Tensor]
    halfway: Tensor
    late: Tensor
    classes: Tensor
    times: list[float]
    mended: int

    @classmethod
    def empty(cls, problem: Problem) -> "Ledger":
        """Nothing known about any image of ``problem`` yet."""
        n = len(problem.x)
        false, zero = torch.zeros(n, dtype=torch.bool), torch.zeros(n, dtype=torch.float64)
        return cls(
            problem=problem,
            adv=problem.x.detach().cpu().clone(),
            correct=false.clone(),
            ori_success=false.clone(),
            found=false.clone(),
            unverified=false.clone(),
            oversized=false.clone(),
            fell=zero + torch.inf,
            box_failures=false.clone(),
            forwards=zero.clone(),
            backwards=zero.clone(),
            distances=_nowhere(n),
            best=_nowhere(n),
            halfway=zero + torch.inf,
            late=zero + torch.inf,
            classes=torch.full((n,), -1, dtype=torch.int64),
            times=[],
            mended=0,
        )

    def start(self, part: Tensor, logits: Tensor, batch: Problem) -> None:
        """Enter the clean predictions of the images ``part``."""
        classes = logits.argmax(1)
        self.correct[part] = (classes == batch.y).cpu()
        self.ori_success[part] = batch.met(logits).cpu()
        self.classes[part] = classes.cpu()
        for column in (*self.distances.values(), *self.best.values(), self.halfway, self.late):
            column[part] = torch.where(self.ori_success[part], 0.0, torch.inf).double()

    def finish(
        self,
        call: Call,
        part: Tensor,
        batch: Problem,
        found: Found,
        counted: Counted,
        verified: Tensor,
        classes: Tensor,
        *,
        mended: Tensor,
    ) -> None:
        """Enter what an attack found for the images ``part``, as far as it was verified.

        An image comes again where an attack of several sizes did not find it: passes add up. At a size,
        ``call.settings["eps"]``, what lies farther is no success.
        """
        low, high = batch.bounds
        adv = batch.clip(found.adv)
        delta = adv.double() - batch.x.double()
        self.box_failures[part] |= ((found.adv < low) | (found.adv > high)).flatten(1).any(1).cpu()
        mask = found.mask & verified
        if call.sizes:
            size = call.settings["eps"]
            inside = distance(delta, call.norm) <= allowed(size, call.norm, batch.x.shape[1:], batch.bounds)
            self.oversized[part] |= (mask & ~inside).cpu()
            mask = mask & inside
            fell = torch.full(mask.shape, size, dtype=torch.float64, device=mask.device)
            self.fell[part] = torch.where(mask, fell, torch.inf).cpu()
        self.found[part] = mask.cpu()
        self.unverified[part] |= (found.mask & ~verified).cpu()
        self.classes[part] = torch.where(mask.cpu(), classes.cpu(), self.classes[part])
        self.mended += int(mended.sum())
        self.forwards[part] += counted.forwards.cpu()
        self.backwards[part] += counted.backwards.cpu()
        for norm in NORMS:
            reached = torch.where(mask, distance(delta, norm), torch.inf)
            self.distances[NORM_KEYS[norm]][part] = reached.cpu()
            best = torch.minimum(reached, counted.best[norm].double())
            before = self.best[NORM_KEYS[norm]]
            before[part] = torch.minimum(before[part], best.cpu())
        for column, snapshot in ((self.halfway, counted.halfway), (self.late, counted.late)):
            column[part] = torch.inf if snapshot is None else snapshot.double().cpu()
        kept = torch.where(per_sample(mask, adv), adv, batch.x)
        self.adv[part] = kept.to("cpu", self.adv.dtype)

    def close(self, call: Call, *, seed: int, search: dict[str, Any], hashes: list[str]) -> AttackResult:
        """The result, all images settled."""
        outcome = [
            Outcome.ALREADY_WRONG if wrong else Outcome.FOUND if hit else Outcome.NOT_FOUND
            for wrong, hit in zip(self.ori_success.tolist(), self.found.tolist(), strict=True)
        ]
        targets = self.problem.targets
        return AttackResult(
            attack=call.name,
            norm=call.norm,
            kind=call.kind,
            settings=call.settings,
            seed=seed,
            search={**search, "mended": self.mended},
            outcome=outcome,
            distances=self.distances,
            best_optim_distances=self.best,
            halfway=self.halfway,
            late=self.late,
            forwards=self.forwards,
            backwards=self.backwards,
            times=self.times,
            hashes=hashes,
            targeted=targets is not None,
            correct=self.correct,
            ori_success=self.ori_success,
            adv_success=self.ori_success | self.found,
            box_failures=self.box_failures,
            batch_failures=[False] * len(self.times),
            unverified=self.unverified,
            classes=self.classes,
            adv=self.adv,
            targets=None if targets is None else targets.cpu(),
            start=self.problem.start,
            attempts=call.attempts,
            sizes=call.sizes,
            fell=self.fell,
            oversized=self.oversized,
        )


def _nowhere(n: int) -> dict[str, Tensor]:
    return {key: torch.full((n,), torch.inf, dtype=torch.float64) for key in NORM_KEYS.values()}
