"""What checks look at and what they say: a result with a sample of its images, a check, a grade."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor, nn

from secateur.attacks.norms import distance
from secateur.attacks.problem import Problem
from secateur.attacks.result import AttackResult, Outcome
from secateur.data import Dataset


@dataclass(frozen=True)
class Check:
    """One check: whether it passed, how grave a failure is, and what it saw in one sentence."""

    id: str
    passed: bool
    severity: Literal["warn", "fail"]
    sentence: str


MEANINGS = {
    "A": "every check passed; distances are still upper bounds of the true ones",
    "B": "some checks warn: read the reasons before quoting the numbers",
    "C": "the evaluation is unreliable: these numbers are not robustness",
    "X": "nothing could be evaluated: there are no numbers to believe",
}
"""What a grade says about the numbers beside it."""


@dataclass(frozen=True)
class Grade:
    """A: all checks passed. B: warnings. C: the evaluation is unreliable. X: there is nothing to believe."""

    letter: Literal["A", "B", "C", "X"]
    checks: list[Check]

    @property
    def meaning(self) -> str:
        """The letter in words."""
        return MEANINGS[self.letter]

    @property
    def reasons(self) -> list[str]:
        """The sentences of the checks that did not pass."""
        return [f"{check.id}: {check.sentence}" for check in self.checks if not check.passed]


@dataclass(frozen=True)
class Evidence:
    """What the checks look at: the whole result, and a sample of attacked images."""

    model: nn.Module
    dataset: Dataset
    result: AttackResult
    index: Tensor
    seed: int

    @cached_property
    def problem(self) -> Problem:
        """The sampled images and goals, on the model's device."""
        first = next(self.model.parameters(), None)
        like = self.dataset.x if first is None else first
        result, index = self.result, self.index
        targets = None if result.targets is None else result.targets[index].to(like.device)
        x, y = self.dataset.x[index].to(like), self.dataset.y[index].to(like.device)
        return Problem(x, y, targets, self.dataset.bounds)

    @cached_property
    def adv(self) -> Tensor:
        """The stored examples of the sample."""
        return self.result.adv[self.index].to(self.problem.x)

    @cached_property
    def found(self) -> Tensor:
        """Which of the sample the attack fooled."""
        return self.result.where(Outcome.FOUND)[self.index].to(self.problem.x.device)

    @cached_property
    def logits(self) -> Tensor:
        """Logits of the clean sample as one batch."""
        return self.ask(self.problem.x)

    @cached_property
    def gradient(self) -> Tensor:
        """Gradient of the logit difference at the clean sample; zero where the model gives none."""
        return self.slope(self.problem.x)

    def ask(self, x: Tensor) -> Tensor:
        """Logits without gradient."""
        with torch.no_grad():
            logits: Tensor = self.model(x)
        return logits

    def slope(self, x: Tensor) -> Tensor:
        """Gradient of the logit difference at ``x``, zero where the model gives none."""
        query = x.clone().requires_grad_(True)
        margin = self.problem.margin(self.model(query)).sum()
        if not margin.requires_grad:
            return torch.zeros_like(x)
        return torch.autograd.grad(margin, query)[0]

    @cached_property
    def distance(self) -> Tensor:
        """What the attack found in its own norm, inf where it found nothing."""
        return self.result.distance[self.index].to(self.problem.x)

    @property
    def levels(self) -> int | None:
        """The grey levels that the attack kept to; None if it did not."""
        return self.result.settings.get("levels")

    def budget(self) -> Tensor:
        """95 % of each distance; the whole box where nothing was found."""
        own = self.distance
        whole = distance(self.problem.reach(), self.result.norm)
        size = torch.where(own.isfinite(), 0.95 * own, whole)
        return (own - 1).clamp_min(0).where(own.isfinite(), whole) if self.result.norm == 0 else size
