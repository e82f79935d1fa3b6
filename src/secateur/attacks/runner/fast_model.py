"""An accelerated copy of the model for the search. Examples are verified on the original model elsewhere."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn

from secateur.attacks.core.batch import Batch
from secateur.attacks.core.losses import logit_difference
from secateur.attacks.runner.batching import out_of_memory
from secateur.cpu.batchnorm_folding import fold, fold_candidates
from secateur.cpu.channels_last import prefers_channels_last
from secateur.cpu.single_channel_conv import is_single_channel, replace_single_channel_convs
from secateur.errors import UserError
from secateur.run_options import RunOptions
from secateur.text import first_line

COMPARED = 8
"""Images on which the copy must give the same logits and gradients as the original before it is used."""
LOGITS, GRADIENT = 1e-4, 1e-2
"""Largest differences then, relative to the largest logit and to the length of the gradient."""


class _Converted(nn.Module):
    """A model in another memory format or precision; its logits have the precision of its input."""

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
        # Losses and distances are computed in the precision of the images.
        return logits.to(x.dtype)


def accelerated(model: nn.Module, batch: Batch, options: RunOptions) -> tuple[nn.Module, dict[str, Any]]:
    """An accelerated copy of ``model``, compared with it on the first images of ``batch``, and its facts.

    The given model is not changed. Where it cannot be copied, or the copy fails or gives other logits or
    gradients, the search uses the model itself, and the facts say so: ``{"folded": 0, "channels_last": False,
    ...}``.

    Raises:
        UserError: the model cannot be compiled.
    """
    x = batch.x[:COMPARED]
    exact = options.search_precision == "float32"
    pairs = fold_candidates(model, x) if options.fold else []
    last = _channels_last(model, x, options)
    grey = options.grey and exact and x.device.type == "cpu" and any(map(is_single_channel, model.modules()))
    facts = {"folded": len(pairs), "grey": grey, "channels_last": last, "compiled": options.compile,
             "precision": options.search_precision, "early_stop": options.early_stop}  # fmt: skip
    fast: nn.Module = model
    if pairs or grey or last:
        copied = _faster(model, pairs, grey=grey, channels_last=last)
        fast = copied if copied is not None and _alike(model, copied, batch, x) else model
        if fast is model:
            facts |= {"folded": 0, "grey": False, "channels_last": False}
    if not exact:
        fast = _Converted(fast, channels_last=False, precision=options.search_precision)
    if options.compile:
        fast = _compiled(fast, x)
    return fast, facts


@contextmanager
def tf32_matmul(precision: str) -> Iterator[None]:
    """Matrix products on GPUs in full float32, unless ``precision`` is ``"tf32"``; as before afterwards."""
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


def _channels_last(model: nn.Module, x: Tensor, options: RunOptions) -> bool:
    convolves = any(isinstance(layer, nn.Conv2d) for layer in model.modules())
    # torch 2.13 on CPUs returns wrong float64 gradients where the two formats meet.
    if x.ndim != 4 or x.dtype != torch.float32 or not convolves:
        return False
    if options.channels_last is not None:
        return options.channels_last
    if x.device.type == "cpu":
        return prefers_channels_last(model)
    return options.search_precision == "bfloat16"


def _faster(
    model: nn.Module, pairs: list[tuple[str, str]], *, grey: bool, channels_last: bool
) -> nn.Module | None:
    try:
        fast = copy.deepcopy(model)
        fold(fast, pairs)
    except (RuntimeError, TypeError, ValueError, AttributeError, AssertionError):
        # It holds something that cannot be copied, or sets its own layers to training mode.
        return None
    if grey:
        replace_single_channel_convs(fast)
    if channels_last:
        fast = _Converted(fast.to(memory_format=torch.channels_last), channels_last=True, precision="float32")  # type: ignore[call-overload]
    for parameter in fast.parameters():
        parameter.requires_grad_(False)
    return fast


def _alike(model: nn.Module, fast: nn.Module, batch: Batch, x: Tensor) -> bool:
    """Whether both give the same logits and gradients for ``x``."""
    part = Batch(
        x,
        batch.y[: len(x)],
        None if batch.targets is None else batch.targets[: len(x)],
        (batch.bounds[0], batch.bounds[1]),
    )
    answers = []
    for network in (model, fast):
        query = x.clone().requires_grad_(True)
        try:
            logits = network(query)
            # The original raises the right error in the attack itself.
            if not logits.requires_grad:
                return False
            (gradient,) = torch.autograd.grad(logit_difference(part, logits).sum(), query, allow_unused=True)
        except Exception as error:
            # A network may rest on what the copy has not: its classes of layers, their places in memory.
            if network is model or out_of_memory(error):
                raise
            return False
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
        # The compiler may fail on a user's model or toolchain with any exception.
        raise UserError(
            f"the model cannot be compiled: {type(error).__name__}: {first_line(error, '')}",
            hint="leave out compile",
        ) from error
    return compiled
