"""Run any registered attack on a dataset: batched, counted, and re-verified on the untouched model."""

import hashlib
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from secateur.attacks.call import prepare
from secateur.attacks.counting import Counted
from secateur.attacks.ledger import Ledger
from secateur.attacks.problem import Found, Problem, check_logits, pose
from secateur.attacks.result import AttackResult
from secateur.data import Dataset
from secateur.errors import UserError
from secateur.models import evaluating

Tick = Callable[[int, int], None]


def run(
    model: nn.Module,
    dataset: Dataset,
    name: str,
    *,
    batch_size: int = 256,
    seed: int = 0,
    targets: Tensor | None = None,
    on_progress: Tick | None = None,
    **settings: Any,
) -> AttackResult:
    """Attack every image of ``dataset`` that does not meet the goal already, and report what holds up.

    Images that are already wrong are not attacked; the others are batched. Every example that the attack
    returns is put to the untouched model again, in evaluation mode: only what fools it there counts as
    found. Results do not depend on ``batch_size`` but for the floating-point differences of the model
    between batch sizes. The model's mode, buffers and ``requires_grad`` flags and the dataset's tensors are
    left as they were.

    Args:
        model: images to logits.
        dataset: images, labels, bounds and grey levels; an attack that quantises uses the dataset's levels
            unless told otherwise (``levels=None`` switches it off).
        name: a registered attack, see ``secateur ls attacks``.
        batch_size: images per batch, clipped to what there is.
        seed: for attacks that draw random numbers; every batch starts from it.
        targets: wanted classes [N] of a targeted attack.
        on_progress: called with (queries done, queries expected).
        settings: of the attack itself, as its signature names them.

    Raises:
        UserError: unknown attack or setting, data and model that do not fit, a model that breaks its
            contract.
    """
    call = prepare(name, dataset, settings, targeted=targets is not None)
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise UserError(f"the batch size is {batch_size!r}", hint="give a whole number of at least 1")
    whole = pose(dataset.x, dataset.y, targets, dataset.bounds)
    ledger = Ledger.empty(whole)
    with undisturbed(model):
        for part in torch.split(torch.arange(len(whole.x)), batch_size):
            batch = _take(whole, part, model)
            logits = _answer(model, batch)
            ledger.start(part, logits.argmax(1) == batch.y, batch.met(logits))
        todo = (~ledger.ori_success).nonzero().squeeze(1)
        batches = torch.split(todo, batch_size) if len(todo) else ()
        progress = _Progress(on_progress, len(batches), call.steps)
        for part in batches:
            batch = _take(whole, part, model)
            counted = Counted(model, batch, norm=call.norm, steps=call.steps, on_forward=progress.forward)
            begin = time.perf_counter()
            found = call.attack(counted, batch, torch.Generator().manual_seed(_seed(seed)))
            _settle(batch.x.device)
            ledger.times.append(time.perf_counter() - begin)
            ledger.finish(part, batch, found, counted, _verify(model, batch, found))
            progress.batch()
    return ledger.close(call, seed=seed, batch_size=batch_size, hashes=hash_images(dataset.x))


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluation mode and frozen parameters inside; modes, flags and buffers as they were afterwards."""
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        for parameter, _ in flags:
            parameter.requires_grad_(False)
        with evaluating(model):
            yield
    finally:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
        with torch.no_grad():
            for buffer, saved in buffers:
                buffer.copy_(saved)


def hash_images(x: Tensor) -> list[str]:
    """sha512 per image over its contiguous float bytes, as AttackBench names samples."""
    return [hashlib.sha512(image.contiguous().numpy().tobytes()).hexdigest() for image in x.detach().cpu()]


def _take(whole: Problem, part: Tensor, model: nn.Module) -> Problem:
    """A batch on the model's device and in its precision."""
    first = next(model.parameters(), None)
    device = whole.x.device if first is None else first.device
    dtype = whole.x.dtype if first is None else first.dtype
    if dtype not in (torch.float32, torch.float64):
        raise UserError(
            f"the model computes in {str(dtype).removeprefix('torch.')}",
            hint="attacks run in float32 or float64: model.float()",
        )
    part = part.to(whole.x.device)
    targets = None if whole.targets is None else whole.targets[part].to(device)
    return Problem(whole.x[part].to(device, dtype), whole.y[part].to(device), targets, whole.bounds)


def _answer(model: nn.Module, batch: Problem) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model(batch.x)
    check_logits(logits, batch)
    return logits


@torch.no_grad()
def _verify(model: nn.Module, batch: Problem, found: Found) -> Tensor:
    logits: Tensor = model(batch.clip(found.adv))
    return batch.met(logits)


def _seed(seed: int) -> int:
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise UserError(f"the seed is {seed!r}", hint="give a whole number from 0 to 2⁶³ − 1")
    return seed


def _settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class _Progress:
    """Counts queries for a progress bar, at most ten reports a second."""

    def __init__(self, tick: Tick | None, batches: int, steps: int | None) -> None:
        self._tick = tick
        self._per_batch = steps or 1
        self._total = batches * self._per_batch
        self._batch = 0
        self._query = 0
        self._last = -math.inf

    def forward(self) -> None:
        self._query = min(self._query + 1, self._per_batch)
        if self._tick is not None and (now := time.monotonic()) - self._last > 0.1:
            self._last = now
            self._tick(self._batch * self._per_batch + self._query, self._total)

    def batch(self) -> None:
        self._batch, self._query = self._batch + 1, 0
        if self._tick is not None:
            self._tick(self._batch * self._per_batch, self._total)
