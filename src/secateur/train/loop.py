"""The training loop of every recipe: plain, adversarial, distilled, penalised, averaged."""

import math
from contextlib import nullcontext

import torch
from torch import Generator, Tensor, nn

from secateur.data import Dataset
from secateur.hashing import stream
from secateur.models import NotFinite, accuracy
from secateur.recipes import Recipe
from secateur.train.augmentation import augment
from secateur.train.averaging import recalibrate, weights_of
from secateur.train.checkpoints import Checkpoints, generation, identify, restored
from secateur.train.history import Epoch, History, collapsed
from secateur.train.job import Job, State, Tick, check, prepare
from secateur.train.losses import objective, robust_accuracy


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
        on_progress: called as ``on_progress(batches_done, batches_in_all)``.

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
    check(model, train, recipe, seed=seed, teacher=teacher)
    identity = identify(model, train, validation, recipe, seed=seed, teacher=teacher)
    job = prepare(model, train, validation, recipe, seed=seed, teacher=teacher, tick=on_progress)
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
    """The learning rate of ``epoch``, which counts from 1.

    >>> [learning_rate(Recipe(epochs=4, schedule="exponential", decay=0.5), epoch) for epoch in (1, 2, 3)]
    [0.1, 0.05, 0.025]
    """
    if recipe.schedule == "cosine":
        return recipe.learning_rate * (1 + math.cos(math.pi * (epoch - 1) / recipe.epochs)) / 2
    if recipe.schedule == "exponential":
        return recipe.learning_rate * recipe.decay ** (epoch - 1)
    return recipe.learning_rate


def _epoch(job: Job, state: State, epoch: int) -> None:
    """Fit, evaluate, and copy the weights if they are the best so far."""
    model, recipe = job.model, job.recipe
    rate = learning_rate(recipe, epoch)
    for group in job.optimiser.param_groups:
        group["lr"] = rate
    loss, correct = _fit(job, epoch)
    # Before the weights can become the best: diverged ones never do.
    if not math.isfinite(loss):
        raise NotFinite(f"the loss is not finite in epoch {epoch}")
    if job.penaliser is not None:
        job.penaliser.grow()
    with job.average.applied(model) if job.average is not None else nullcontext():
        # The same random starts in every epoch, so that robust accuracies differ by the weights alone.
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
    """One pass over the images: its mean loss, without penalties, and its accuracy."""
    n, size = job.train.n, job.recipe.batch_size
    order = torch.randperm(n, generator=stream(job.seed, "order", epoch)).to(job.device)
    # Batches of nearly equal size: a last batch of one image would break batch normalisation.
    batches = order.tensor_split(math.ceil(n / size))
    transforms, adversary = stream(job.seed, "augment", epoch), stream(job.seed, "adversary", epoch)
    # Summed on the device: reading a number in every step would make the CPU wait for the GPU.
    loss_sum = torch.zeros((), dtype=torch.float64, device=job.device)
    correct = torch.zeros((), dtype=torch.int64, device=job.device)
    with torch.random.fork_rng(devices=[job.device] if job.device.type == "cuda" else []):
        # Dropout draws from the global generator only.
        torch.manual_seed(stream(job.seed, "model", epoch).initial_seed())
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
    """One step of the optimiser: the sum of the losses, and the number of correct predictions."""
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
        # Parts may differ by one image; so weighted, their gradients add up to that of the batch.
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
    # >= keeps the later of two equal epochs, which was trained for longer.
    if score is not None and score >= state.best_score and entry.epoch not in collapsed(state.epochs):
        state.best, state.best_epoch, state.best_score = weights_of(model), entry.epoch, score
