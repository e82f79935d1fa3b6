"""Where a training keeps what it needs to go on after an interruption."""

import errno
import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import safetensors
from safetensors.torch import load, save
from torch import Tensor

TENSORS = "state.safetensors"
META = "meta.json"
PREFIX = "epoch-"


@dataclass(frozen=True, eq=False)
class Saved:
    """One generation. ``skipped`` names newer generations that were damaged and passed over."""

    epoch: int
    tensors: dict[str, Tensor]
    meta: dict[str, Any]
    skipped: tuple[str, ...] = ()


class Checkpoints:
    """A folder of checkpoints, of which the newest ``keep`` stay.

    A generation appears by one rename of a complete, fsynced folder, and is used only if its hashes agree:
    killing the process or damaging a file costs at most one generation.
    """

    def __init__(self, folder: Path | str, *, keep: int = 2) -> None:
        self.folder = Path(folder)
        self.keep = keep

    def save(self, epoch: int, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
        """Write generation ``epoch``; older ones beyond ``keep`` are removed. ``meta`` must be JSON."""
        self.folder.mkdir(parents=True, exist_ok=True)
        content = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
        body = {"epoch": epoch, "sha256": hashlib.sha256(content).hexdigest(), "meta": meta}
        text = json.dumps(body | {"self_hash": _hash(body)}, allow_nan=False, sort_keys=True)
        temporary = self.folder / f".tmp-{uuid4().hex}"
        temporary.mkdir()
        _write(temporary / TENSORS, content)
        _write(temporary / META, text.encode())
        _sync(temporary)
        final = self.folder / f"{PREFIX}{epoch:06d}"
        shutil.rmtree(final, ignore_errors=True)
        try:
            temporary.rename(final)
        except OSError as error:
            shutil.rmtree(temporary)
            # Another runner of the same training has just written the same generation.
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
        _sync(self.folder)
        for old in self._generations()[self.keep :]:
            shutil.rmtree(old, ignore_errors=True)

    def latest(self) -> Saved | None:
        """The newest intact generation, or None."""
        skipped: list[str] = []
        for path in self._generations():
            try:
                content = (path / TENSORS).read_bytes()
                body = json.loads((path / META).read_text())
                intact = (
                    body.pop("self_hash") == _hash(body)
                    and body["sha256"] == hashlib.sha256(content).hexdigest()
                )
                tensors = load(content) if intact else {}
            except (OSError, ValueError, KeyError, AttributeError, safetensors.SafetensorError):
                intact = False
            if intact:
                return Saved(body["epoch"], tensors, body["meta"], tuple(skipped))
            skipped.append(path.name)
        return None

    def clear(self) -> None:
        """Remove all generations, and what interrupted writes left."""
        if self.folder.is_dir():
            for path in self.folder.iterdir():
                if path.name.startswith((PREFIX, ".tmp-")):
                    shutil.rmtree(path)

    def _generations(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return sorted((path for path in self.folder.iterdir() if path.name.startswith(PREFIX)), reverse=True)


def _hash(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, allow_nan=False, sort_keys=True).encode()).hexdigest()


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
