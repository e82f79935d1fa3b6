"""A model that counts what an attack asks of it, and remembers the best adversarial query of every image."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from secateur.attacks.core.batch import Problem
from secateur.attacks.core.norms import NORMS, distance

PATIENCE, LEAST_PATIENCE = 0.2, 20
"""An image has converged when so large a share of the steps, and so many queries, have gained nothing."""
GAIN = 1e-3
"""What counts as a gain: a best distance smaller by this fraction."""
LOOK = 10
"""Queries between two looks at how many images are left, the only times the device is waited for."""


class Counted(nn.Module):
    """A model to hand to an attack for one batch.

    ``forwards`` and ``backwards`` [N] count passes per image. A query with as many images as the batch counts
    one forward for each of its images; any other number counts the same fraction for all. ``best`` maps a
    norm to the least distance [N] of a query that met the goal, inf where none did.

    With ``early_stop`` an image retires: in a fixed-size attack once a query has fooled, in a minimum-norm
    attack once its best distance (which must exist) has gained less than ``GAIN`` in the last
    ``max(LEAST_PATIENCE, PATIENCE * steps)`` queries. Both count from the query ``settled`` on, where an
    attack that tries several ways starts its last one. The attack then gets an answer without gradient that
    does not fool; it costs no passes, so what was found before stays the best. The rule looks at one image at
    a time: batching changes nothing.
    """

    def __init__(
        self,
        model: nn.Module,
        problem: Problem,
        *,
        norm: float,
        steps: int | None,
        on_forward: Callable[[], None],
        early_stop: bool = False,
        minimum: bool = True,
        settled: int = 0,
    ) -> None:
        super().__init__()
        self.model = model
        n, device = len(problem.x), problem.x.device
        self._forwards = torch.zeros(n, dtype=torch.float64, device=device)
        self._backwards = torch.zeros(n, dtype=torch.float64, device=device)
        # Passes of the whole batch are counted as numbers: a step is not the place for many small tensors.
        self._whole = {"forwards": 0, "backwards": 0}
        self._best = torch.full((len(NORMS), n), torch.inf, device=device)
        self.best = dict(zip(NORMS, self._best.unbind(), strict=True))
        self.halfway: Tensor | None = None
        self.late: Tensor | None = None
        self._norm = norm
        self._steps = steps
        self._problem = problem
        self._on_forward = on_forward
        self._queries = 0
        self._early = early_stop
        self._settled = settled
        share = math.ceil(PATIENCE * ((steps or 0) - settled))
        self._patience = max(LEAST_PATIENCE, share) if minimum else 0
        self._reference = torch.full((n,), torch.inf, device=device)
        self._gained = torch.zeros(n, dtype=torch.int64, device=device)
        self._retired = torch.zeros(n, dtype=torch.bool, device=device)
        self._active: Tensor | None = None
        self._quiet: Tensor | None = None
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
        logits = self._watched(x) if self._early else self.model(x)
        if not self._early:
            self._whole["forwards"] += 1
            if logits.requires_grad:
                logits.register_hook(self._count_whole)
        self._remember(x.detach(), logits.detach())
        self._snapshot()
        if self._early:
            self._retire()
        self._on_forward()
        return logits

    def _watched(self, x: Tensor) -> Tensor:
        """As ``_asked``, counted for the images that still work."""
        working = ~self._retired
        self._forwards += working
        logits = self._asked(x)
        if logits.requires_grad:
            logits.register_hook(self._counter(working.double()))  # type: ignore[no-untyped-call]
        return logits

    def _count_whole(self, _: Tensor) -> None:
        self._whole["backwards"] += 1

    def absorb(self, rows: Tensor, other: "Counted", *, nearer: bool = False) -> None:
        """Add what another one counted for the images ``rows``, and take its best, or the ``nearer`` one."""
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

    def _asked(self, x: Tensor) -> Tensor:
        """Logits of the images that still work; retired ones get the true class and no gradient."""
        if self._queries % LOOK == 1 and self._queries > 1:
            working = (~self._retired).nonzero().squeeze(1)
            # Halving keeps the number of different shapes small, for compilers and caches.
            if 2 * len(working) <= (len(x) if self._active is None else len(self._active)):
                self._active = working
        if self._active is None:
            logits: Tensor = self.model(x)
        elif self._quiet is None or len(self._active):
            part: Tensor = self.model(x[self._active])
            logits = self._silence(part).index_copy(0, self._active, part)
        else:
            # Nothing is left to ask, but whoever asks wants to differentiate the answer.
            logits = self._quiet + 0 * x.flatten(1).sum(1, keepdim=True)
        return torch.where(self._retired.unsqueeze(1), self._silence(logits), logits)

    def _silence(self, like: Tensor) -> Tensor:
        """Logits [N, K] of an image that is classified correctly, with no way to change that."""
        if self._quiet is None:
            blank = torch.zeros(len(self._problem.y), like.shape[1], dtype=like.dtype, device=like.device)
            self._quiet = blank.scatter_(1, self._problem.y.unsqueeze(1), 1.0)
        return self._quiet

    def _retire(self) -> None:
        best = self.best[self._norm]
        gain = best < self._reference * (1 - GAIN)
        self._reference = torch.where(gain, best, self._reference)
        self._gained = torch.where(gain, self._queries, self._gained)
        idle = self._queries - self._gained.clamp_min(self._settled)
        done = best.isfinite() & (idle >= self._patience)
        # Not in place: graphs of earlier queries hold on to it.
        self._retired = self._retired | done

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
        missed = ~self._problem.fooled(logits)
        delta = x - self._problem.x
        reached = torch.stack([distance(delta, norm) for norm in NORMS]).masked_fill_(missed, torch.inf)
        torch.minimum(self._best, reached, out=self._best)
