"""What every attack shares: its question, the record of its answer, and the checks of its input."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from secateur.attacks.core.norms import distance, per_sample
from secateur.errors import UserError
from secateur.registry.settings import EPS, STEPS, check_value

NO_GRADIENT = "remove no_grad(), detach() or quantised layers from its forward, or use a black-box attack"


@dataclass(frozen=True)
class Found:
    """What an attack found, per sample of its batch.

    ``adv`` [N, ...] is the best adversarial example where ``mask`` [N] is true and the clean image
    elsewhere. ``already_wrong`` [N]: the clean image met the attack's goal. ``distance`` [N] is the norm of
    the perturbation, 0 where already wrong, inf where nothing was found: a failure is never a clean image
    with ``mask`` true.
    """

    adv: Tensor
    mask: Tensor
    already_wrong: Tensor
    distance: Tensor


@dataclass(frozen=True)
class Problem:
    """A batch to be fooled: images [N, ...] inside ``bounds``, labels [N], targets [N] if targeted.

    ``start`` [R, N, ...] are points to begin at, one after the other, if the caller has any.
    """

    x: Tensor
    y: Tensor
    targets: Tensor | None
    bounds: tuple[float, float]
    start: Tensor | None = None

    @property
    def anchor(self) -> Tensor:
        """The class whose logit the attack lowers (untargeted) or raises (targeted)."""
        return self.y if self.targets is None else self.targets

    def met(self, logits: Tensor) -> Tensor:
        """Where the prediction is what the attack wants, [N] bool; never where a logit is not finite."""
        hit = logits.argmax(1) == self.anchor
        goal = ~hit if self.targets is None else hit
        return goal & logits.isfinite().all(1)

    def fooled(self, logits: Tensor) -> Tensor:
        """Where an attack may claim success, [N] bool: the goal is met by more than rounding errors.

        Answers differ in their last digits between batch sizes and machines. An example nearer to the
        boundary than that would fool here and not there.
        """
        return self.beyond(self.margin(logits), logits)

    def beyond(self, margin: Tensor, logits: Tensor) -> Tensor:
        """``fooled`` where the ``margin`` [N] of the ``logits`` is known already."""
        # A logit that is not finite makes the largest one infinite or NaN, and this comparison false.
        return margin < logits.abs().amax(1) * (-64 * torch.finfo(logits.dtype).eps)

    def margin(self, logits: Tensor) -> Tensor:
        """Logit difference [N], negative where fooled (Eq. 2.6); one class takes the gradient of a tie."""
        own = logits.gather(1, self.anchor.unsqueeze(1)).squeeze(1)
        other = _without(logits, self.anchor).max(1).values
        return own - other if self.targets is None else other - own

    def margin_slope(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """``margin`` [N] and its derivative by the ``logits`` [N, K], to start a backward pass from."""
        anchor = self.anchor.unsqueeze(1)
        other, column = _without(logits, self.anchor).max(1, keepdim=True)
        own = logits.gather(1, anchor)
        sign = 1.0 if self.targets is None else -1.0
        slope = torch.zeros_like(logits).scatter_(1, anchor, sign).scatter_(1, column, -sign)
        return (own - other if self.targets is None else other - own).squeeze(1), slope

    def soft_slope(self, logits: Tensor) -> Tensor:
        """The derivative of ``soft_margin`` by the ``logits`` [N, K]."""
        slope = -_without(logits, self.anchor).softmax(1)
        slope.scatter_(1, self.anchor.unsqueeze(1), 1.0)
        return slope if self.targets is None else -slope

    def soft_margin(self, logits: Tensor) -> Tensor:
        """``log(p / (1 - p))`` of the anchor [N], to be lowered (untargeted), or its negative (targeted).

        Cross-entropy is a monotone function of it, so both have the same normalised gradient; this one
        keeps its digits when the softmax saturates, where the gradient of cross-entropy rounds to zero or
        to a wrong direction.
        """
        own = logits.gather(1, self.anchor.unsqueeze(1)).squeeze(1)
        value = own - _without(logits, self.anchor).logsumexp(1)
        return value if self.targets is None else -value

    def clip(self, images: Tensor) -> Tensor:
        """``images`` inside the box."""
        return images.clamp(*self.bounds)

    def room(self, gradient: Tensor) -> Tensor:
        """How far each pixel can move inside the box against ``gradient`` [N, ...], from the clean image."""
        low, high = self.bounds
        return torch.where(gradient > 0, self.x - low, high - self.x)

    def reach(self) -> Tensor:
        """How far each pixel can move inside the box [N, ...]."""
        low, high = self.bounds
        return torch.maximum(self.x - low, high - self.x)


def _without(logits: Tensor, column: Tensor) -> Tensor:
    return logits.scatter(1, column.unsqueeze(1), -torch.inf)


def pose(x: Tensor, y: Tensor, targets: Tensor | None, bounds: tuple[float, float]) -> Problem:
    """Check a batch and make it a problem; the caller's tensors are only read.

    Raises:
        UserError: empty or mis-shaped batch, integer or half-precision pixels, pixels outside the bounds or
            not finite, negative labels, a target that equals the label.
    """
    low, high = (float(bound) for bound in bounds)
    if not low < high:
        raise UserError(
            f"the bounds ({low}, {high}) enclose nothing", hint="give (low, high) with low < high"
        )
    if x.ndim < 2 or not x.numel():
        raise UserError(f"images of shape {tuple(x.shape)} are not a batch", hint="expected [N, ...], N ≥ 1")
    if x.dtype not in (torch.float32, torch.float64):
        raise UserError(
            f"images are {str(x.dtype).removeprefix('torch.')}",
            hint="attacks compute in float32 or float64: convert pixels to floats in [0, 1]",
        )
    x = x.detach()
    bad = ~((x >= low) & (x <= high)).flatten(1).all(1)
    if bad.any():
        index = int(bad.nonzero()[0])
        raise UserError(
            f"image {index} has pixels outside [{low:g}, {high:g}] or not finite "
            f"(its range: {float(x[index].min()):g} to {float(x[index].max()):g})",
            hint="scale images to the bounds of the attack, normalisation belongs inside the model",
        )
    _check_labels(y, len(x), "labels")
    y = y.detach().to(x.device)
    if targets is not None:
        _check_labels(targets, len(x), "targets")
        targets = targets.detach().to(x.device)
        if (same := targets == y).any():
            index = int(same.nonzero()[0])
            raise UserError(
                f"the target of image {index} is its own label {int(y[index])}",
                hint="a targeted attack needs another class",
            )
    return Problem(x, y, targets, (low, high))


def _check_labels(labels: Tensor, n: int, what: str) -> None:
    if labels.shape != (n,) or labels.dtype != torch.int64:
        raise UserError(
            f"{what} of shape {tuple(labels.shape)} and type {labels.dtype} for {n} images",
            hint="expected one int64 class index per image",
        )
    if (labels < 0).any():
        index = int((labels < 0).nonzero()[0])
        raise UserError(f"{what}[{index}] is {int(labels[index])}", hint="class indices start at 0")


def check_logits(logits: Tensor, problem: Problem, *, gradient: bool = False) -> None:
    """Hold the model to its contract on a first answer.

    Raises:
        UserError: not a [N, K ≥ 2] tensor, not finite, a label beyond K, or, where a ``gradient`` is
            needed, cut off from the images.
    """
    n = len(problem.x)
    if not isinstance(logits, Tensor) or logits.ndim != 2 or logits.shape[0] != n or logits.shape[1] < 2:
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise UserError(
            f"the model answered {n} images with {shape}", hint="a classifier returns logits [N, K], K ≥ 2"
        )
    if not logits.isfinite().all():
        raise UserError("the model's logits are not finite", hint="check its weights for NaN or infinity")
    if gradient and not logits.requires_grad:
        raise UserError("the model's logits carry no gradient to its input", hint=NO_GRADIENT)
    for what, labels in (("label", problem.y), ("target", problem.targets)):
        if labels is not None and int(labels.max()) >= logits.shape[1]:
            raise UserError(
                f"{what} {int(labels.max())} is beyond the model's {logits.shape[1]} classes",
                hint="do model and dataset belong together?",
            )


def check_eps(eps: float) -> None:
    """``eps`` is a positive size, or a UserError."""
    check_value("eps", eps, EPS)


def check_size(eps: float, norm: float) -> None:
    """As ``check_eps``; in L0 a size counts values, at least one. Raises UserError."""
    check_eps(eps)
    if norm == 0 and eps < 1:
        raise UserError(f"eps is {eps:g} in L0", hint="there it counts values: give at least 1, as in eps=10")


def check_steps(steps: int) -> None:
    """``steps`` is a positive whole number, or a UserError."""
    check_value("steps", steps, STEPS)


def conclude(problem: Problem, best: Tensor, best_distance: Tensor, already_wrong: Tensor) -> Found:
    """The best queries as a record; ``best_distance`` is inf where nothing was found."""
    mask = best_distance.isfinite() & ~already_wrong
    adv = torch.where(per_sample(mask, best), best, problem.x)
    missed = torch.full_like(best_distance, torch.inf)
    reached = torch.where(mask, best_distance, missed).masked_fill(already_wrong, 0.0)
    return Found(adv, mask, already_wrong, reached)


def nearer(one: Found, other: Found) -> Found:
    """Per image the nearer of two answers; wrong already where either says so."""
    closer = other.distance < one.distance
    adv = torch.where(per_sample(closer, one.adv), other.adv, one.adv)
    wrong = one.already_wrong | other.already_wrong
    return Found(adv, one.mask | other.mask, wrong, torch.minimum(one.distance, other.distance))


def take(batch: Problem, rows: Tensor) -> Problem:
    """The images ``rows`` of a batch."""
    targets = None if batch.targets is None else batch.targets[rows]
    start = None if batch.start is None else batch.start[:, rows]
    return replace(batch, x=batch.x[rows], y=batch.y[rows], targets=targets, start=start)


def placed(found: Found, rows: Tensor, again: Found) -> Found:
    """``found`` with the answers ``again`` in its ``rows``."""
    return Found(
        found.adv.index_copy(0, rows, again.adv.to(found.adv.dtype)),
        found.mask.index_copy(0, rows, again.mask),
        found.already_wrong,
        found.distance.index_copy(0, rows, again.distance.to(found.distance.dtype)),
    )


def pulled_back(logits: Tensor, query: Tensor, slope: Tensor) -> Tensor:
    """The gradient by ``query`` [N, ...] of a loss whose derivative by the ``logits`` [N, K] is ``slope``."""
    # Handing the slope over as grad_outputs makes torch import its symbolic mathematics first.
    gradient: Tensor = torch.autograd.grad((logits * slope).sum(), query)[0]
    return gradient


def unit_direction(
    gradient: Tensor, problem: Problem, query: Tensor, noise: Tensor, *, fooled: Tensor | None = None
) -> Tensor:
    """``gradient`` [N, ...] at ``query`` scaled to L2 norm 1.

    ``noise`` [1, ...], a unit vector, replaces it where a step against it would not move: where it is zero,
    not finite, or leads out of the box in every pixel. Where ``fooled`` [N] the last is no reason to leave:
    there the radius shrinks, and the example comes back into the box along the way it went.
    """
    norms = torch.linalg.vector_norm(gradient, dim=tuple(range(1, gradient.ndim)))
    direction = gradient / per_sample(norms, gradient)
    # One sum of squares per image is several times cheaper than comparing every pixel with the box.
    free = distance((query - direction).clamp_(*problem.bounds).sub_(query), 2.0) > 0
    if fooled is not None:
        free = free | fooled
    usable = norms.isfinite() & (norms > torch.finfo(gradient.dtype).tiny) & free
    return torch.where(per_sample(usable, gradient), direction, noise)


def unit_noise(x: Tensor, generator: torch.Generator) -> Tensor:
    """A random unit vector [1, ...], shared by the batch so that batching changes nothing."""
    noise = torch.randn(x.shape[1:], generator=generator, dtype=x.dtype, device=generator.device).to(x.device)
    unit: Tensor = noise / torch.linalg.vector_norm(noise)
    return unit.unsqueeze(0)


def cosine(first: float, last: float, step: int, steps: int) -> float:
    """Cosine annealing from ``first`` (step 0) to ``last`` (step ``steps``), Eq. 2.8."""
    return last + 0.5 * (first - last) * (1.0 + math.cos(math.pi * step / steps))
