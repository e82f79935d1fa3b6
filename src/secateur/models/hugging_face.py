"""Trained image classifiers of Hugging Face: ``hf:NAME`` of its hub, or ``hf:FOLDER`` of save_pretrained.

Nothing that comes with a model is executed: its code stays off, weights are read from safetensors, or from a
pickle by the weights-only reader, which runs none of it. Files of the hub are fetched into its own cache
first; what follows reads a folder, without a network.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from secateur.errors import ExitCode, UserError
from secateur.models.hub_preprocessing import Preprocessing, preprocessing_of
from secateur.models.normalisation import unwrapped
from secateur.models.packages import needed
from secateur.models.weight_files import check_file, read_state_dict
from secateur.registry import HUB
from secateur.text import counted, first_few, first_line
from secateur.untrusted import read_bounded

CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"
SAFE, PICKLED = "model*.safetensors", "pytorch_model*.bin"
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?(@[\w./-]{1,100})?")
_INSTALL = "pip install secateur[hf]"
_MAX_BYTES = 2**24
_SHOWN = 5


def pretrained_classifier(
    name: str, num_classes: int | None, in_channels: int | None, *, pretrained: bool
) -> nn.Module:
    """The image classifier ``hf:NAME`` or ``hf:FOLDER``, in float32; its answer is the logits [N, K] alone.

    Args:
        name: without ``hf:``; a name of the hub may end in ``@REVISION``.
        num_classes: of the data; None takes those of the network.
        in_channels: of the images; None takes those of the network.
        pretrained: whether to load the weights; without them the configuration alone is read.

    Raises:
        UserError: no such model or folder, no image classifier, weights that are missing, damaged or would
            run code, another number of classes or channels; transformers is missing, or the hub is out of
            reach (code ENVIRONMENT).
    """
    spec = f"{HUB}{name}"
    transformers = needed("transformers", spec, install=_INSTALL)
    folder = files_of(name, weights=pretrained)
    with _quiet(transformers):
        config = _config(transformers, folder, spec)
        _check_fits(config, spec, num_classes, in_channels)
        model = _weighted(transformers, folder, config, spec) if pretrained else _drawn(transformers, config)
    stated = read_preprocessing(folder)
    # The names of its layers stay those of transformers, so that its own code can load what was pruned.
    model.register_forward_hook(_logits)
    if stated.flips:
        model.register_forward_pre_hook(_flipped)
    model.preprocessing = stated  # type: ignore[assignment]  # a plain record, not a module
    return model


def files_of(name: str, *, weights: bool) -> Path:
    """The folder with the files of a model: the one that is named, or the cache of the hub.

    Raises:
        UserError: as for :func:`pretrained_classifier`.
    """
    spec = f"{HUB}{name}"
    folder = Path(name).expanduser()
    if name and folder.is_dir():
        if not (folder / CONFIG).is_file():
            raise UserError(
                f"'{name}' holds no network of transformers: there is no {CONFIG}",
                hint="name the folder that save_pretrained wrote",
            )
        return folder
    if not _NAME.fullmatch(name):
        raise UserError(
            f"there is no folder '{name}'",
            hint="write hf:FOLDER, or hf:OWNER/NAME[@REVISION] for a model of the hub",
        )
    found = _fetched(name, spec, (CONFIG, PROCESSOR))
    for pattern in (SAFE, PICKLED) if weights else ():
        found = _fetched(name, spec, (CONFIG, PROCESSOR, pattern, f"{pattern}.index.json"))
        if any(found.glob(pattern)):
            break
    if not (found / CONFIG).is_file():
        raise UserError(f"'{spec}' is no network of transformers: it has no {CONFIG}")
    return found


def _fetched(name: str, spec: str, patterns: tuple[str, ...]) -> Path:
    hub = needed("huggingface_hub", spec, install=_INSTALL)
    repository, _, revision = name.partition("@")
    try:
        return Path(
            hub.snapshot_download(repository, revision=revision or None, allow_patterns=list(patterns))
        )
    except Exception as error:  # of the hub, of its HTTP library, of the disk
        kinds = {kind.__name__ for kind in type(error).__mro__}
        if kinds & {"RepositoryNotFoundError", "RevisionNotFoundError", "GatedRepoError"}:
            raise UserError(
                f"the hub gives no '{name}': {_reason(error)}",
                hint="check its name; a model that is private or gated needs a token in HF_TOKEN",
            ) from error
        raise UserError(
            f"the files of '{spec}' could not be fetched: {_reason(error)}",
            hint="without a network, fetch them elsewhere with huggingface_hub.snapshot_download(..., "
            "local_dir=FOLDER), and name hf:FOLDER",
            command="without a network, fetch them elsewhere with "
            f"`hf download {repository} --local-dir FOLDER`, and name hf:FOLDER",
            code=ExitCode.ENVIRONMENT,
        ) from error


def read_preprocessing(folder: Path) -> Preprocessing:
    """What the files in a folder say of size, scale and normalisation of the images. Raises UserError."""
    processor, config = (
        _json(folder / file) if (folder / file).is_file() else {} for file in (PROCESSOR, CONFIG)
    )
    try:
        return preprocessing_of(processor, config)
    except UserError as error:
        raise UserError(f"'{folder / PROCESSOR}' is damaged: {error.message}", hint=error.hint) from error


def stated_size(spec: str) -> tuple[int, int] | None:
    """Height and width that ``hf:NAME`` states for its images; None if it states none, or is none of these.

    Raises:
        UserError: as for :func:`pretrained_classifier`.

    >>> stated_size("resnet18") is None
    True
    """
    if not spec.startswith(HUB):
        return None
    return read_preprocessing(files_of(spec.removeprefix(HUB), weights=False)).size


def classes_of(model: nn.Module) -> tuple[str, ...]:
    """The names of the classes of a classifier of transformers, in the order of its logits; else ().

    >>> classes_of(nn.Linear(2, 2))
    ()
    """
    config = getattr(unwrapped(model), "config", None)
    names = getattr(config, "id2label", None)
    if not isinstance(names, Mapping) or sorted(names) != list(range(len(names))):
        return ()
    return tuple(str(names[number]) for number in range(len(names)))


def describe_hub_network(model: nn.Module) -> str:
    """A sentence on a network of Hugging Face: its class and its classes; "" for any other.

    >>> describe_hub_network(nn.Linear(2, 2))
    ''
    """
    network = unwrapped(model)
    names = classes_of(model)
    if not names or not isinstance(getattr(network, "preprocessing", None), Preprocessing):
        return ""
    shown = first_few([name.partition(",")[0] for name in names], _SHOWN)
    return f"{type(network).__name__} with {len(names)} classes: {shown}"


def _config(transformers: Any, folder: Path, spec: str) -> Any:
    try:
        config = transformers.AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        known = type(config) in transformers.AutoModelForImageClassification._model_mapping
    except Exception as error:  # a configuration of somebody else's may say anything
        if isinstance(_json(folder / CONFIG).get("auto_map"), dict):
            raise UserError(
                f"'{spec}' needs code of its own, which is not run",
                hint="build it in a file of yours, and name FILE.py:FUNCTION",
            ) from error
        raise UserError(f"the configuration of '{spec}' cannot be read: {_reason(error)}") from error
    if not known:
        raise UserError(
            f"'{spec}' is a {config.model_type or 'network'} and no image classifier",
            hint="choose a model of the task image-classification",
        )
    return config


def _check_fits(config: Any, spec: str, num_classes: int | None, in_channels: int | None) -> None:
    own = int(config.num_labels)
    if num_classes not in (None, own):
        names = first_few([str(name).partition(",")[0] for name in config.id2label.values()], _SHOWN)
        raise UserError(
            f"'{spec}' has {own} classes ({names}), but {num_classes} are asked for",
            hint="its data need one class for each, in the same order",
        )
    channels = getattr(config, "num_channels", None)
    if isinstance(channels, int) and in_channels not in (None, channels):
        raise UserError(
            f"'{spec}' takes images with {counted(channels, 'channel')}, but these have {in_channels}"
        )


def _drawn(transformers: Any, config: Any) -> nn.Module:
    # Drawn from the global generator, which must not be changed for the caller.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: nn.Module = transformers.AutoModelForImageClassification.from_config(config)
    return model.float()


def _weighted(transformers: Any, folder: Path, config: Any, spec: str) -> nn.Module:
    """The network with its weights: all of them, and finite."""
    safe = any(folder.glob(SAFE))
    pickles = [] if safe else sorted(folder.glob(PICKLED))
    if not safe and not pickles:
        raise UserError(f"'{spec}' has no weights: there is no {SAFE.replace('*', '')} in {folder}")
    for path in sorted(folder.glob(SAFE)) if safe else pickles:
        check_file(path)
        if not safe:
            # Refuses, in a sentence of its own, a pickle that would run code.
            read_state_dict(path, [])
    try:
        with torch.random.fork_rng(devices=[]):
            model, report = transformers.AutoModelForImageClassification.from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                use_safetensors=safe,
                weights_only=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except Exception as error:  # damaged files, other shapes, a package that the network needs
        raise UserError(f"the weights of '{spec}' cannot be loaded: {_reason(error)}") from error
    if missing := sorted(report["missing_keys"]):
        raise UserError(
            f"'{spec}' lacks the weights {first_few(missing)}: it was not trained as a classifier",
            hint="choose a model that was fine-tuned for image classification",
        )
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise UserError(f"'{spec}': '{name}' contains NaN or infinity", hint="the training has diverged")
    network: nn.Module = model
    return network


def _logits(_: nn.Module, __: Any, answer: Any) -> Any:
    return answer.logits


def _flipped(_: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
    return (given[0].flip(1), *given[1:])


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Neither its progress bars nor its advice; what goes wrong is raised."""
    said = transformers.logging
    level, bars = said.get_verbosity(), said.is_progress_bar_enabled()
    said.set_verbosity_error()
    said.disable_progress_bar()
    try:
        yield
    finally:
        said.set_verbosity(level)
        if bars:
            said.enable_progress_bar()


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(read_bounded(path, _MAX_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"'{path}' is damaged: it is not JSON", hint="download or save it again") from error
    if not isinstance(value, dict):
        raise UserError(f"'{path}' is damaged: it is no JSON object", hint="download or save it again")
    return value


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {first_line(error, '')}"[:300]
