"""A model that counts what an attack asks of it, and remembers the best adversarial query of every image."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from secateur.attacks.norms import NORMS, distance
from secateur.attacks.problem import Problem


class Counted(nn.Module):
    """A model to hand to an attack for one batch.

    A query with as many images as the batch counts one forward for each of its images; any other number
    counts the same fraction for all. ``best`` maps a norm to the least distance [N] of a query that met the
    goal, inf where none did.
    """

    def __init__(
        self,
        model: nn.Module,
        problem: Problem,
        *,
        norm: float,
        steps: int | None,
        on_forward: Callable[[], None],
    ) -> None:
        super().__init__()
        self.model = model
        self.forwards = 0.0
        self.backwards = 0.0
        n = len(problem.x)
        self.best = {norm: torch.full((n,), torch.inf, device=problem.x.device) for norm in NORMS}
        self.halfway: Tensor | None = None
        self.late: Tensor | None = None
        self._norm = norm
        self._steps = steps
        self._problem = problem
        self._on_forward = on_forward
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """The model's logits for ``x``."""
        share = len(x) / len(self._problem.x)
        self.forwards += share
        logits: Tensor = self.model(x)
        if logits.requires_grad:
            logits.register_hook(self._counter(share))  # type: ignore[no-untyped-call]
        if len(x) == len(self._problem.x):
            self._remember(x.detach(), logits.detach())
            self._snapshot()
        self._on_forward()
        return logits

    def _snapshot(self) -> None:
        if self._steps is None:
            return
        if self.halfway is None and self.forwards > 0.5 * self._steps:
            self.halfway = self.best[self._norm].clone()
        if self.late is None and self.forwards > 0.75 * self._steps:
            self.late = self.best[self._norm].clone()

    def _counter(self, share: float) -> Callable[[Tensor], None]:
        def count(_: Tensor) -> None:
            self.backwards += share

        return count

    def _remember(self, x: Tensor, logits: Tensor) -> None:
        if x.shape != self._problem.x.shape or logits.ndim != 2:
            return
        fooled = self._problem.fooled(logits)
        delta = x - self._problem.x
        for norm, best in self.best.items():
            reached = torch.where(fooled, distance(delta, norm), torch.inf)
            torch.minimum(best, reached, out=best)
