"""The model as an attack asks it: the same function, computed faster. What it finds is verified elsewhere."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from secateur.attacks.core.batch import Problem
from secateur.cpu.batchnorm_folding import fold, fold_candidates
from secateur.cpu.grey_convolution import is_grey, quicken
from secateur.errors import UserError

PRECISIONS = ("float32", "tf32", "bfloat16")
NARROW = 64
"""Up to this many channels, channels-last convolutions are the faster ones on CPUs (measured)."""
PROOF = 8
"""How many images the faster model has to answer like the untouched one before it is used."""
LOGITS, GRADIENT = 1e-4, 1e-2
"""Largest differences then, relative to the largest logit and to the length of the gradient."""


@dataclass(frozen=True)
class Search:
    """How the model is asked while an attack searches; acceptance is by the untouched model in any case.

    ``fold``: batch normalisation becomes part of the convolution before it. ``grey``: in float32 on CPUs
    convolutions of one channel have a faster backward pass. ``channels_last``: memory format, None lets the
    kind of layers decide. ``compile``: by torch.compile. ``precision``: ``"tf32"`` and ``"bfloat16"`` round
    in every layer; what they find is pushed outwards until it fools in full precision.
    ``early_stop``: an image leaves once it has converged, see ``Counted``.
    """

    fold: bool = True
    grey: bool = True
    channels_last: bool | None = None
    compile: bool = False
    precision: str = "float32"
    early_stop: bool = False

    @classmethod
    def untouched(cls) -> "Search":
        """Ask the model itself, and nothing else."""
        return cls(fold=False, grey=False, channels_last=False)

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise UserError(
                f"there is no search precision '{self.precision}'",
                hint=f"choose one of {', '.join(PRECISIONS)}",
            )


class Searcher(nn.Module):
    """A model in another memory format or precision, that answers in the precision of its input."""

    def __init__(self, model: nn.Module, *, channels_last: bool, precision: str) -> None:
        super().__init__()
        self.model = model
        self.channels_last = channels_last
        self.precision = precision

    def forward(self, x: Tensor) -> Tensor:
        """Logits for ``x``."""
        if self.channels_last:
            # A single channel is contiguous in both formats, and only a copy has the strides of this one.
            x = x.clone(memory_format=torch.channels_last)
        reduced = self.precision == "bfloat16"
        with torch.autocast(x.device.type, torch.bfloat16) if reduced else nullcontext():
            logits: Tensor = self.model(x)
        return logits.to(x.dtype)


def searcher(model: nn.Module, batch: Problem, search: Search) -> tuple[nn.Module, dict[str, Any]]:
    """A faster model for the search, proved on the first images of ``batch``, and what was done to it.

    The given model is not changed. Where it cannot be copied, or the copy does not answer like it, it is
    searched as it is, and the facts say so: ``{"folded": 0, "channels_last": False, ...}``.
    """
    x = batch.x[:PROOF]
    exact = search.precision == "float32"
    pairs = fold_candidates(model, x) if search.fold else []
    last = _channels_last(model, x, search)
    grey = search.grey and exact and x.device.type == "cpu" and any(map(is_grey, model.modules()))
    facts = {"folded": len(pairs), "grey": grey, "channels_last": last, "compiled": search.compile,
             "precision": search.precision, "early_stop": search.early_stop}  # fmt: skip
    fast: nn.Module = model
    if pairs or grey or last:
        fast = _faster(model, pairs, grey=grey, channels_last=last) or model
        if fast is not model and not _alike(model, fast, batch, x):
            fast = model
        if fast is model:
            facts |= {"folded": 0, "grey": False, "channels_last": False}
    if not exact:
        fast = Searcher(fast, channels_last=False, precision=search.precision)
    if search.compile:
        fast = _compiled(fast, x)
    return fast, facts


@contextmanager
def products(precision: str) -> Iterator[None]:
    """Full float32 products on GPUs, unless ``precision`` is ``"tf32"``; as before afterwards."""
    backends: list[Any] = [torch.backends.cuda.matmul, torch.backends.cudnn]
    name: str = "allow_tf32"
    values: tuple[bool | str, bool | str] = (False, True)
    if hasattr(torch.backends.cuda.matmul, "fp32_precision"):
        # Since torch 2.9 there is a finer switch, and reading the old one may raise.
        backends = [torch.backends.cuda.matmul, torch.backends.cudnn.conv]  # type: ignore[attr-defined]
        name, values = "fp32_precision", ("ieee", "tf32")
    before = [getattr(backend, name) for backend in backends]
    try:
        for backend in backends:
            setattr(backend, name, values[precision == "tf32"])
        yield
    finally:
        for backend, value in zip(backends, before, strict=True):
            setattr(backend, name, value)


def _channels_last(model: nn.Module, x: Tensor, search: Search) -> bool:
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    # torch 2.13 on CPUs returns wrong float64 gradients where the two formats meet.
    if x.ndim != 4 or x.dtype != torch.float32 or not layers:
        return False
    if search.channels_last is not None:
        return search.channels_last
    if x.device.type == "cpu":
        return all(layer.groups == 1 and layer.out_channels <= NARROW for layer in layers)
    return search.precision == "bfloat16"


def _faster(
    model: nn.Module, pairs: list[tuple[str, str]], *, grey: bool, channels_last: bool
) -> nn.Module | None:
    try:
        fast = copy.deepcopy(model)
    except (RuntimeError, TypeError, ValueError, AttributeError):
        return None  # a module that holds what cannot be copied
    fold(fast, pairs)
    if grey:
        quicken(fast)
    if channels_last:
        fast = Searcher(fast.to(memory_format=torch.channels_last), channels_last=True, precision="float32")  # type: ignore[call-overload]
    for parameter in fast.parameters():
        parameter.requires_grad_(False)
    return fast


def _alike(model: nn.Module, fast: nn.Module, batch: Problem, x: Tensor) -> bool:
    """Whether both give the same logits and gradients for ``x``."""
    part = Problem(
        x, batch.y[: len(x)], None if batch.targets is None else batch.targets[: len(x)], batch.bounds
    )
    answers = []
    for network in (model, fast):
        query = x.clone().requires_grad_(True)
        logits = network(query)
        if not logits.requires_grad:
            return False
        (gradient,) = torch.autograd.grad(part.margin(logits).sum(), query, allow_unused=True)
        if gradient is None:
            return False
        answers.append((logits.detach(), gradient))
    (logits, gradient), (other, slope) = answers
    near = (other - logits).abs().amax() <= LOGITS * logits.abs().amax()
    # A kink between the two may give one image another gradient.
    off = (slope - gradient).flatten(1).norm(dim=1) > GRADIENT * gradient.flatten(1).norm(dim=1)
    return bool(near) and int(off.sum()) <= len(x) // 4


def _compiled(model: nn.Module, x: Tensor) -> nn.Module:
    compiled = cast(nn.Module, torch.compile(model))
    try:
        query = x.clone().requires_grad_(True)
        torch.autograd.grad(compiled(query).sum(), query)
    except Exception as error:
        # Whatever the compiler stumbles over in a user's model or toolchain.
        first = str(error).strip().splitlines()
        raise UserError(
            f"the model cannot be compiled: {type(error).__name__}: {first[0] if first else ''}",
            hint="leave out compile",
        ) from error
    return compiled
