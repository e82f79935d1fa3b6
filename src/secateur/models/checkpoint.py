"""Load a state dict strictly: every tensor of the model with its shape, and no other."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from secateur.errors import UserError
from secateur.hashing import file_sha256
from secateur.models.normalisation import unwrapped
from secateur.models.weight_files import check_file, listed_keys, read_state_dict
from secateur.text import counted

# What torch.compile puts into the names of the module that it wraps, wherever that is in the network.
COMPILED = re.compile(r"(?<![^.])_orig_mod\.")


@dataclass(frozen=True)
class Loaded:
    """A loaded file: its sha256, and one sentence per adaptation (a removed prefix, a converted dtype).

    >>> Loaded(Path("weights.safetensors"), "ab12", notes=()).path.name
    'weights.safetensors'
    """

    path: Path
    sha256: str
    notes: tuple[str, ...]


def load_weights(model: nn.Module, path: Path | str, *, sha256: str | None = None) -> Loaded:
    """Load a state dict into ``model``, strictly: every tensor of the model with its shape, and no other.

    Reads .safetensors and weights-only .pt, .pth, .th. The dict may be under ``state_dict`` or
    ``model_state_dict``, ``model``, ``net`` or ``network``. Prefixes that all names share, as of DataParallel
    and of wrapper modules, are left out where the rest are names of the model, and so is what torch.compile
    adds. Half and double precision are converted to the model's. Batch counters may be missing, and so may
    all but one of the names of a shared parameter;
    constants of the architecture, such as input statistics, may be present if they agree. In a ``Normalised``
    model the inner network is loaded. After an error the model is unchanged.

    Args:
        model: a network of the architecture that the weights belong to.
        path: the file.
        sha256: the expected hash of the file, if known.

    Raises:
        UserError: the file is missing, damaged, too large, of unknown format, has another hash, would execute
            code when read, or does not fit the model.

    >>> import tempfile
    >>> from safetensors.torch import save_file
    >>> from secateur.models import build
    >>> model = build("resnet-tiny")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "weights.safetensors"
    ...     save_file({f"module.{key}": tensor for key, tensor in model.state_dict().items()}, path)
    ...     load_weights(model, path).notes
    ("the prefix 'module.' was removed from all names",)
    """
    model, file = unwrapped(model), check_file(Path(path))
    digest = file_sha256(file)
    if sha256 is not None and digest != sha256.lower():
        raise UserError(
            f"'{file}' is not the expected file: its sha256 is {digest[:16]}…, not {sha256[:16]}…",
            hint="download it again",
        )
    notes: list[str] = []
    state = read_state_dict(file, notes)
    model.load_state_dict(match_state_dict(model, state, str(file), notes), strict=True)
    return Loaded(file, digest, tuple(notes))


def match_state_dict(
    model: nn.Module, state: Mapping[str, Tensor], source: str, notes: list[str]
) -> dict[str, Tensor]:
    """The tensors of ``state`` under the model's names and dtypes, each checked.

    Raises:
        UserError: missing, unexpected, misshapen, non-finite or non-real tensors; at most five are listed.
    """
    wanted = model.state_dict()
    state = _renamed(state, wanted, notes)
    shared = _shared_names(model)
    state |= _by_another_name(shared, state)
    counters = {
        key: wanted[key] for key in wanted if key.endswith("num_batches_tracked") and key not in state
    }
    if counters:
        notes.append(
            f"the file lacks {len(counters)} counters of batches (num_batches_tracked), left as they are"
        )
    # Buffers outside the state dict: published files often store them, so equal values are accepted.
    missing = [key for key in wanted if key not in state and key not in counters]
    constants = {key: buffer for key, buffer in model.named_buffers() if key not in wanted}
    unexpected = [key for key in state if key not in wanted and key not in constants]
    if missing or unexpected:
        said = [
            f"{kind} {listed_keys(keys)}"
            for kind, keys in (("lacks", missing), ("has unknown", unexpected))
            if keys
        ]
        raise UserError(
            f"'{source}' does not fit the model: it {' and '.join(said)}", hint="is it another model?"
        )
    state = _without_constants(state, constants, source)
    wrong = [key for key, tensor in state.items() if tensor.shape != wanted[key].shape]
    if wrong:
        key = wrong[0]
        raise UserError(
            f"'{source}' does not fit the model: '{key}' has shape {list(state[key].shape)}, "
            f"the model needs {list(wanted[key].shape)}",
            hint="another number of classes, channels or another width?",
        )
    cast = {str(tensor.dtype) for key, tensor in state.items() if _checked(key, tensor, wanted[key], source)}
    notes += [f"weights were converted from {dtype}" for dtype in sorted(cast)]
    state = counters | {key: tensor.to(wanted[key].dtype) for key, tensor in state.items()}
    _refuse_conflicts(shared, state, source)
    return state


def _renamed(
    state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], notes: list[str]
) -> dict[str, Tensor]:
    """The tensors without what wrappers put into their names; each change is noted."""
    if any(map(COMPILED.search, state)) and not any(map(COMPILED.search, wanted)):
        state = {COMPILED.sub("", key): tensor for key, tensor in state.items()}
        notes.append("'_orig_mod.' of torch.compile was removed from the names")
    averaged = state.get("n_averaged")
    if averaged is not None and "n_averaged" not in wanted and averaged.numel() == 1:
        state = {key: tensor for key, tensor in state.items() if key != "n_averaged"}
        notes.append(f"the weights are an average of {counted(int(averaged), 'state')} of a training")
    # Prefixes can be nested, as in "module.model.conv1.weight".
    for part in _common_prefix(state, wanted):
        state = {key.removeprefix(part): tensor for key, tensor in state.items()}
        notes.append(f"the prefix '{part}' was removed from all names")
    return dict(state)


def _common_prefix(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """The parts of the prefix that all names of ``state`` have, and without which some are the model's."""
    if any(key in wanted for key in state):
        return []
    parts = [f"{part}." for part in next(iter(state), "").split(".")[:-1]]
    for depth in range(1, len(parts) + 1):
        prefix = "".join(parts[:depth])
        if not all(key.startswith(prefix) for key in state):
            break
        if any(key.removeprefix(prefix) in wanted for key in state):
            return parts[:depth]
    return []


def _shared_names(model: nn.Module) -> list[list[str]]:
    """The names of every parameter and buffer that has several."""
    names: dict[int, list[str]] = {}
    for named in (model.named_parameters, model.named_buffers):
        for key, tensor in named(remove_duplicate=False):
            names.setdefault(id(tensor), []).append(key)
    return [known for known in names.values() if len(known) > 1]


def _by_another_name(shared: list[list[str]], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under the names that the file lacks: ``safetensors.torch.save_model`` writes one of several."""
    found: dict[str, Tensor] = {}
    for names in shared:
        if given := [name for name in names if name in state]:
            found |= {name: state[given[0]] for name in names if name not in state}
    return found


def _refuse_conflicts(shared: list[list[str]], state: Mapping[str, Tensor], source: str) -> None:
    for first, *others in shared:
        for other in others:
            if {first, other} <= state.keys() and not torch.equal(state[first], state[other]):
                raise UserError(
                    f"'{source}' does not fit the model: '{first}' and '{other}' are one parameter there, "
                    "and two in the file",
                    hint="is it another model?",
                )


def _without_constants(
    state: Mapping[str, Tensor], constants: Mapping[str, Tensor], source: str
) -> dict[str, Tensor]:
    """Drop constants of the architecture (input statistics), if the file has the same values."""
    for key, constant in constants.items():
        if key in state and not _same_values(state[key], constant):
            raise UserError(
                f"'{source}' does not fit the model: its '{key}' is not the architecture's",
                hint="was the network trained with another normalisation of its input?",
            )
    return {key: tensor for key, tensor in state.items() if key not in constants}


def _same_values(tensor: Tensor, constant: Tensor) -> bool:
    fits = tensor.numel() == constant.numel() and tensor.is_floating_point()
    return fits and torch.allclose(tensor.flatten().double(), constant.flatten().double(), atol=1e-4)


def _checked(key: str, tensor: Tensor, wanted: Tensor, source: str) -> bool:
    """Whether the tensor must be converted, after checking that it is usable."""
    odd = tensor.is_quantized or tensor.is_complex() or tensor.is_meta or "float8" in str(tensor.dtype)
    if odd or tensor.layout != torch.strided:
        raise UserError(f"'{source}': '{key}' is of type {tensor.dtype}, which is not supported")
    if wanted.is_floating_point() != tensor.is_floating_point():
        raise UserError(f"'{source}': '{key}' is of type {tensor.dtype}, the model needs {wanted.dtype}")
    # A crafted stride can describe a huge tensor over a few bytes.
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise UserError(f"'{source}' is damaged: '{key}' claims more elements than the file holds")
    if not bool(torch.isfinite(tensor).all()):
        raise UserError(f"'{source}': '{key}' contains NaN or infinity", hint="the training has diverged")
    if key.endswith("running_var") and bool((tensor < 0).any()):
        raise UserError(f"'{source}': '{key}' contains a negative variance")
    return tensor.dtype != wanted.dtype
