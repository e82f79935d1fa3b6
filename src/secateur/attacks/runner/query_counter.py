"""Count an attack's passes per image, remember its best adversarial queries, stop converged images early."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from secateur.attacks.core.batch import Batch
from secateur.attacks.core.losses import is_adversarial, logit_difference
from secateur.attacks.core.norms import distance, per_sample
from secateur.attacks.runner.bind import BoundAttack
from secateur.budgets import recorded

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
    norm to the least distance [N] of a query that reached the goal, inf where none did. Of the queries no
    farther than ``within``, where it is given, ``last`` [N, ...] is the last one and ``deepest`` that of the
    lowest logit difference; None before there is one.

    With ``early_stop`` the mask ``active`` [N] excludes an image: in a fixed-size attack once a query has
    fooled, in a minimum-norm attack once its best distance (which must exist) has gained less than ``GAIN``
    in the last ``max(LEAST_PATIENCE, PATIENCE * steps)`` queries. Both count from the query
    ``bound.converges_from`` on, where an attack that tries several ways starts its last one. Our attacks
    query by ``core.best.query_active``: they apply the mask, and inactive images do not reach the model.
    Attacks that know no mask run to their end. The rule looks at one image at a time: batching changes
    nothing.
    """

    def __init__(
        self,
        model: nn.Module,
        problem: Batch,
        bound: BoundAttack,
        *,
        on_forward: Callable[[], None],
        early_stop: bool = False,
        within: float | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        n, device = len(problem.x), problem.x.device
        self._forwards = torch.zeros(n, dtype=torch.float64, device=device)
        self._backwards = torch.zeros(n, dtype=torch.float64, device=device)
        # Whole batches are counted as numbers: small tensor operations would slow down every step.
        self._whole = {"forwards": 0, "backwards": 0}
        norms = recorded(bound.norm)
        self._best = torch.full((len(norms), n), torch.inf, device=device)
        self.best = dict(zip(norms, self._best.unbind(), strict=True))
        self.halfway: Tensor | None = None
        self.late: Tensor | None = None
        self.norm = bound.norm
        self.last: Tensor | None = None
        self.deepest: Tensor | None = None
        self._within, self._lowest = within, torch.full((n,), torch.inf, device=device)
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
        self._classes = 0
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
        """The model's logits [n, K] for ``x`` [n, ...], of all images whether active or not."""
        if len(x) != len(self._problem.x):
            return self._part(x)
        logits: Tensor = self.model(x)
        self._whole["forwards"] += 1
        if logits.requires_grad:
            logits.register_hook(self._count_whole)  # type: ignore[no-untyped-call]
        self._after_query(x, logits, None)
        return logits

    def forward_active(self, x: Tensor) -> Tensor:
        """The model's logits [N, K] for the whole batch ``x``; rows of inactive images mean nothing."""
        if not self._early:
            return self(x)  # type: ignore[no-any-return]
        active = self.active
        self._forwards += active
        logits = self._logits_of_rows(x)
        if logits.requires_grad:
            logits.register_hook(self._counter(active.double()))  # type: ignore[no-untyped-call]
        self._after_query(x, logits, active)
        return logits

    def _after_query(self, x: Tensor, logits: Tensor, active: Tensor | None) -> None:
        self._queries += 1
        self._remember(x.detach(), logits.detach(), active)
        self._snapshot()
        if self._early:
            self._stop_converged()
        self._on_forward()

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

    def _logits_of_rows(self, x: Tensor) -> Tensor:
        """Logits [N, K] of the images that reach the model; zero for the others."""
        if self._queries % LOOK == 0 and self._queries:
            rows = self.active.nonzero().squeeze(1)
            # Halving keeps the number of different shapes small, for compilers and caches.
            if 2 * len(rows) <= (len(x) if self._rows is None else len(self._rows)):
                self._rows = rows
        if self._rows is None:
            logits: Tensor = self.model(x)
            self._classes = logits.shape[1] if logits.ndim == 2 else 0
            return logits
        # Where no image is left, the attack still differentiates the logits.
        blank = (0 * x.flatten(1).sum(1, keepdim=True)).expand(len(x), self._classes)
        if not len(self._rows):
            return blank
        part: Tensor = self.model(x[self._rows])
        return blank.detach().to(part.dtype).index_copy(0, self._rows, part)

    def _stop_converged(self) -> None:
        best = self.best[self.norm]
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
            self.halfway = self.best[self.norm].clone()
        if self.late is None and self._queries > 0.75 * self._steps:
            self.late = self.best[self.norm].clone()

    def _counter(self, share: Tensor) -> Callable[[Tensor], None]:
        def count(_: Tensor) -> None:
            self._backwards += share

        return count

    def _remember(self, x: Tensor, logits: Tensor, active: Tensor | None) -> None:
        if x.shape != self._problem.x.shape or logits.ndim != 2:
            return
        if self._within is not None:
            self._keep(x, logits, self._within)
        missed = ~is_adversarial(self._problem, logits)
        if active is not None:
            missed |= ~active
        delta = x - self._problem.x
        reached = torch.stack([distance(delta, norm) for norm in self.best]).masked_fill_(missed, torch.inf)
        torch.minimum(self._best, reached, out=self._best)

    def _keep(self, x: Tensor, logits: Tensor, within: float) -> None:
        clean = self._problem.x
        last = clean if self.last is None else self.last
        deepest = clean if self.deepest is None else self.deepest
        inside = distance(x.double() - clean.double(), self.norm) <= within
        margin = logit_difference(self._problem, logits).to(self._lowest.dtype)
        lower = inside & (margin < self._lowest)
        self.last = torch.where(per_sample(inside, x), x, last)
        self.deepest = torch.where(per_sample(lower, x), x, deepest)
        self._lowest = torch.where(lower, margin, self._lowest)
