"""Checkpoints of a training: durable generations on disk, and what they must hold for an exact resumption."""

import errno
import json
import math
import re
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import safetensors
from safetensors.torch import load, save
from torch import Tensor, nn

from secateur.data import Dataset
from secateur.durable import disk_trouble, sync_folder, write_durably
from secateur.errors import UserError
from secateur.hashing import json_sha256, sha256_hex
from secateur.models import weights_hash
from secateur.recipes import Recipe
from secateur.train.averaging import weights_of
from secateur.train.history import Epoch
from secateur.train.job import Job, State
from secateur.train.moment import Moment
from secateur.untrusted import read_bounded, refuse_link

TENSORS = "state.safetensors"
META = "meta.json"
PREFIX = "epoch-"
MAX_BYTES = 2**35
# What reading a file raises that is not a checkpoint.
DAMAGED = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RecursionError,
    safetensors.SafetensorError,
)
NAME = re.compile(r"epoch-(\d{6,})(?:-step-(\d{6,}))?")


@dataclass(frozen=True, eq=False)
class Saved:
    """One checkpoint, after ``epoch`` epochs and ``step`` steps; ``skipped`` names newer ones, all damaged.

    >>> Saved(epoch=5, tensors={}, meta={"best_epoch": 3}).skipped
    ()
    """

    epoch: int
    tensors: dict[str, Tensor]
    meta: dict[str, Any]
    skipped: tuple[str, ...] = ()
    step: int = 0


class Checkpoints:
    """A folder that keeps the newest ``keep`` checkpoints of a training.

    A checkpoint is written to a temporary folder, synced and renamed, and read only if its hashes agree:
    killing the process or damaging a file costs at most the epochs since the checkpoint before. Checkpoints
    of another training are refused, or with ``restart`` removed: a folder that belongs to one training alone
    may hold those of its former starting weights.

    >>> import tempfile, torch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     checkpoints = Checkpoints(folder)
    ...     checkpoints.save(5, {"weight": torch.ones(2)}, {"best_epoch": 3})
    ...     saved = checkpoints.latest()
    >>> saved.epoch, saved.tensors, saved.meta
    (5, {'weight': tensor([1., 1.])}, {'best_epoch': 3})
    """

    def __init__(self, folder: Path | str, *, keep: int = 2, restart: bool = False) -> None:
        self.folder = Path(folder)
        self.keep = keep
        self.restart = restart

    def save(self, epoch: int, tensors: dict[str, Tensor], meta: dict[str, Any], *, step: int = 0) -> None:
        """Write a checkpoint and remove the oldest beyond ``keep``.

        Args:
            epoch: the number of finished epochs.
            tensors: the state.
            meta: must be JSON.
            step: the number of finished steps of the epoch after ``epoch``.
        """
        refuse_link(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        content = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
        body = {
            "epoch": epoch,
            "sha256": sha256_hex(content),
            "meta": meta,
            **({"step": step} if step else {}),
        }
        text = json.dumps(body | {"self_hash": json_sha256(body)}, allow_nan=False, sort_keys=True)
        temporary = self.folder / f".tmp-{uuid4().hex}"
        temporary.mkdir()
        try:
            write_durably(temporary / TENSORS, content)
            write_durably(temporary / META, text.encode())
            sync_folder(temporary)
            final = self.folder / f"{PREFIX}{epoch:06d}{f'-step-{step:06d}' if step else ''}"
            shutil.rmtree(final, ignore_errors=True)
            temporary.rename(final)
        except OSError as error:
            # Another process of the same training has just written the same checkpoint.
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
        finally:
            # Half a checkpoint on a full disk would take the room that the next attempt needs.
            shutil.rmtree(temporary, ignore_errors=True)
        sync_folder(self.folder)
        for old in self._generations()[self.keep :]:
            shutil.rmtree(old, ignore_errors=True)

    def latest(self) -> Saved | None:
        """The newest intact checkpoint, or None."""
        skipped: list[str] = []
        for path in self._generations():
            try:
                content = read_bounded(path / TENSORS, MAX_BYTES)
                body = json.loads(read_bounded(path / META, MAX_BYTES))
                intact = body.pop("self_hash") == json_sha256(body) and body["sha256"] == sha256_hex(content)
                intact = intact and isinstance(body["epoch"], int) and isinstance(body["meta"], dict)
                tensors = load(content) if intact else {}
            except DAMAGED as error:
                # A disk that does not answer says nothing about the checkpoint.
                if disk_trouble(error):
                    raise
                intact = False
            if intact:
                return Saved(body["epoch"], tensors, body["meta"], tuple(skipped), body.get("step", 0))
            skipped.append(path.name)
        return None

    def clear(self) -> None:
        """Remove all checkpoints, and what interrupted writes left."""
        if self.folder.is_dir():
            for path in self.folder.iterdir():
                if path.name.startswith((PREFIX, ".tmp-")):
                    shutil.rmtree(path)

    def _generations(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        # What other programs leave there has other names.
        named = [(NAME.fullmatch(path.name), path) for path in self.folder.iterdir()]
        found = [((int(name[1]), int(name[2] or 0)), path) for name, path in named if name]
        return [path for _, path in sorted(found, reverse=True)]


def identify(
    model: nn.Module,
    train: Dataset,
    validation: Dataset,
    recipe: Recipe,
    *,
    seed: int,
    teacher: nn.Module | None,
) -> str:
    """A hash of everything that determines a training; checkpoints with another one are refused."""
    # How often it is saved determines nothing.
    said = asdict(replace(recipe, checkpoint_every=Recipe().checkpoint_every))
    if recipe.adversary is not None and not recipe.adversary.fold:
        # Trainings that began before there was this setting go on.
        del said["adversary"]["fold"]
    parts = [weights_hash(model), train.fingerprint, validation.fingerprint, seed, repr(said)]
    parts.append(weights_hash(teacher) if teacher is not None else None)
    return json_sha256(parts)


def generation(identity: str, job: Job, state: State) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Everything that the next epoch depends on, as tensors and JSON.

    Between epochs no generator state is among it: every epoch derives its own random streams from the seed.
    """
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
        # Before the first epoch no score is the best, and infinity is not JSON.
        "best_score": state.best_score if math.isfinite(state.best_score) else None,
        "epochs": [asdict(epoch) for epoch in state.epochs],
        "parts": state.parts,
    }
    if state.moment is not None and state.moment.step:
        tensors |= {f"moment/{name}": tensor for name, tensor in state.moment.tensors().items()}
        # Versions that know whole epochs only must not take it for one.
        meta |= {"identity": _within(identity), "step": state.moment.step}
    return tensors, meta


def _within(identity: str) -> str:
    return f"{identity}/step"


def fits(saved: Saved, identity: str) -> bool:
    """Whether a checkpoint is of the training with this identity."""
    return bool(saved.meta.get("identity") == (_within(identity) if saved.step else identity))


def restored(saved: Saved, identity: str, job: Job) -> State:
    """Load a checkpoint into the job, and return the state of the training.

    Raises:
        UserError: the checkpoint is of another training.
    """
    if not fits(saved, identity):
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
    moment = None
    if saved.step:
        moment = Moment.from_tensors(saved.epoch + 1, saved.step, _under("moment/", tensors))
    return State(
        best=_under("best/", tensors),
        best_epoch=saved.meta["best_epoch"],
        best_score=-math.inf if saved.meta["best_score"] is None else saved.meta["best_score"],
        epochs=[Epoch(**entry) for entry in saved.meta["epochs"]],
        moment=moment,
        parts=saved.meta.get("parts", 1),
        saved=(saved.epoch, saved.step),
    )


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
