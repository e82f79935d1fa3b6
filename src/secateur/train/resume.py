"""What a checkpoint of a training holds, and how the training goes on from it."""

import hashlib
import json
from dataclasses import asdict
from typing import Any

from torch import Tensor, nn

from secateur.data import Dataset
from secateur.errors import UserError
from secateur.models import weights_hash
from secateur.recipes import Recipe
from secateur.train.checkpoints import Saved
from secateur.train.history import Epoch
from secateur.train.job import Job, State, weights_of


def identify(
    model: nn.Module,
    train: Dataset,
    validation: Dataset,
    recipe: Recipe,
    *,
    seed: int,
    teacher: nn.Module | None,
) -> str:
    """A hash of all that determines a training, so that a checkpoint is never continued as another one."""
    parts = [weights_hash(model), train.fingerprint, validation.fingerprint, seed, repr(asdict(recipe))]
    parts.append(weights_hash(teacher) if teacher is not None else None)
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def generation(identity: str, job: Job, state: State) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Everything that the next epoch depends on; the random streams derive from the seed and the epoch."""
    tensors = {f"model/{name}": tensor for name, tensor in weights_of(job.model).items()}
    tensors |= {f"best/{name}": tensor for name, tensor in state.best.items()}
    for index, slot in job.optimiser.state_dict()["state"].items():
        if slot.get("momentum_buffer") is not None:
            tensors[f"momentum/{index}"] = slot["momentum_buffer"]
    if job.average is not None:
        tensors |= {f"average/{name}": tensor for name, tensor in job.average.tensors.items()}
    if job.penaliser is not None:
        tensors |= {f"penalty/{name}": tensor for name, tensor in job.penaliser.state().items()}
    meta = {
        "identity": identity,
        "best_epoch": state.best_epoch,
        "best_score": state.best_score,
        "epochs": [asdict(epoch) for epoch in state.epochs],
    }
    return tensors, meta


def restored(saved: Saved, identity: str, job: Job) -> State:
    """Put what was saved into the job, and return its state.

    Raises:
        UserError: it was saved by another training.
    """
    if saved.meta["identity"] != identity:
        raise UserError(
            "the checkpoints belong to another training (other weights, data, recipe, teacher or seed)",
            hint="use another folder, or delete them",
        )
    tensors = {name: tensor.to(job.device) for name, tensor in saved.tensors.items()}
    job.model.load_state_dict(_under("model/", tensors))
    slots = _under("momentum/", tensors)
    for index, parameter in enumerate(job.optimiser.param_groups[0]["params"]):
        if str(index) in slots:
            job.optimiser.state[parameter]["momentum_buffer"] = slots[str(index)]
    if job.average is not None:
        job.average.tensors = _under("average/", tensors)
    if job.penaliser is not None:
        job.penaliser.restore(_under("penalty/", tensors))
    return State(
        best=_under("best/", tensors),
        best_epoch=saved.meta["best_epoch"],
        best_score=saved.meta["best_score"],
        epochs=[Epoch(**entry) for entry in saved.meta["epochs"]],
    )


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
