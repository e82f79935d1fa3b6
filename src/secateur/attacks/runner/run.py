"""How an attack is run: the one function between a registered attack and a verified result.

1. ``bind`` looks the attack up, checks its settings and fills in defaults: a ``BoundAttack``.
2. The clean images are classified; those that already reach the attack's goal are not attacked.
3. ``fast_model`` makes an accelerated copy of the model for the search, if the copy gives the same logits.
4. Batches are attacked (``batching``: halved when memory runs out): one run after another where there are
   ``restarts`` or starting points, one size after another where ``eps`` lists several. ``QueryCounter``
   stands between attack and model: it counts passes and remembers the best adversarial query.
5. Every example is verified on the original model; one that fools only the copy is mended (``verification``).
   Of a network that draws random numbers most of many answers decide (``random_networks``).
6. ``result`` records distances, passes and outcomes per image.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from secateur.attacks.core.batch import Batch, Found, check_batch, check_logits
from secateur.attacks.core.box import box_of
from secateur.attacks.runner.attempts import Judge, attempts
from secateur.attacks.runner.averaging import averaged, drawing
from secateur.attacks.runner.batching import Progress, Tick, batch_of, in_batches, tick_of_run
from secateur.attacks.runner.bind import BoundAttack, bind
from secateur.attacks.runner.classifier import Classifier, classifier, gradients_allowed
from secateur.attacks.runner.entering import enter_clean, enter_found
from secateur.attacks.runner.fast_model import accelerated, tf32_matmul
from secateur.attacks.runner.goals import as_targets
from secateur.attacks.runner.outputs import Logits
from secateur.attacks.runner.query_counter import QueryCounter
from secateur.attacks.runner.random_networks import SAID, Answer, draws_of
from secateur.attacks.runner.random_networks import asked as asked_often
from secateur.attacks.runner.result import AttackResult
from secateur.attacks.runner.starting_points import points_of
from secateur.attacks.runner.streaming import result_of_stream
from secateur.attacks.runner.verification import reverify, reverify_random, stored, verify
from secateur.budgets import plain
from secateur.cpu.malloc import kept_heap
from secateur.data import Stream
from secateur.data.streaming import whole_or_stream
from secateur.errors import UserError
from secateur.kinds import is_whole
from secateur.registry import ATTACKS
from secateur.run_options import RunOptions, split
from secateur.undisturbed import undisturbed


@gradients_allowed()
def run(
    model: Callable[..., Any],
    dataset: Any,
    name: str,
    *,
    batch_size: int = 256,
    seed: int = 0,
    targets: Tensor | Sequence[int] | int | None = None,
    start: Any = None,
    mask: Any = None,
    pixel_bounds: Any = None,
    options: RunOptions | None = None,
    logits: Logits = None,
    on_progress: Tick | None = None,
    **settings: Any,
) -> AttackResult:
    """Attack every image of ``dataset`` that does not reach the goal already, and report what is verified.

    Every adversarial example is verified on the original model, in evaluation mode, and only verified
    examples count. Results do not depend on ``batch_size`` but for the floating-point differences of the
    model between batch sizes. The model's mode, buffers and ``requires_grad`` flags and the dataset's tensors
    are left as they were.

    Args:
        model: images to logits: a network, or a function; see ``logits``.
        dataset: images, labels, bounds and grey levels, or what ``secateur.data.of`` reads. An attack that
            quantises uses the dataset's levels unless told otherwise (``levels=None`` switches it off). A
            ``secateur.data.stream``, and a loader of more than 4 GiB, is attacked part by part: ``adv`` has
            the examples of 256 attacked images, which ``kept`` numbers.
        name: a registered attack, see ``secateur ls attacks``.
        batch_size: images per batch at most, halved when memory runs out.
        seed: for attacks that draw random numbers; every batch starts from it.
        targets: wanted classes [N] of a targeted attack, or one for all images.
        start: starting points, [N, ...] or several for each image, [R, N, ...], in the images' bounds, such
            as ``secateur.attacks.another_class`` gives, or adversarial examples of another network; for
            attacks with a parameter ``start``. Each costs a whole attack; the nearest example counts. For
            images that are read part by part, whatever has a shape and gives rows by slices, such as a
            memory-mapped array.
        mask: bool, broadcast to the images: only where it is true pixels may change. Numbers as lists, arrays
            and tensors.
        pixel_bounds: (lowest, highest), each broadcast to the images: the bounds of single pixels.
        options: how the attack is run; single options may stand among the settings, as in ``restarts=5``.
        logits: which part of the model's answer counts: a key, a field, an index, or a function of it. By
            default the answer, its part "logits" or its only part of shape [N, K]; a single number z for
            each image is taken as the logits [0, z]. ``search["network"]`` of the result says what was taken.
        on_progress: called with (queries of one image done, queries expected).
        settings: of the attack itself, as its signature names them. ``eps`` of an attack of fixed size may be
            a list: the attack is run at each size, the smallest first, on the images that have not fallen,
            and the first example found of each image is kept. An example beyond its size is not found.

    Raises:
        UserError: unknown attack or setting, data and model that do not fit, a model that breaks its
            contract, not enough memory for one image.

    >>> import torch
    >>> from secateur.data import Dataset
    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2)).eval()
    >>> x = torch.rand(3, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    >>> images = Dataset("toy", x, model(x).argmax(1), ("a", "b"), None)
    >>> result = run(model, images, "noise", eps=0.5, restarts=2)
    >>> result.attempts, result.n
    (2, 3)
    """
    batch_size, seed = plain(batch_size), plain(seed)
    if not is_whole(batch_size, least=1):
        raise UserError(f"the batch size is {batch_size!r}", hint="give a whole number of at least 1")
    options, settings = split(settings, options)
    given = whole_or_stream(dataset)
    if isinstance(given, Stream):
        return result_of_stream(
            run, model, given, name, batch_size=batch_size, seed=seed, targets=targets, start=start,
            mask=mask, pixel_bounds=pixel_bounds, options=options, logits=logits, on_progress=on_progress,
            **settings,
        )  # fmt: skip
    dataset = given
    goals = as_targets(targets, dataset)
    network = classifier(model, dataset.x, logits=logits, batch_size=batch_size, data=dataset.name)
    points = points_of(start, dataset)
    count = 0 if points is None else len(points)
    bound = bind(name, dataset, settings, targeted=goals is not None, points=count, options=options)
    whole = replace(check_batch(dataset.x, dataset.y, goals, dataset.bounds), start=points)
    if box := box_of(whole.x, dataset.bounds, mask=mask, pixel_bounds=pixel_bounds):
        if ":" in name or "installed" in ATTACKS.entry(name).facts:
            raise UserError(
                f"'{name}' knows no bounds of single pixels", hint="leave out mask and pixel_bounds"
            )
        whole = replace(whole, bounds=box)
    asked = averaged(network, options.eot_samples)
    result = AttackResult.empty(bound, whole, seed=_check_seed(seed))
    with held_still(asked), tf32_matmul("float32"), kept_heap():
        # Where the caller says how many forwards count as one, the caller knows that the network is random.
        draws = draws_of(asked, whole) if options.eot_samples == 1 else 1
        job = _Job(bound, asked, whole, result, options, draws)
        with drawing(seed, job.random):
            everything = torch.arange(len(whole.x))
            batch_size, short = in_batches(everything, min(batch_size, len(everything)), job.classify)
            left = (~job.result.ori_success).nonzero().squeeze(1)
            facts: dict[str, Any] = {}
            if len(left):
                fast, facts = accelerated(asked, batch_of(whole, left[:8], asked), options)
                batch_size, more = _attack_all(job, fast, left, batch_size, on_progress)
                short += more
    # The last key of the record, after the facts of the search.
    mended = job.result.search.pop("mended", 0)
    said = [*(network.said if isinstance(network, Classifier) else ()), *([SAID] if draws > 1 else [])]
    if said:
        job.result.search["network"] = said
    if draws > 1:
        job.result.search["draws"] = draws
    if options.eot_samples > 1:
        job.result.search["eot_samples"] = options.eot_samples
    job.result.search.update(facts, batch_size=batch_size, out_of_memory=short, mended=mended)
    return job.result


@dataclass(frozen=True)
class _Job:
    """What stays the same from batch to batch."""

    bound: BoundAttack
    model: nn.Module
    whole: Batch
    result: AttackResult
    options: RunOptions
    draws: int
    """Answers that decide an outcome: several where the network draws random numbers."""

    @property
    def random(self) -> bool:
        """Whether the network draws random numbers, by what the caller says or by its answers."""
        return self.draws > 1 or self.options.eot_samples > 1

    def classify(self, part: Tensor) -> None:
        """Enter the clean predictions of the images ``part``."""
        batch = batch_of(self.whole, part, self.model)
        with torch.no_grad():
            logits = self.model(batch.x)
        check_logits(logits, batch, numbers=part)
        often = self.draws > 1
        enter_clean(
            self.result, part,
            asked_often(self.model, batch, batch.x, draws=self.draws) if often else Answer.of(batch, logits),
        )  # fmt: skip


def _attack_all(
    job: _Job, fast: nn.Module, left: Tensor, batch_size: int, tick: Tick | None
) -> tuple[int, int]:
    """Attack the images ``left`` at each size; the batch size that fitted, and how often memory ran out."""
    steps, short = (job.bound.steps or 1) * job.bound.attempts, 0
    runs = [job.bound.at(eps) for eps in job.bound.sizes if eps > 0] or [job.bound]
    expected = len(left) * steps
    for number, bound in enumerate(runs):
        # An image that fell at a smaller size need not be attacked at a larger one.
        todo = left[~job.result.adv_success[left]] if number else left
        progress = Progress(tick_of_run(tick, number, len(runs), expected), len(todo), steps)
        work = partial(_attack_batch, replace(job, bound=bound), fast, progress)
        batch_size, more = in_batches(todo, batch_size, work)
        short += more
    if tick is not None and len(runs) > 1:
        tick(expected * len(runs), expected * len(runs))
    return batch_size, short


def _attack_batch(job: _Job, fast: nn.Module, progress: Progress, part: Tensor) -> None:
    """Attack the images ``part`` on the model ``fast``, verify on the original one, and enter the result."""
    bound, model = job.bound, job.model
    batch = batch_of(job.whole, part, model)
    progress.start(len(part))
    minimum = bound.kind == "minimum-norm"

    def attack(network: nn.Module, problem: Batch) -> tuple[Found, QueryCounter]:
        return attempts(
            bound, network, problem, seed=job.result.seed, early_stop=job.options.early_stop,
            on_forward=progress.forward, judge=Judge(model, job.draws) if job.random else None,
        )  # fmt: skip

    begin = time.perf_counter()
    # The search alone is rounded; verification below is in full float32.
    with tf32_matmul(job.options.search_precision):
        found, counter = attack(fast, batch)
    # An example on the boundary of a float64 network may be the clean class again when it is rounded.
    found = replace(found, adv=stored(found.adv))
    verified, classes = verify(model, batch, found, draws=job.draws)
    lost = found.mask & ~verified
    if job.random and minimum:
        found, verified, classes = reverify_random(
            model, batch, found, counter, verified, draws=job.draws,
            classes=classes, norm=bound.norm, levels=bound.settings.get("levels"),
        )  # fmt: skip
    elif not job.random and bool(lost.any()) and (fast is not model or found.adv.dtype is torch.float64):
        levels = bound.settings.get("levels")
        found = reverify(
            model, batch, found, counter, lost,
            norm=bound.norm, levels=levels, minimum=minimum, attack=partial(attack, model),
        )  # fmt: skip
        found = replace(found, adv=stored(found.adv))
        verified, classes = verify(model, batch, found)
    # Kernels run asynchronously: without waiting, the time of a batch would be that of another one.
    if batch.x.is_cuda:
        torch.cuda.synchronize(batch.x.device)
    result = job.result
    enter_found(
        result, bound, part, batch, found, counter,
        verified=verified, classes=classes, samples=job.options.eot_samples, draws=job.draws,
    )  # fmt: skip
    result.search["mended"] = result.search.get("mended", 0) + int((lost & found.mask & verified).sum())
    result.times.append(time.perf_counter() - begin)
    progress.finish()


@contextmanager
def held_still(model: nn.Module) -> Iterator[None]:
    """Evaluation mode and frozen parameters inside; modes, flags and numbers are as they were afterwards."""
    with undisturbed(model, "numbers"):
        model.eval()
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        yield


def _check_seed(seed: int) -> int:
    if not is_whole(seed, least=0) or seed >= 2**63:
        raise UserError(f"the seed is {seed!r}", hint="give a whole number from 0 to 2⁶³ − 1")
    return seed
