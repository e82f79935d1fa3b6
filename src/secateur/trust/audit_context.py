"""The context of the checks: an attack's result with a sample of its images, and counted queries."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn

from secateur.attacks.core.batch import Batch, select
from secateur.attacks.core.losses import logit_difference
from secateur.attacks.core.norms import distance
from secateur.attacks.runner.result import AttackResult, Outcome
from secateur.budgets import counts
from secateur.data import Dataset
from secateur.errors import UserError
from secateur.models import place_of

ALONE, FEW = 16, 8
"""Images that are asked for one at a time, and the size of the batches of others."""

LogitValue = Callable[[Batch, Tensor], Tensor]
"""A function from logits [n, K] to one number per image [n], such as ``logit_difference``."""


@dataclass(frozen=True)
class AuditContext:
    """The whole result, and the sample ``index`` [n] of attacked images that checks look at.

    ``passes`` counts the forward and backward passes of single images by the checks.
    """

    model: nn.Module
    dataset: Dataset
    result: AttackResult
    index: Tensor
    seed: int
    passes: Counter[str] = field(default_factory=Counter)

    @cached_property
    def batch(self) -> Batch:
        """The sampled images and goals, on the model's device."""
        device, dtype = place_of(self.model, self.dataset.x)
        result, index = self.result, self.index
        targets = None if result.targets is None else result.targets[index].to(device)
        x, y = self.dataset.x[index].to(device, dtype), self.dataset.y[index].to(device)
        box = None if result.box is None else result.box.rows(index).to(x)
        return Batch(x, y, targets, self.dataset.bounds if box is None else box)

    @cached_property
    def adv(self) -> Tensor:
        """The stored examples of the sample."""
        return self.result.adv[self.index].to(self.batch.x)

    @cached_property
    def found(self) -> Tensor:
        """The images of the sample for which an example was found."""
        return self.result.where(Outcome.FOUND)[self.index].to(self.batch.x.device)

    @cached_property
    def logits(self) -> Tensor:
        """Logits of the clean sample."""
        return self.query(self.batch.x)

    @cached_property
    def gradient(self) -> Tensor:
        """Gradient of the logit difference at the clean sample; zero where the model gives none."""
        return self.gradient_of(self.batch.x)

    @property
    def batch_size(self) -> int:
        """Images that fitted into memory at once when the attack ran."""
        return int(self.result.search.get("batch_size", len(self.index)))

    def query(self, x: Tensor) -> Tensor:
        """Logits [n, K] without gradient, in floating point, in batches no larger than the attack's.

        Raises:
            UserError: the model returns anything but one row of logits per image.
        """
        with torch.no_grad():
            parts = [self._query(part) for part in torch.split(x, self.batch_size)]
        # A single part is the tensor that the model returned, not a copy of it.
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def query_in_other_batches(self, x: Tensor) -> Tensor:
        """As ``query``, but up to ``ALONE`` images, evenly spread, one at a time and the others by eights.

        A network whose answer depends on the batch shows it in most images; asking for all of them one at a
        time is slow.
        """
        alone = torch.linspace(0, len(x) - 1, min(ALONE, len(x))).round().long()
        others = torch.ones(len(x), dtype=torch.bool).index_fill(0, alone, False).nonzero().squeeze(1)
        batches = [*torch.split(alone, 1), *(torch.split(others, FEW) if len(others) else ())]
        answers = torch.cat([self.query(x[batch.to(x.device)]) for batch in batches])
        return answers[torch.cat(batches).argsort().to(x.device)]

    def gradient_of(self, x: Tensor, value: LogitValue = logit_difference) -> Tensor:
        """Gradient at ``x`` of the ``value`` [n] of logits [n, K]; zero where the model gives none."""
        rows = torch.split(torch.arange(len(x), device=x.device), self.batch_size)
        return torch.cat([self._gradient(select(self.batch, part), x[part], value) for part in rows])

    def _gradient(self, batch: Batch, x: Tensor, value: LogitValue) -> Tensor:
        query = x.clone().requires_grad_(True)
        with torch.enable_grad():
            total = value(batch, self._query(query)).sum()
        if not total.requires_grad:
            return torch.zeros_like(x)
        self.passes["backward"] += len(x)
        # The graph of the logits need not reach the images: an inner layer may have cut it.
        (gradient,) = torch.autograd.grad(total, query, allow_unused=True)
        return torch.zeros_like(x) if gradient is None else gradient

    def _query(self, x: Tensor) -> Tensor:
        self.passes["forward"] += len(x)
        logits = self.model(x)
        if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(x):
            shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise UserError(f"the model returned {shape} for {len(x)} images")
        return logits if logits.is_floating_point() else logits.to(x.dtype)

    @cached_property
    def distance(self) -> Tensor:
        """Distances in the attack's own norm, inf where nothing was found."""
        return self.result.distance[self.index].to(self.batch.x)

    @property
    def levels(self) -> int | None:
        """The grey levels that the attack rounded to, if any."""
        return self.result.settings.get("levels")

    def budget(self) -> Tensor:
        """95 % of each distance; the whole box where nothing was found."""
        own = self.distance
        whole = distance(self.batch.distance_to_bounds(), self.result.norm)
        size = torch.where(own.isfinite(), 0.95 * own, whole)
        return (own - 1).clamp_min(0).where(own.isfinite(), whole) if counts(self.result.norm) else size
