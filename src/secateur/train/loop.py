"""The one training loop."""

import math
from contextlib import nullcontext

import torch
from torch import Generator, Tensor, nn

from secateur.data import Dataset
from secateur.models import NotFinite, accuracy
from secateur.recipes import Recipe
from secateur.train.augmentation import augment
from secateur.train.averaging import Average
from secateur.train.checkpoints import Checkpoints
from secateur.train.checks import check
from secateur.train.history import Epoch, History, collapsed
from secateur.train.job import Job, State, Tick, weights_of
from secateur.train.layout import channels_last
from secateur.train.losses import objective, robust_accuracy
from secateur.train.penalty import Penaliser
from secateur.train.recalibration import recalibrate
from secateur.train.resume import generation, identify, restored
from secateur.train.seeds import derive, stream


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
    ``recipe.select="robust"``; the later one of equals; see ``History`` for what is never kept). All
    randomness comes from ``seed``, dropout included, and the global random state is left alone. With
    ``checkpoints``, an interrupted training called again goes on where it was saved; on the CPU the result is
    the same to the bit. A loss that is not finite ends the training.

    Args:
        model: starting weights; moved by nobody, the images follow its device.
        train: images to fit.
        validation: images to choose the epoch on.
        recipe: how to train; 0 epochs train nothing.
        seed: an integer of at least 0.
        checkpoints: where to save every few epochs.
        teacher: the network to learn from, where the recipe has a distillation.
        on_progress: called as (batches done, batches in all).

    Raises:
        UserError: as ``check`` does before it starts, or the checkpoints are those of another training.
    """
    check(model, train, recipe, seed=seed, teacher=teacher)
    identity = identify(model, train, validation, recipe, seed=seed, teacher=teacher)
    job = _prepare(model, train, validation, recipe, seed=seed, teacher=teacher, tick=on_progress)
    if saved := checkpoints.latest() if checkpoints is not None else None:
        state = restored(saved, identity, job)
    else:
        if recipe.recalibrate:
            recalibrate(model, job.train, generator=stream(seed, "recalibrate"))
        state = State(best=weights_of(model))
    for epoch in range(len(state.epochs) + 1, recipe.epochs + 1):
        try:
            _epoch(job, state, epoch)
        except NotFinite:
            model.load_state_dict(state.best)
            return History(tuple(state.epochs), state.best_epoch, "diverged")
        if checkpoints is not None and (epoch % recipe.checkpoint_every == 0 or epoch == recipe.epochs):
            checkpoints.save(epoch, *generation(identity, job, state))
    model.load_state_dict(state.best)
    return History(tuple(state.epochs), state.best_epoch)


def learning_rate(recipe: Recipe, epoch: int) -> float:
    """The learning rate of ``epoch``, which counts from 1."""
    if recipe.schedule == "cosine":
        return recipe.learning_rate * (1 + math.cos(math.pi * (epoch - 1) / recipe.epochs)) / 2
    if recipe.schedule == "exponential":
        return recipe.learning_rate * recipe.decay ** (epoch - 1)
    return recipe.learning_rate


def _prepare(
    model: nn.Module,
    train: Dataset,
    validation: Dataset,
    recipe: Recipe,
    *,
    seed: int,
    teacher: nn.Module | None,
    tick: Tick | None,
) -> Job:
    device = next(model.parameters()).device
    # Before the optimiser, whose momentum follows the format of the weights.
    last = channels_last(model, asked=recipe.channels_last)
    optimiser = torch.optim.SGD(
        [parameter for parameter in model.parameters() if parameter.requires_grad],
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
    )
    return Job(
        model=model,
        train=train.to(device),
        validation=validation.to(device),
        recipe=recipe,
        seed=seed,
        teacher=teacher.to(device) if teacher is not None and recipe.distillation is not None else None,
        optimiser=optimiser,
        average=Average(model, recipe.ema) if recipe.ema else None,
        penaliser=Penaliser(model, recipe.penalty, train.x[:2].to(device)) if recipe.penalty else None,
        tick=tick,
        channels_last=last,
    )


def _epoch(job: Job, state: State, epoch: int) -> None:
    """Fit, evaluate, and keep the weights if they are the best so far."""
    model, recipe = job.model, job.recipe
    rate = learning_rate(recipe, epoch)
    for group in job.optimiser.param_groups:
        group["lr"] = rate
    loss, correct = _fit(job, epoch)
    if not math.isfinite(loss):
        raise NotFinite(f"the loss is not finite in epoch {epoch}")
    if job.penaliser is not None:
        job.penaliser.grow()
    with job.average.shown(model) if job.average is not None else nullcontext():
        entry = Epoch(
            epoch=epoch,
            loss=loss,
            train_accuracy=correct,
            validation_accuracy=accuracy(model, job.validation.x, job.validation.y),
            learning_rate=rate,
            robust_accuracy=robust_accuracy(
                model, job.validation, recipe, generator=stream(job.seed, "validation")
            ),
        )
        _keep(entry, model, recipe, state)


def _fit(job: Job, epoch: int) -> tuple[float, float]:
    """One pass over the images; the mean loss, without penalties, and the accuracy over it."""
    n, size = job.train.n, job.recipe.batch_size
    order = torch.randperm(n, generator=stream(job.seed, "order", epoch)).to(job.device)
    # Batches of nearly equal size: a last batch of one image would break batch normalisation.
    batches = order.tensor_split(math.ceil(n / size))
    transforms, adversary = stream(job.seed, "augment", epoch), stream(job.seed, "adversary", epoch)
    loss_sum = torch.zeros((), dtype=torch.float64, device=job.device)
    correct = torch.zeros((), dtype=torch.int64, device=job.device)
    with torch.random.fork_rng(devices=[job.device] if job.device.type == "cuda" else []):
        # Dropout knows only the global generator.
        torch.manual_seed(derive(job.seed, "model", epoch))
        job.model.train()
        for index, batch in enumerate(batches):
            done = (epoch - 1) * len(batches) + index + 1
            loss, right = _step(job, batch, transforms, adversary)
            loss_sum += loss
            correct += right
            if job.average is not None:
                job.average.update(job.model, done)
            if job.tick is not None:
                job.tick(done, job.recipe.epochs * len(batches))
    return loss_sum.item() / n, correct.item() / n


def _step(job: Job, batch: Tensor, transforms: Generator, adversary: Generator) -> tuple[Tensor, Tensor]:
    """One descent; the sum of the losses of the batch, and how many images were classified rightly."""
    recipe, model, bounds = job.recipe, job.model, job.train.bounds
    loss_sum = torch.zeros((), dtype=torch.float64, device=job.device)
    correct = torch.zeros((), dtype=torch.int64, device=job.device)
    job.optimiser.zero_grad()
    for part in batch.tensor_split(recipe.accumulate):
        x, y = job.train.x[part], job.train.y[part]
        if recipe.augment is not None:
            x = augment(x, recipe.augment, generator=transforms)
        x = x.contiguous(memory_format=torch.channels_last if job.channels_last else torch.contiguous_format)
        with torch.autocast(job.device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
            loss, scores = objective(
                model, x, y, recipe, generator=adversary, bounds=bounds, teacher=job.teacher
            )
        torch.autograd.backward(loss * (len(part) / len(batch)))
        loss_sum += loss.detach().double() * len(part)
        correct += (scores.argmax(1) == y).sum()
    if job.penaliser is not None:
        torch.autograd.backward(job.penaliser.loss())
    job.optimiser.step()
    return loss_sum, correct


def _keep(entry: Epoch, model: nn.Module, recipe: Recipe, state: State) -> None:
    state.epochs.append(entry)
    score = entry.robust_accuracy if recipe.select == "robust" else entry.validation_accuracy
    if score is not None and score >= state.best_score and entry.epoch not in collapsed(state.epochs):
        state.best, state.best_epoch, state.best_score = weights_of(model), entry.epoch, score
