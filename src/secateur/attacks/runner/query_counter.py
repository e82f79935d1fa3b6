"""Count an attack's passes per image, remember its best adversarial queries, stop converged images early."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from secateur.attacks.core.batch import Batch
from secateur.attacks.core.losses import is_adversarial
from secateur.attacks.core.norms import NORMS, distance
from secateur.attacks.runner.bind import BoundAttack

PATIENCE, LEAST_PATIENCE = 0.2, 20
"""An image has converged when this share of the steps, and so many queries, have gained nothing."""
GAIN = 1e-3
"""A best distance that is smaller by this fraction is a gain."""
LOOK = 10
"""Queries between two counts of the active images, which are the only times the device is waited for."""


class QueryCounter(nn.Module):
    """The model as an attack sees it, for one batch.

    ``forwards`` and ``backwards`` [N] count passes per image. A query with as many images as the batch counts
    one forward for each of its images; any other number counts the same fraction for all. ``best`` maps a
    norm to the least distance [N] of a query that reached the goal, inf where none did.

    With ``early_stop`` the mask ``active`` [N] excludes an image: in a fixed-size attack once a query has
    fooled, in a minimum-norm attack once its best distance (which must exist) has gained less than ``GAIN``
    in the last ``max(LEAST_PATIENCE, PATIENCE * steps)`` queries. Both count from the query
    ``bound.converges_from`` on, where an attack that tries several ways starts its last one. Inactive images
    do not reach the model: their rows of the logits are constant, not adversarial, and have no gradient, so
    the example found before stays the best. The rule looks at one image at a time: batching changes nothing.
    """

    def __init__(
        self,
        model: nn.Module,
        problem: Batch,
        bound: BoundAttack,
        *,
        on_forward: Callable[[], None],
        early_stop: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        n, device = len(problem.x), problem.x.device
        self._forwards = torch.zeros(n, dtype=torch.float64, device=device)
        self._backwards = torch.zeros(n, dtype=torch.float64, device=device)
        # Whole batches are counted as numbers: small tensor operations would slow down every step.
        self._whole = {"forwards": 0, "backwards": 0}
        self._best = torch.full((len(NORMS), n), torch.inf, device=device)
        self.best = dict(zip(NORMS, self._best.unbind(), strict=True))
        self.halfway: Tensor | None = None
        self.late: Tensor | None = None
        self._norm = bound.norm
        self._steps = steps = bound.steps
        self._problem = problem
        self._on_forward = on_forward
        self._queries = 0
        self._early = early_stop
        self._converges_from = bound.converges_from
        share = math.ceil(PATIENCE * ((steps or 0) - bound.converges_from))
        self._patience = max(LEAST_PATIENCE, share) if bound.kind == "minimum-norm" else 0
        self._reference = torch.full((n,), torch.inf, device=device)
        self._gained = torch.zeros(n, dtype=torch.int64, device=device)
        self.active = torch.ones(n, dtype=torch.bool, device=device)
        # The rows that reach the model; a superset of ``active`` that shrinks by halves. None: all of them.
        self._rows: Tensor | None = None
        self._constant: Tensor | None = None
        self.eval()

    @property
    def forwards(self) -> Tensor:
        """Forward passes per image [N]."""
        self._forwards += self._whole["forwards"]
        self._whole["forwards"] = 0
        return self._forwards

    @property
    def backwards(self) -> Tensor:
        """Backward passes per image [N]."""
        self._backwards += self._whole["backwards"]
        self._whole["backwards"] = 0
        return self._backwards

    def forward(self, x: Tensor) -> Tensor:
        """The model's logits for ``x``."""
        if len(x) != len(self._problem.x):
            return self._part(x)
        self._queries += 1
        logits = self._active_logits(x) if self._early else self.model(x)
        if not self._early:
            self._whole["forwards"] += 1
            if logits.requires_grad:
                logits.register_hook(self._count_whole)
        self._remember(x.detach(), logits.detach())
        self._snapshot()
        if self._early:
            self._stop_converged()
        self._on_forward()
        return logits

    def _count_whole(self, _: Tensor) -> None:
        self._whole["backwards"] += 1

    def absorb(self, rows: Tensor, other: "QueryCounter", *, nearer: bool = False) -> None:
        """Add another counter's passes for the images ``rows``, and take its best or the ``nearer`` best."""
        self.forwards[rows] += other.forwards
        self.backwards[rows] += other.backwards
        pairs = [(best, other.best[norm]) for norm, best in self.best.items()]
        for mine, theirs in (*pairs, (self.halfway, other.halfway), (self.late, other.late)):
            if mine is not None and theirs is not None:
                mine[rows] = torch.minimum(mine[rows], theirs) if nearer else theirs

    def _part(self, x: Tensor) -> Tensor:
        share = len(x) / len(self._problem.x)
        self._forwards += share
        logits: Tensor = self.model(x)
        if logits.requires_grad:
            counter = self._counter(torch.full_like(self._backwards, share))
            logits.register_hook(counter)  # type: ignore[no-untyped-call]
        self._on_forward()
        return logits

    def _active_logits(self, x: Tensor) -> Tensor:
        """Logits [N, K], counted for active images; constant rows for the others."""
        active = self.active
        self._forwards += active
        if self._queries % LOOK == 1 and self._queries > 1:
            rows = active.nonzero().squeeze(1)
            # Halving keeps the number of different shapes small, for compilers and caches.
            if 2 * len(rows) <= (len(x) if self._rows is None else len(self._rows)):
                self._rows = rows
        if self._rows is None:
            logits: Tensor = self.model(x)
        elif self._constant is None or len(self._rows):
            part: Tensor = self.model(x[self._rows])
            logits = self._constant_logits(part).index_copy(0, self._rows, part)
        else:
            # No image is left, but the attack still differentiates the logits.
            logits = self._constant + 0 * x.flatten(1).sum(1, keepdim=True)
        logits = torch.where(active.unsqueeze(1), logits, self._constant_logits(logits))
        if logits.requires_grad:
            logits.register_hook(self._counter(active.double()))  # type: ignore[no-untyped-call]
        return logits

    def _constant_logits(self, like: Tensor) -> Tensor:
        """Logits [N, K] that name the label, without a gradient."""
        if self._constant is None:
            blank = torch.zeros(len(self._problem.y), like.shape[1], dtype=like.dtype, device=like.device)
            self._constant = blank.scatter_(1, self._problem.y.unsqueeze(1), 1.0)
        return self._constant

    def _stop_converged(self) -> None:
        best = self.best[self._norm]
        gain = best < self._reference * (1 - GAIN)
        self._reference = torch.where(gain, best, self._reference)
        self._gained = torch.where(gain, self._queries, self._gained)
        idle = self._queries - self._gained.clamp_min(self._converges_from)
        # Not in place: graphs of earlier queries hold on to the mask.
        self.active = self.active & ~(best.isfinite() & (idle >= self._patience))

    def _snapshot(self) -> None:
        if self._steps is None:
            return
        if self.halfway is None and self._queries > 0.5 * self._steps:
            self.halfway = self.best[self._norm].clone()
        if self.late is None and self._queries > 0.75 * self._steps:
            self.late = self.best[self._norm].clone()

    def _counter(self, share: Tensor) -> Callable[[Tensor], None]:
        def count(_: Tensor) -> None:
            self._backwards += share

        return count

    def _remember(self, x: Tensor, logits: Tensor) -> None:
        if x.shape != self._problem.x.shape or logits.ndim != 2:
            return
        missed = ~is_adversarial(self._problem, logits)
        delta = x - self._problem.x
        reached = torch.stack([distance(delta, norm) for norm in NORMS]).masked_fill_(missed, torch.inf)
        torch.minimum(self._best, reached, out=self._best)
