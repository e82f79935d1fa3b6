"""The one training loop."""

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from secateur.data import Dataset
from secateur.errors import UserError
from secateur.models import NotFinite, accuracy, weights_hash
from secateur.recipes import Recipe
from secateur.train.augmentation import augment
from secateur.train.checkpoints import Checkpoints, Saved
from secateur.train.checks import check
from secateur.train.history import Epoch, History
from secateur.train.objective import objective, robust_accuracy
from secateur.train.seeds import derive, stream

Tick = Callable[[int, int], None]


@dataclass
class State:
    """Everything that changes from epoch to epoch, beside the model and the optimiser."""

    best: dict[str, Tensor]
    best_epoch: int = 0
    best_score: float = -math.inf
    epochs: list[Epoch] = field(default_factory=list)


def train(
    model: nn.Module,
    train: Dataset,
    validation: Dataset,
    recipe: Recipe,
    *,
    seed: int,
    checkpoints: Checkpoints | None = None,
    on_progress: Tick | None = None,
) -> History:
    """Train ``model`` in place by stochastic gradient descent; it ends with the weights of its best epoch.

    The best epoch has the highest accuracy on ``validation`` (clean, or under the recipe's adversary with
    ``recipe.select="robust"``; the later one of equals). All randomness comes from ``seed``, dropout
    included, and the global random state is left alone. With ``checkpoints``, an interrupted training called
    again with the same arguments goes on where it was saved; on the CPU the result is the same to the bit. A
    loss that is not finite ends the training (see ``History``).

    Args:
        model: starting weights; moved by nobody, the images follow its device.
        train: images to fit.
        validation: images to choose the epoch on.
        recipe: how to train; 0 epochs train nothing.
        seed: an integer of at least 0.
        checkpoints: where to save every ``recipe.checkpoint_every`` epochs.
        on_progress: called as (batches done, batches in all).

    Raises:
        UserError: an impossible recipe, images and model that do not fit, a single image per batch under
            batch normalisation, checkpoints of another training.
    """
    check(model, train, recipe, seed)
    device = next(model.parameters()).device
    train, validation = train.to(device), validation.to(device)
    optimiser = torch.optim.SGD(
        [parameter for parameter in model.parameters() if parameter.requires_grad],
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
    )
    identity = _identity(model, train, validation, recipe, seed)
    state = State(best=_weights(model))
    if checkpoints is not None and (saved := checkpoints.latest()):
        _restore(saved, identity, model, optimiser, state)
    for epoch in range(len(state.epochs) + 1, recipe.epochs + 1):
        try:
            entry = _epoch(
                model, train, validation, recipe, optimiser, epoch=epoch, seed=seed, tick=on_progress
            )
        except NotFinite:
            model.load_state_dict(state.best)
            return History(tuple(state.epochs), state.best_epoch, "diverged")
        _keep(entry, model, recipe, state)
        if checkpoints is not None and (epoch % recipe.checkpoint_every == 0 or epoch == recipe.epochs):
            checkpoints.save(epoch, *_generation(identity, model, optimiser, state))
    model.load_state_dict(state.best)
    return History(tuple(state.epochs), state.best_epoch)


def learning_rate(recipe: Recipe, epoch: int) -> float:
    """The learning rate of ``epoch``, which counts from 1."""
    if recipe.schedule == "cosine":
        return recipe.learning_rate * (1 + math.cos(math.pi * (epoch - 1) / recipe.epochs)) / 2
    if recipe.schedule == "exponential":
        return recipe.learning_rate * recipe.decay ** (epoch - 1)
    return recipe.learning_rate


def _epoch(
    model: nn.Module,
    train: Dataset,
    validation: Dataset,
    recipe: Recipe,
    optimiser: torch.optim.Optimizer,
    *,
    epoch: int,
    seed: int,
    tick: Tick | None,
) -> Epoch:
    rate = learning_rate(recipe, epoch)
    for group in optimiser.param_groups:
        group["lr"] = rate
    loss, correct = _fit(model, train, recipe, optimiser, epoch=epoch, seed=seed, tick=tick)
    if not math.isfinite(loss):
        raise NotFinite(f"the loss is not finite in epoch {epoch}")
    return Epoch(
        epoch=epoch,
        loss=loss,
        train_accuracy=correct,
        validation_accuracy=accuracy(model, validation.x, validation.y),
        learning_rate=rate,
        robust_accuracy=robust_accuracy(model, validation, recipe, generator=stream(seed, "validation")),
    )


def _fit(
    model: nn.Module,
    train: Dataset,
    recipe: Recipe,
    optimiser: torch.optim.Optimizer,
    *,
    epoch: int,
    seed: int,
    tick: Tick | None,
) -> tuple[float, float]:
    """One pass over the images; the mean loss and the accuracy over it."""
    device = train.x.device
    order = torch.randperm(train.n, generator=stream(seed, "order", epoch)).to(device)
    # Batches of nearly equal size: a last batch of one image would break batch normalisation.
    batches = order.tensor_split(math.ceil(train.n / recipe.batch_size))
    transforms, adversary = stream(seed, "augment", epoch), stream(seed, "adversary", epoch)
    loss_sum = torch.zeros((), dtype=torch.float64, device=device)
    correct = torch.zeros((), dtype=torch.int64, device=device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        # Dropout knows only the global generator.
        torch.manual_seed(derive(seed, "model", epoch))
        model.train()
        for index, batch in enumerate(batches):
            x, y = train.x[batch], train.y[batch]
            if recipe.augment is not None:
                x = augment(x, recipe.augment, generator=transforms)
            loss, scores = objective(model, x, y, recipe, generator=adversary, bounds=train.bounds)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            loss_sum += loss.detach().double() * len(batch)
            correct += (scores.argmax(1) == y).sum()
            if tick is not None:
                tick((epoch - 1) * len(batches) + index + 1, recipe.epochs * len(batches))
    return loss_sum.item() / train.n, correct.item() / train.n


def _keep(entry: Epoch, model: nn.Module, recipe: Recipe, state: State) -> None:
    state.epochs.append(entry)
    score = entry.robust_accuracy if recipe.select == "robust" else entry.validation_accuracy
    if score is not None and score >= state.best_score:
        state.best, state.best_epoch, state.best_score = _weights(model), entry.epoch, score


def _weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def _identity(model: nn.Module, train: Dataset, validation: Dataset, recipe: Recipe, seed: int) -> str:
    """A hash of all that determines a training, so that a checkpoint is never continued as another one."""
    parts = [weights_hash(model), train.fingerprint, validation.fingerprint, seed, repr(asdict(recipe))]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _generation(
    identity: str, model: nn.Module, optimiser: torch.optim.Optimizer, state: State
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors = {f"model/{name}": tensor for name, tensor in _weights(model).items()}
    tensors |= {f"best/{name}": tensor for name, tensor in state.best.items()}
    for index, slot in optimiser.state_dict()["state"].items():
        if slot.get("momentum_buffer") is not None:
            tensors[f"momentum/{index}"] = slot["momentum_buffer"]
    meta = {
        "identity": identity,
        "best_epoch": state.best_epoch,
        "best_score": state.best_score,
        "epochs": [asdict(epoch) for epoch in state.epochs],
    }
    return tensors, meta


def _restore(
    saved: Saved, identity: str, model: nn.Module, optimiser: torch.optim.Optimizer, state: State
) -> None:
    if saved.meta["identity"] != identity:
        raise UserError(
            "the checkpoints belong to another training (other weights, data, recipe or seed)",
            hint="use another folder, or delete them",
        )
    device = next(model.parameters()).device
    tensors = {name: tensor.to(device) for name, tensor in saved.tensors.items()}
    model.load_state_dict(_under("model/", tensors))
    state.best = _under("best/", tensors)
    slots = _under("momentum/", tensors)
    for index, parameter in enumerate(optimiser.param_groups[0]["params"]):
        if str(index) in slots:
            optimiser.state[parameter]["momentum_buffer"] = slots[str(index)]
    state.best_epoch, state.best_score = saved.meta["best_epoch"], saved.meta["best_score"]
    state.epochs = [Epoch(**entry) for entry in saved.meta["epochs"]]


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
