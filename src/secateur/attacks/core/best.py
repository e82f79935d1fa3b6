"""Asks the model and keeps the nearest query that fooled it: the part that all attack loops share."""

import torch
from torch import Tensor, nn

from secateur.attacks.core.batch import Found, Problem, check_logits, conclude
from secateur.attacks.core.norms import distance, per_sample

TIE = 64
"""Units in the last place by which distances may differ and still be equal: what summing up rounds."""


class Nearest:
    """The nearest example of every image so far, by the norm ``norm``.

    ``best`` [N, ...] lies at the distance ``reached`` [N], inf where nothing has fooled yet. ``fooled`` [N]
    and ``gap`` [N] tell of the last query whether it fools and how far it lies. ``already_wrong`` [N] holds
    where a first query that was the clean image met the goal, and where the caller says so. ``margin`` [N] is
    the logit difference of the last query and ``slope`` [N, K] its derivative by the logits.

    An example replaces the nearest one if it is nearer by more than the share ``slack`` of its distance. 0 is
    right where the distance is all that counts. ``TIE`` units in the last place are right where the examples
    themselves go on: of two that are equally near, rounding must not choose.
    """

    def __init__(
        self,
        model: nn.Module,
        problem: Problem,
        norm: float,
        *,
        already_wrong: Tensor | None = None,
        slack: float = 0.0,
    ) -> None:
        self.model, self.problem, self.norm, self.slack = model, problem, norm, slack
        none = torch.zeros_like(problem.y, dtype=torch.bool)
        self.already_wrong = none if already_wrong is None else already_wrong
        self.fooled = none
        self.best = problem.x.clone()
        self.reached = torch.full((len(none),), torch.inf, dtype=problem.x.dtype, device=problem.x.device)
        self.gap = torch.zeros_like(self.reached)
        self.margin = self.slope = torch.zeros_like(self.reached)
        self._asked: set[bool] = set()

    def ask(self, query: Tensor, *, gradient: bool, delta: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """``query`` [N, ...] and its logits [N, K], with a graph between them if a ``gradient`` is wanted.

        ``delta`` is ``query`` minus the clean images, where the caller has it.

        Raises:
            UserError: the first logits, with or without a graph, are none an attack can work with.
        """
        with torch.set_grad_enabled(gradient):
            logits = self.model(query.requires_grad_(gradient))
        seen, image = logits.detach(), query.detach()
        if gradient not in self._asked:
            check_logits(logits, self.problem, gradient=gradient)
        self.gap = distance(image - self.problem.x if delta is None else delta, self.norm)
        if not self._asked:
            self.already_wrong = self.already_wrong | (self.problem.met(seen) & (self.gap == 0))
        self._asked.add(gradient)
        margin, self.slope = self.problem.margin_slope(seen)
        self.fooled = self.problem.beyond(margin, seen)
        # Logits may have another precision than the images, and the margin becomes part of a perturbation.
        self.margin = margin.to(self.gap.dtype)
        better = self.fooled & (self.gap < self.reached * (1 - self.slack))
        self.best = torch.where(per_sample(better, image), image, self.best)
        self.reached = torch.where(better, self.gap, self.reached)
        return query, logits

    def found(self) -> Found:
        """The record of what was kept."""
        return conclude(self.problem, self.best, self.reached, self.already_wrong)
