"""A checked batch of images, the record of what an attack found in it, and the checks of its input."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from secateur.attacks.core.box import Box
from secateur.attacks.core.norms import per_sample, project_boxed
from secateur.errors import UserError

ADAPTS = (
    "an attack called by itself takes logits [N, K], K ≥ 2, alone; secateur.attack and secateur.attacks.run "
    "take dictionaries, tuples, single logits and whole numbers too"
)
NO_GRADIENT = "remove no_grad(), detach() or quantised layers from its forward, or use a black-box attack"


@dataclass(frozen=True)
class Found:
    """The result of an attack on one batch of N images.

    ``adv`` [N, ...] is the best adversarial example where ``mask`` [N] is true and the clean image
    elsewhere. ``already_wrong`` [N]: the clean image met the attack's goal. ``distance`` [N] is the norm of
    the perturbation: 0 where already wrong, inf where nothing was found. A failure is therefore never a
    clean image with ``mask`` true.

    >>> import torch
    >>> from secateur.attacks import Found
    >>> x = torch.zeros(2, 1, 2, 2)
    >>> one = torch.tensor([True, False])
    >>> found = Found(x, mask=one, already_wrong=~one & False, distance=torch.tensor([0.5, torch.inf]))
    >>> found.distance[found.mask]
    tensor([0.5000])
    """

    adv: Tensor
    mask: Tensor
    already_wrong: Tensor
    distance: Tensor


@dataclass(frozen=True)
class Batch:
    """Images [N, ...] inside ``bounds`` to attack, labels [N], and targets [N] if the attack is targeted.

    ``start`` [R, N, ...] are starting points, one per attempt, if the caller has any.
    """

    x: Tensor
    y: Tensor
    targets: Tensor | None
    bounds: tuple[float, float]
    start: Tensor | None = None

    @property
    def reference_class(self) -> Tensor:
        """The class [N] whose logit the attack lowers (the label) or raises (the target)."""
        return self.y if self.targets is None else self.targets

    @property
    def limits(self) -> tuple[Any, Any]:
        """The lowest and highest value of every pixel: two numbers, or two tensors [N, ...] (``Box``)."""
        return (self.bounds.low, self.bounds.high) if isinstance(self.bounds, Box) else self.bounds

    def clip(self, images: Tensor) -> Tensor:
        """``images`` [N, ...] clipped to the bounds."""
        return images.clamp(*self.limits)

    def keep(self, images: Tensor) -> Tensor:
        """``images`` [N, ...] as given; clipped where pixels have bounds of their own, after a rounding."""
        return self.clip(images) if isinstance(self.bounds, Box) else images

    def distance_to_bounds(self, gradient: Tensor | None = None) -> Tensor:
        """How far each pixel [N, ...] can move: against a ``gradient``, or in either direction."""
        low, high = self.limits
        if gradient is None:
            return torch.maximum(self.x - low, high - self.x)
        return torch.where(gradient > 0, self.x - low, high - self.x)

    def project(self, delta: Tensor, eps: float, p: float) -> Tensor:
        """The perturbation nearest to ``delta`` [N, ...] in the p-ball of radius ``eps`` and the bounds."""
        low, high = self.limits
        radius = torch.full((len(delta),), eps, dtype=delta.dtype, device=delta.device)
        return project_boxed(delta, radius, p, low=low - self.x, high=high - self.x)


def check_batch(x: Tensor, y: Tensor, targets: Tensor | None, bounds: tuple[float, float]) -> Batch:
    """Check images, labels and targets; the caller's tensors are only read.

    Raises:
        UserError: an empty or misshapen batch, integer or half-precision pixels, pixels outside the bounds
            or not finite, negative labels, a target that equals the label.
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
    # Written so that NaN, for which every comparison is false, counts as outside.
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
    return Batch(x, y, targets, bounds if isinstance(bounds, Box) else (low, high))


def _check_labels(labels: Tensor, n: int, what: str) -> None:
    if labels.shape != (n,) or labels.dtype != torch.int64:
        raise UserError(
            f"{what} of shape {tuple(labels.shape)} and type {labels.dtype} for {n} images",
            hint="expected one int64 class index per image",
        )
    if (labels < 0).any():
        index = int((labels < 0).nonzero()[0])
        raise UserError(f"{what}[{index}] is {int(labels[index])}", hint="class indices start at 0")


def check_logits(
    logits: Tensor, batch: Batch, *, gradient: bool = False, numbers: Tensor | None = None
) -> None:
    """Check the first logits that a model returns.

    ``numbers`` [N] are those of the images among all that are attacked, for errors; without them an error
    names the place in the batch.

    Raises:
        UserError: not a [N, K ≥ 2] tensor of floats, not finite, a label of K or more, or, where a
            ``gradient`` is needed, no graph that leads back to the images.
    """
    n = len(batch.x)
    if not isinstance(logits, Tensor) or logits.ndim != 2 or logits.shape[0] != n or logits.shape[1] < 2:
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        raise UserError(f"the model answered {n} images with {shape}", hint=ADAPTS)
    if not logits.is_floating_point():
        kind = str(logits.dtype).removeprefix("torch.")
        raise UserError(f"the model answered {n} images with numbers of type {kind}", hint=ADAPTS)
    if len(bad := (~logits.isfinite().all(1)).nonzero().squeeze(1)):
        if len(bad) == n:
            raise UserError("the model's logits are not finite", hint="check its weights for NaN or infinity")
        first = int(bad[0] if numbers is None else numbers[bad[0].to(numbers.device)])
        where = "the batch" if numbers is None else "those that are attacked"
        raise UserError(
            f"the model's logits are not finite for {len(bad)} of {n} images; "
            f"the first is number {first} of {where}, counting from 0",
            hint="look at the pixels of this image",
        )
    if gradient and not logits.requires_grad:
        raise UserError("the model's logits carry no gradient to its input", hint=NO_GRADIENT)
    for what, labels in (("label", batch.y), ("target", batch.targets)):
        if labels is not None and int(labels.max()) >= logits.shape[1]:
            raise UserError(
                f"{what} {int(labels.max())} is beyond the model's {logits.shape[1]} classes",
                hint="do model and dataset belong together?",
            )


def conclude(batch: Batch, adv: Tensor, distance: Tensor, already_wrong: Tensor) -> Found:
    """The best queries ``adv`` [N, ...] as a record; their ``distance`` [N] is inf where none fooled."""
    mask = distance.isfinite() & ~already_wrong
    missed = torch.full_like(distance, torch.inf)
    return Found(
        torch.where(per_sample(mask, adv), adv, batch.x),
        mask,
        already_wrong,
        torch.where(mask, distance, missed).masked_fill(already_wrong, 0.0),
    )


def minimum(one: Found, other: Found) -> Found:
    """Per image the result with the smaller distance; already wrong where either says so."""
    closer = other.distance < one.distance
    adv = torch.where(per_sample(closer, one.adv), other.adv, one.adv)
    wrong = one.already_wrong | other.already_wrong
    return Found(adv, one.mask | other.mask, wrong, torch.minimum(one.distance, other.distance))


def select(batch: Batch, rows: Tensor) -> Batch:
    """The images ``rows`` (indices) of a batch."""
    targets = None if batch.targets is None else batch.targets[rows]
    start = None if batch.start is None else batch.start[:, rows]
    if isinstance(batch.bounds, Box):
        batch = replace(batch, bounds=batch.bounds.rows(rows))
    return replace(batch, x=batch.x[rows], y=batch.y[rows], targets=targets, start=start)


def scatter(found: Found, rows: Tensor, again: Found) -> Found:
    """``found`` with the results ``again`` of the images ``rows`` (indices) in their place."""
    return Found(
        found.adv.index_copy(0, rows, again.adv.to(found.adv.dtype)),
        found.mask.index_copy(0, rows, again.mask),
        found.already_wrong,
        found.distance.index_copy(0, rows, again.distance.to(found.distance.dtype)),
    )
