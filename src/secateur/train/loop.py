"""The training loop of every recipe: plain, adversarial, distilled, penalised, averaged."""

import math
from collections.abc import Mapping
from contextlib import nullcontext, suppress

import torch
from torch import Tensor, nn

from secateur.cpu.malloc import kept_heap
from secateur.data import Dataset
from secateur.hashing import stream
from secateur.models import NotFinite, accuracy
from secateur.recipes import Recipe
from secateur.train.adversary import starting_points
from secateur.train.augmentation import augment
from secateur.train.averaging import recalibrate, weights_of
from secateur.train.checkpoints import Checkpoints, fits, generation, identify, restored
from secateur.train.history import Epoch, History, collapsed
from secateur.train.job import Job, State, Tick, check, prepare
from secateur.train.losses import objective, robust_accuracy
from secateur.train.moment import Buffers, Moment, Streams
from secateur.train.shortage import inseparable, out_of_memory, release, too_large
from secateur.train.taught import with_taught


def train(
    model: nn.Module,
    train: Dataset,
    validation: Dataset,
    recipe: Recipe,
    *,
    seed: int,
    checkpoints: Checkpoints | None = None,
    teacher: nn.Module | None = None,
    on_progress: Tick | None = None,
) -> History:
    """Train ``model`` in place by stochastic gradient descent; it ends with the weights of its best epoch.

    The best epoch has the highest accuracy on ``validation`` (clean, or under the recipe's adversary with
    ``recipe.select="robust"``; the later of two equals; see ``History`` for epochs that are never kept). All
    randomness comes from ``seed``, dropout included; the global random state does not change. With
    ``checkpoints``, an interrupted training called again resumes where it was saved; on the CPU the result is
    the same to the bit. A loss that is not finite ends the training.

    Args:
        model: the starting weights, on the device to train on.
        train: images to fit.
        validation: images to choose the best epoch on.
        recipe: how to train; 0 epochs train nothing.
        seed: an integer of at least 0.
        checkpoints: where to save every ``recipe.checkpoint_every`` epochs.
        teacher: the network to learn from, if the recipe has a distillation.
        on_progress: called as ``on_progress(done, total)`` in batches. A teacher that is asked for all images
            before the first step counts for as many batches as that costs.

    Raises:
        UserError: an impossible recipe or seed, images that the model does not fit, a missing teacher, a
            single image per batch under batch normalisation, or checkpoints of another training.

    >>> import torch
    >>> from secateur.data import Dataset
    >>> pixels = torch.tensor([0.0, 0.2, 0.8, 1.0]).view(4, 1, 1, 1)
    >>> images = Dataset("shades", pixels, torch.tensor([0, 0, 1, 1]), classes=("dark", "light"), levels=None)
    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(1, 2))
    >>> history = train(model, images, images, Recipe(epochs=40, batch_size=4), seed=0)
    >>> history.epochs[-1].validation_accuracy
    1.0
    """
    classes = check(model, train, recipe, seed=seed, teacher=teacher)
    identity = identify(model, train, validation, recipe, seed=seed, teacher=teacher)
    job = prepare(model, train, validation, recipe, seed=seed, teacher=teacher, tick=on_progress)
    state = _begin(job, identity, checkpoints)
    # Every step allocates the same activations anew.
    with kept_heap() if job.device.type == "cpu" else nullcontext():
        return _run(job, state, identity, checkpoints, classes=classes)


def _run(job: Job, state: State, identity: str, checkpoints: Checkpoints | None, *, classes: int) -> History:
    """The epochs that are left, and the weights of the best one."""
    model, recipe = job.model, job.recipe
    if len(state.epochs) < recipe.epochs:
        job = with_taught(job, classes=classes)
    for epoch in range(len(state.epochs) + 1, recipe.epochs + 1):
        try:
            _epoch(job, state, epoch)
        except NotFinite:
            model.load_state_dict(state.best)
            return History(tuple(state.epochs), state.best_epoch, "diverged", state.parts)
        except BaseException:
            # A stop, a lack of memory, a defect: whatever ends a training early, its steps are kept.
            if checkpoints is not None:
                _keep_place(job, state, identity, checkpoints)
            raise
        if checkpoints is not None and (epoch % recipe.checkpoint_every == 0 or epoch == recipe.epochs):
            checkpoints.save(epoch, *generation(identity, job, state))
            state.saved = (epoch, 0)
    model.load_state_dict(state.best)
    return History(tuple(state.epochs), state.best_epoch, parts=state.parts)


def _begin(job: Job, identity: str, checkpoints: Checkpoints | None) -> State:
    """The state at the last checkpoint, or before the first step."""
    saved = checkpoints.latest() if checkpoints is not None else None
    if checkpoints is not None and saved is not None and checkpoints.restart and not fits(saved, identity):
        checkpoints.clear()
        saved = None
    if saved is not None:
        return restored(saved, identity, job)
    if job.recipe.recalibrate:
        recalibrate(job.model, job.train, generator=stream(job.seed, "recalibrate"))
    return State(best=weights_of(job.model))


def _keep_place(job: Job, state: State, identity: str, checkpoints: Checkpoints) -> None:
    """Save a training that ends within an epoch, unless weights were just being changed."""
    moment = state.moment
    if moment is None or len(state.epochs) + 1 != moment.epoch:
        return
    place = (moment.epoch - 1, moment.step)
    if place > state.saved:
        # What ends the training is what must be heard of, not that the disk is full or the GPU gone as well.
        with suppress(OSError, MemoryError, RuntimeError):
            checkpoints.save(place[0], *generation(identity, job, state), step=place[1])


def learning_rate(recipe: Recipe, epoch: int, done: float = 0.0) -> float:
    """The learning rate of ``epoch``, which counts from 1, after the share ``done`` of its steps.

    Only ``cosine_per_step`` depends on ``done``.

    >>> [learning_rate(Recipe(epochs=4, schedule="exponential", decay=0.5), epoch) for epoch in (1, 2, 3)]
    [0.1, 0.05, 0.025]
    """
    if recipe.schedule in ("cosine", "cosine_per_step"):
        passed = epoch - 1 + (done if recipe.schedule == "cosine_per_step" else 0.0)
        return recipe.learning_rate * (1 + math.cos(math.pi * passed / recipe.epochs)) / 2
    if recipe.schedule == "exponential":
        return recipe.learning_rate * recipe.decay ** (epoch - 1)
    return recipe.learning_rate


def _epoch(job: Job, state: State, epoch: int) -> None:
    """Fit, evaluate, and copy the weights if they are the best so far."""
    model, recipe = job.model, job.recipe
    loss, correct = _fit(job, state, epoch)
    # Before the weights can become the best: diverged ones never do.
    if not math.isfinite(loss):
        raise NotFinite(f"the loss is not finite in epoch {epoch}")
    with job.average.applied(model) if job.average is not None else nullcontext():
        # The same random starts in every epoch, so that robust accuracies differ by the weights alone.
        entry = Epoch(
            epoch=epoch,
            loss=loss,
            train_accuracy=correct,
            validation_accuracy=accuracy(model, job.validation.x, job.validation.y),
            learning_rate=learning_rate(recipe, epoch),
            robust_accuracy=robust_accuracy(
                model,
                job.validation,
                recipe,
                generator=stream(job.seed, "validation"),
                attacked=job.attacked,
            ),
        )
        _keep(entry, model, recipe, state)
    if job.penaliser is not None:
        job.penaliser.grow()
    state.moment = None


def _fit(job: Job, state: State, epoch: int) -> tuple[float, float]:
    """One pass over the images, or what is left of it: its mean loss, without penalties, and its accuracy."""
    n, size = job.train.n, job.recipe.batch_size
    order = torch.randperm(n, generator=stream(job.seed, "order", epoch)).to(job.device)
    # Batches of nearly equal size: a last batch of one image would break batch normalisation.
    batches = order.tensor_split(math.ceil(n / size))
    with torch.random.fork_rng(devices=[job.device] if job.device.type == "cuda" else []):
        streams, buffers = Streams(job.seed, epoch, job.device), Buffers(job.model)
        moment = state.moment or _first(job, epoch, streams)
        streams.restore(moment.streams)
        state.moment = moment
        job.model.train()
        for step in range(moment.step, len(batches)):
            done = (epoch - 1) * len(batches) + step + 1
            buffers.keep()
            loss, right = _gradients(job, state, batches[step], streams, buffers)
            state.moment = None  # until weights, averages and sums belong together again
            for group in job.optimiser.param_groups:
                group["lr"] = learning_rate(job.recipe, epoch, step / len(batches))
            job.optimiser.step()
            if job.average is not None:
                job.average.update(job.model, done)
            # Summed on the device: reading a number in every step would make the CPU wait for the GPU.
            moment = Moment(epoch, step + 1, streams.states(), moment.loss_sum + loss, moment.correct + right)
            state.moment = moment
            if job.tick is not None:
                job.tick(job.before + done, job.before + job.recipe.epochs * len(batches))
    return moment.loss_sum.item() / n, moment.correct.item() / n


def _first(job: Job, epoch: int, streams: Streams) -> Moment:
    loss_sum = torch.zeros((), dtype=torch.float64, device=job.device)
    return Moment(epoch, 0, streams.states(), loss_sum, torch.zeros_like(loss_sum, dtype=torch.int64))


def _gradients(
    job: Job, state: State, batch: Tensor, streams: Streams, buffers: Buffers
) -> tuple[Tensor, Tensor]:
    """The gradients of a batch, in smaller parts if memory runs short and no number depends on it.

    Returns the sum of the losses, and the number of correct predictions. If it fails, buffers and random
    streams are as before.
    """
    while True:
        started = streams.states()
        try:
            return _summed(job, batch, streams, parts=state.parts)
        except BaseException as error:
            failed = error if isinstance(error, Exception) and out_of_memory(error) else None
            streams.restore(started)
            buffers.restore()
            if failed is None:
                raise
        # Outside the handler, whose exception keeps the tensors of the failed step alive.
        job.optimiser.zero_grad()
        release(job.device)
        _split(job, state, batch, streams, buffers, started)


def _split(
    job: Job, state: State, batch: Tensor, streams: Streams, buffers: Buffers, started: Mapping[str, Tensor]
) -> None:
    """Double the number of parts. Raises UserError where that changes numbers, or parts are single images."""
    largest = math.ceil(len(batch) / job.recipe.accumulate)
    try:
        why = inseparable(job.model, job.train.x[batch[:2]])
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise too_large(largest, largest, "") from error
    finally:
        streams.restore(started)
        buffers.restore()
    if why or state.parts >= largest:
        raise too_large(largest, state.parts, why)
    state.parts = min(2 * state.parts, largest)


def _summed(job: Job, batch: Tensor, streams: Streams, *, parts: int) -> tuple[Tensor, Tensor]:
    """The gradients of a batch, summed over its parts; the sum of its losses, and how many are correct."""
    recipe, model, bounds = job.recipe, job.model, job.train.bounds
    loss_sum = torch.zeros((), dtype=torch.float64, device=job.device)
    correct = torch.zeros((), dtype=torch.int64, device=job.device)
    job.optimiser.zero_grad()
    for part in batch.tensor_split(recipe.accumulate):
        images, labels = job.train.x[part], job.train.y[part]
        taught = None if job.taught is None else job.taught[part]
        # Drawn for the whole part, so that smaller ones see the same images.
        if recipe.augment is not None:
            images = augment(images, recipe.augment, generator=streams.transforms)
        starts = None
        if parts > 1 and recipe.adversary is not None:
            starts = starting_points(images, recipe.adversary, streams.adversary)
        for rows in torch.arange(len(part)).tensor_split(min(parts, len(part))):
            inside = slice(int(rows[0]), int(rows[-1]) + 1)
            x, y = images[inside], labels[inside]
            x = x.contiguous(
                memory_format=torch.channels_last if job.channels_last else torch.contiguous_format
            )
            with torch.autocast(job.device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
                loss, scores = objective(
                    model,
                    x,
                    y,
                    recipe,
                    generator=streams.adversary,
                    bounds=bounds,
                    teacher=job.teacher,
                    taught=None if taught is None else taught[inside],
                    start=None if starts is None else starts[inside],
                    attacked=job.attacked,
                )
            # Parts may differ by one image; so weighted, their gradients add up to that of the batch.
            torch.autograd.backward(loss * (len(y) / len(batch)))
            loss_sum += loss.detach().double() * len(y)
            correct += (scores.argmax(1) == y).sum()
    if job.penaliser is not None:
        torch.autograd.backward(job.penaliser.loss())
    return loss_sum, correct


def _keep(entry: Epoch, model: nn.Module, recipe: Recipe, state: State) -> None:
    state.epochs.append(entry)
    score = entry.robust_accuracy if recipe.select == "robust" else entry.validation_accuracy
    # >= keeps the later of two equal epochs, which was trained for longer.
    if score is not None and score >= state.best_score and entry.epoch not in collapsed(state.epochs):
        state.best, state.best_epoch, state.best_score = weights_of(model), entry.epoch, score
