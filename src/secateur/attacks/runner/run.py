"""Run any registered attack on a dataset: batched, counted, and re-verified on the untouched model."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from secateur.attacks.core.batch import Found, Problem, check_logits, pose, take
from secateur.attacks.runner.batching import Progress, Tick, in_batches
from secateur.attacks.runner.bind import Call, prepare
from secateur.attacks.runner.columns import Ledger
from secateur.attacks.runner.fast_model import Search, products, searcher
from secateur.attacks.runner.fixed_sizes import part_of
from secateur.attacks.runner.query_counter import Counted
from secateur.attacks.runner.restarts import attempted
from secateur.attacks.runner.result import AttackResult, hash_images
from secateur.attacks.runner.starting_points import points_of
from secateur.attacks.runner.verification import mend, verified
from secateur.cpu.malloc import kept_heap
from secateur.data import Dataset
from secateur.errors import UserError
from secateur.models import evaluating


def run(
    model: nn.Module,
    dataset: Dataset,
    name: str,
    *,
    batch_size: int = 256,
    seed: int = 0,
    targets: Tensor | None = None,
    start: Tensor | None = None,
    restarts: int = 1,
    search: Search | None = None,
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
        batch_size: images per batch at most, halved when memory runs out.
        seed: for attacks that draw random numbers; every batch starts from it.
        targets: wanted classes [N] of a targeted attack.
        start: points to begin at, [N, ...] or several for each image, [R, N, ...], in the images' bounds,
            such as ``secateur.attacks.another_class`` gives, or adversarial examples of another network; for
            attacks with a parameter ``start``. Each costs a whole attack; the nearest example counts.
        restarts: how often an attack begins that draws random numbers, each time with other ones.
        search: how the model is asked while the attack searches; see ``Search``.
        on_progress: called with (queries of one image done, queries expected).
        settings: of the attack itself, as its signature names them. ``eps`` of an attack of fixed size may be
            a list: the attack is run at each size, the smallest first, on the images that have not fallen,
            and the first example found of each image is kept. An example beyond its size is not found.

    Raises:
        UserError: unknown attack or setting, data and model that do not fit, a model that breaks its
            contract, not enough memory for one image.
    """
    points = points_of(start, dataset)
    call = prepare(
        name,
        dataset,
        settings,
        targeted=targets is not None,
        points=0 if points is None else len(points),
        restarts=restarts,
    )
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise UserError(f"the batch size is {batch_size!r}", hint="give a whole number of at least 1")
    search = search or Search()
    whole = replace(pose(dataset.x, dataset.y, targets, dataset.bounds), start=points)
    ledger = Ledger.empty(whole)

    def look(part: Tensor) -> None:
        batch = _take(whole, part, model)
        logits = _answer(model, batch)
        ledger.start(part, logits, batch)

    with undisturbed(model), products("float32"), kept_heap():
        batch_size, short = in_batches(torch.arange(len(whole.x)), min(batch_size, len(whole.x)), look)
        first = (~ledger.ori_success).nonzero().squeeze(1)
        facts: dict[str, Any] = {}
        if len(first):
            fast, facts = searcher(model, _take(whole, first[:8], model), search)
            steps = (call.steps or 1) * call.attempts
            runs = [call.at(eps) for eps in call.sizes if eps > 0] or [call]
            for number, each in enumerate(runs):
                # What fell at a smaller size need not be attacked at a larger one.
                todo = first[~ledger.found[first]]
                progress = Progress(
                    part_of(on_progress, number, len(runs), len(first) * steps), len(todo), steps
                )
                work = partial(_attack_batch, each, whole, ledger, model, fast, search, _seed(seed), progress)
                batch_size, more = in_batches(todo, batch_size, work)
                short += more
            if on_progress is not None and len(runs) > 1:
                on_progress(len(first) * steps * len(runs), len(first) * steps * len(runs))
    facts |= {"batch_size": batch_size, "out_of_memory": short}
    return ledger.close(call, seed=seed, search=facts, hashes=hash_images(dataset.x))


def _attack_batch(
    call: Call,
    whole: Problem,
    ledger: Ledger,
    model: nn.Module,
    fast: nn.Module,
    search: Search,
    seed: int,
    progress: Progress,
    part: Tensor,
) -> None:
    """Attack the images ``part`` by way of ``fast``, accept by ``model``, and enter what is left."""
    batch = _take(whole, part, model)
    progress.start(len(part))
    minimum = call.kind == "minimum-norm"

    def count(network: nn.Module, problem: Problem) -> Counted:
        return Counted(
            network,
            problem,
            norm=call.norm,
            steps=call.steps,
            on_forward=progress.forward,
            early_stop=search.early_stop,
            minimum=minimum,
            settled=call.settled,
        )

    def attack(network: nn.Module, problem: Problem) -> tuple[Found, Counted]:
        return attempted(call, network, problem, seed, count)

    begin = time.perf_counter()
    with products(search.precision):
        found, counted = attack(fast, batch)
    met, classes = verified(model, batch, found)
    lost = found.mask & ~met
    if fast is not model and bool(lost.any()):
        levels = call.settings.get("levels")
        found = mend(
            model, batch, found, counted, lost,
            norm=call.norm, levels=levels, minimum=minimum, attack=partial(attack, model),
        )  # fmt: skip
        met, classes = verified(model, batch, found)
    _settle(batch.x.device)
    ledger.finish(call, part, batch, found, counted, met, classes, mended=lost & found.mask & met)
    ledger.times.append(time.perf_counter() - begin)
    progress.finish()


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
    rows = take(whole, part.to(whole.x.device))
    return Problem(
        rows.x.to(device, dtype),
        rows.y.to(device),
        None if rows.targets is None else rows.targets.to(device),
        rows.bounds,
        None if rows.start is None else rows.start.to(device, dtype),
    )


def _answer(model: nn.Module, batch: Problem) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model(batch.x)
    check_logits(logits, batch)
    return logits


def _seed(seed: int) -> int:
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise UserError(f"the seed is {seed!r}", hint="give a whole number from 0 to 2⁶³ − 1")
    return seed


def _settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
