"""Save a pruned network as plans and weights; load rebuilds it from the original class and verifies it."""

import copy
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from secateur.errors import UserError
from secateur.graph.trace.example_inputs import random_inputs
from secateur.graph.trace.input_tree import call_model, tensors_in
from secateur.graph.trace.isolated_forward import isolated_forward
from secateur.graph.trace.named_tensors import named_tensors, non_persistent_buffers
from secateur.hashing import json_sha256, tensors_sha256
from secateur.models import device_of
from secateur.models.normalisation import INNER, Statistics
from secateur.pruning.card import card_text
from secateur.pruning.history import history, remember
from secateur.surgery.cut import check_fits, cut_channels_
from secateur.surgery.input_json import missing_class
from secateur.surgery.plan import Plan
from secateur.text import first_line, listed
from secateur.untrusted import cleared, read_bounded, refuse_irregular, write_new

_PLAN_FILE, _WEIGHTS_FILE, _CARD_FILE = _FILES = ("plan.json", "weights.safetensors", "README.md")
_TOLERANCE = 1e-3
_MAX_BYTES, _MAX_WEIGHTS = 2**28, 2**33


def save(
    model: nn.Module,
    folder: str | Path,
    *,
    card: str = "",
    front: str = "",
    origin: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write ``plan.json``, ``weights.safetensors`` and a card, from which ``load`` rebuilds the model.

    Args:
        model: a model pruned with ``apply`` or ``prune``, or not pruned; its history is then empty.
        folder: created if missing.
        card: text to put into the card, in Markdown.
        front: front matter of the card, as the Hugging Face hub reads it, with its lines of dashes.
        origin: how the command line named the network (``model``, ``classes``, ``input``), for later
            commands; JSON.
        overwrite: whether files of the same names may be replaced.

    Raises:
        UserError: the folder cannot be written, or already holds a network or a file of one of these names.

    >>> import secateur, tempfile
    >>> build = lambda: nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    >>> model = build()
    >>> report = secateur.prune(model, torch.rand(1, 3), sparsity=0.5)
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     folder = save(model, f"{parent}/pruned", origin={"classes": 2})
    ...     again, named = load(folder, build), origin(folder)
    >>> again[0], named
    (Linear(in_features=3, out_features=2, bias=True), {'classes': 2})
    """
    plans = history(model)
    target = Path(folder)
    if not overwrite and (taken := [name for name in _FILES if os.path.lexists(target / name)]):
        held = "a saved network" if _PLAN_FILE in taken else listed(taken)
        raise UserError(f"'{folder}' holds {held} already", hint="choose another folder or overwrite=True")
    tensors = {
        name: tensor.detach().cpu().contiguous().clone() for name, tensor in named_tensors(model).items()
    }
    document = {
        "schema_version": 1,
        "plans": [plan.to_json() for plan in plans],
        "weights": tensors_sha256(tensors, shape=tuple),
        "fingerprint": _fingerprint(model, plans) if plans else None,
    }
    if origin is not None:
        document["origin"] = dict(origin)
    document["hash"] = _document_hash(document)
    try:
        target.mkdir(parents=True, exist_ok=True)
        save_file(tensors, cleared(target / _WEIGHTS_FILE), metadata={"format": "pt"})
        write_new(target / _PLAN_FILE, json.dumps(document, indent=1) + "\n")
        write_new(target / _CARD_FILE, card_text(model, plans, card, front))
    except OSError as error:
        raise UserError(
            f"cannot write to '{folder}': {error.strerror}", hint="choose another folder"
        ) from error
    return target


def origin(folder: str | Path) -> dict[str, Any]:
    """The ``origin`` given to ``save``; empty if there was none.

    Raises:
        UserError: there is no saved network, or its plan is damaged or changed.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     origin(save(nn.Linear(2, 2), f"{parent}/dense", origin={"model": "mine"}))
    {'model': 'mine'}
    """
    path = Path(folder) / _PLAN_FILE
    named = _read_document(path).get("origin", {})
    if not isinstance(named, dict):
        raise UserError(f"'{path}' is damaged: its origin is no object", hint="copy the folder again")
    return named


def saved_statistics(folder: str | Path) -> Statistics | None:
    """Mean and standard deviation of a saved network's normalisation; None if it has none.

    Raises:
        UserError: there is no saved network, or it is damaged.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     saved_statistics(save(nn.Linear(2, 2), f"{parent}/dense")) is None
    True
    """
    tensors = _read_tensors(Path(folder) / _WEIGHTS_FILE)
    mean, std = tensors.get("mean"), tensors.get("std")
    if mean is None or std is None or not all(n.startswith(INNER) for n in tensors.keys() - {"mean", "std"}):
        return None
    return tuple(mean.flatten().tolist()), tuple(std.flatten().tolist())


def load(folder: str | Path, factory: Callable[[], nn.Module]) -> nn.Module:
    """Rebuild a saved network from its original class, and verify it.

    Args:
        folder: written by ``save``.
        factory: returns a fresh, unpruned module of the original class and size.

    Raises:
        UserError: a file is missing, truncated or changed, the class is another one, or the rebuilt network
            has other outputs than the saved one.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     load(save(nn.Linear(2, 2), f"{parent}/dense"), lambda: nn.Linear(2, 2))
    Linear(in_features=2, out_features=2, bias=True)
    """
    source = Path(folder)
    document = _read_document(source / _PLAN_FILE)
    tensors = _read_tensors(source / _WEIGHTS_FILE)
    if tensors_sha256(tensors, shape=tuple) != document.get("weights"):
        raise UserError(
            f"the weights in '{source}' are not the ones that were saved", hint="copy the folder again"
        )
    # A network can be called, too, but with images.
    model = None if isinstance(factory, nn.Module) else factory()
    if not isinstance(model, nn.Module):
        raise UserError(
            "the factory is a network itself"
            if isinstance(factory, nn.Module)
            else f"the factory returned {type(model).__name__}, not a torch.nn.Module",
            hint="pass a function that builds the unpruned class",
        )
    try:
        _rebuild(model, document, tensors, source)
    except UserError:
        raise
    except Exception as error:  # a plan of somebody else's may say anything about the network and its inputs
        said = f"{type(error).__name__}: {first_line(error)}"
        raise UserError(
            f"the plan in '{source}' does not fit the network: {said}", hint="copy the folder again"
        ) from error
    return model


def _rebuild(model: nn.Module, document: dict[str, Any], tensors: dict[str, Tensor], source: Path) -> None:
    plans = [Plan.from_json(item) for item in document["plans"]]
    for plan in plans:
        check_fits(model, plan)
        cut_channels_(model, plan)
        remember(model, plan)
    cut = {name for plan in plans for name, _ in plan.removed()}
    _fill(model, tensors, source, made=non_persistent_buffers(model) - cut)
    if plans and document["fingerprint"] is not None:
        _check_fingerprint(model, tuple(plans), document["fingerprint"], source)


def _fill(model: nn.Module, tensors: dict[str, Tensor], source: Path, *, made: set[str]) -> None:
    """Give the model its tensors; buffers in ``made`` that have another size keep their own contents."""
    own = named_tensors(model)
    if odd := sorted((set(own) ^ set(tensors)) - made):
        raise UserError(
            f"'{source}' was saved from another class: '{odd[0]}' does not match", hint="check the factory"
        )
    for name, tensor in own.items():
        if name in made and (name not in tensors or tensor.shape != tensors[name].shape):
            continue
        if tensor.shape != tensors[name].shape:
            raise UserError(
                f"'{source}' was saved from another class: '{name}' has shape {tuple(tensors[name].shape)}, "
                f"not {tuple(tensor.shape)}",
                hint="check the factory",
            )
        tensor.data = tensors[name].to(device=tensor.device)


def _absent(path: Path) -> UserError:
    return UserError(f"there is no saved network in '{path.parent}'", hint=f"expected {path.name}")


def _read_document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(read_bounded(path, _MAX_BYTES))
        expected = _document_hash(document) if isinstance(document, dict) else None
    except FileNotFoundError:
        raise _absent(path) from None
    except OSError as error:
        raise UserError(f"cannot read '{path}': {error.strerror}", hint="check its permissions") from error
    except (ValueError, RecursionError) as error:  # also lists nested too deeply to be read
        raise UserError(f"'{path}' is damaged: it is not JSON", hint="copy the folder again") from error
    if not isinstance(document, dict) or not isinstance(document.get("plans"), list):
        raise UserError(f"'{path}' is not the plan of a saved network", hint="secateur.save writes one")
    if document.get("schema_version") != 1:
        raise UserError(
            f"'{path}' has schema version {document.get('schema_version')}, this program reads 1",
            hint="install the version of secateur that wrote it",
        )
    if document.get("hash") != expected:
        raise UserError(f"'{path}' was changed after it was saved", hint="copy the folder again")
    return document


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        refuse_irregular(path, _MAX_WEIGHTS)
        return load_file(path)
    except FileNotFoundError:
        raise _absent(path) from None
    except Exception as error:
        raise UserError(f"'{path}' is damaged and cannot be read", hint="copy the folder again") from error


def _document_hash(document: dict[str, Any]) -> str:
    body = {key: value for key, value in document.items() if key != "hash"}
    return json_sha256(body)


def _fingerprint(model: nn.Module, plans: tuple[Plan, ...]) -> list[float] | None:
    """The first logits on inputs that the plan describes; None where a file cannot hold these inputs."""
    if missing_class(plans[-1].inputs) is not None:
        return None
    inputs = random_inputs(plans[-1].inputs, torch.Generator().manual_seed(0), device_of(model))
    try:
        outputs = _outputs(model, inputs)
    except RuntimeError:
        # Converted to another precision since it was planned: half precision would differ between processors.
        outputs = _outputs(copy.deepcopy(model).float(), inputs)
    return [float(value) for value in outputs[0].flatten()[:16]]


def _outputs(model: nn.Module, inputs: Any) -> list[Tensor]:
    with isolated_forward(model), torch.no_grad():
        return tensors_in(call_model(model, inputs))


def _check_fingerprint(model: nn.Module, plans: tuple[Plan, ...], wanted: list[float], source: Path) -> None:
    found = _fingerprint(model, plans) or []
    scale = max((abs(value) for value in wanted), default=1.0) or 1.0
    if len(found) != len(wanted) or any(
        not abs(a - b) <= _TOLERANCE * scale for a, b in zip(found, wanted, strict=False)
    ):
        raise UserError(
            f"the network rebuilt from '{source}' does not compute what the saved one did",
            hint="the factory builds another class, or its code changed",
        )
