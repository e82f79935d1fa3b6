"""Build a network from its name: of the zoo, a package, a file, or with published weights."""

import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from secateur.errors import UserError
from secateur.models.hugging_face import pretrained_classifier
from secateur.models.normalisation import Statistics, check_channels, is_identity, published_statistics, wrap
from secateur.models.own_file import built, from_file
from secateur.models.packages import needed
from secateur.models.published import load_published
from secateur.models.weight_files import SUFFIXES
from secateur.registry import HUB, MODELS, checkpoint, has_weights
from secateur.text import counted

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
OWN = "from its own configuration"


def build(name: str, *, num_classes: int = 10, in_channels: int | None = None, **settings: Any) -> nn.Module:
    """Build a network of the zoo, with the same initial weights at every call.

    The global random state is neither used nor changed; ``initialise`` draws other weights.

    Args:
        name: a registered architecture; ``secateur ls models`` lists them.
        num_classes: number of logits.
        in_channels: image channels; by default 1 for the networks of grey digits, else 3.
        settings: of the architecture, such as ``widths``.

    Raises:
        UserError: unknown name or setting.

    >>> import torch
    >>> build("resnet-tiny", num_classes=3, widths=(4, 8))(torch.rand(2, 1, 8, 8)).shape
    torch.Size([2, 3])
    """
    factory = MODELS.get(name)
    arguments = {"num_classes": num_classes, **settings}
    if in_channels is not None:
        arguments["in_channels"] = in_channels
    known = inspect.signature(factory).parameters
    if unknown := [argument for argument in arguments if argument not in known]:
        raise UserError(f"model '{name}' has no setting '{unknown[0]}'", hint=f"it has: {', '.join(known)}")
    return built(name, factory, arguments)[0]


def resolve(
    spec: str,
    *,
    num_classes: int | None = None,
    in_channels: int | None = None,
    settings: Mapping[str, Any] | None = None,
    normalise: Statistics | None = None,
    raw: bool = False,
    allow_code: bool = True,
    pretrained: bool = True,
) -> nn.Module:
    """Build what a command line names.

    A zoo name, ``torchvision:NAME``, ``timm:NAME``, ``FILE.py:FUNCTION``, or a network with its weights:
    ``shipped:NAME`` comes with the package, ``hf:FOLDER`` is one that ``save_pretrained`` of transformers
    wrote, ``hf:NAME`` (of the hub of Hugging Face) and ``robustbench:NAME`` are downloaded on first use.

    Args:
        spec: the name.
        num_classes: number of logits. None takes the default of a function in a file, those of ``hf:``, and
            10 otherwise.
        in_channels: image channels; None takes the network's default.
        settings: of a zoo architecture.
        normalise: mean and deviation to apply in front of the network, replacing its default; mean 0 and
            deviation 1 apply nothing. Without it, networks of torchvision, timm and ``hf:`` get those of
            their own configuration.
        raw: leave out the normalisation of torchvision, timm and ``hf:`` networks.
        allow_code: whether ``FILE.py:FUNCTION`` may run. Pass False where the name comes from a file that
            others wrote. The function receives ``num_classes`` and ``in_channels`` if it takes them.
        pretrained: whether to load the weights of ``shipped:``, ``robustbench:`` and ``hf:`` networks.

    Raises:
        UserError: unknown name, missing file or function, a function that fails or returns no module, a
            package that is not installed (exit code ENVIRONMENT), a normalisation that does not fit.

    >>> from secateur.measure import parameters
    >>> parameters(resolve("shipped:digits-plain"))
    56250
    """
    return resolve_with_inputs(
        spec,
        num_classes=num_classes,
        in_channels=in_channels,
        settings=settings,
        normalise=normalise,
        raw=raw,
        allow_code=allow_code,
        pretrained=pretrained,
    )[0]


def resolve_with_inputs(
    spec: str,
    *,
    num_classes: int | None = None,
    in_channels: int | None = None,
    settings: Mapping[str, Any] | None = None,
    normalise: Statistics | None = None,
    raw: bool = False,
    allow_code: bool = True,
    pretrained: bool = True,
) -> tuple[nn.Module, Any]:
    """``resolve``, and example inputs where the function of a file returns ``(model, inputs)``, else None.

    Raises:
        UserError: as ``resolve``.

    >>> resolve_with_inputs("resnet-tiny")[1] is None
    True
    """
    settings = dict(settings or {})
    # The caller's statistics replace the network's own; both in a row would normalise twice.
    if normalise is not None:
        check_channels(normalise, in_channels)
        settings |= _without_normalisation(spec)
    model, inputs = _resolved(
        spec, num_classes, in_channels, settings=settings, allow_code=allow_code, pretrained=pretrained
    )
    if normalise is not None:
        return (model if is_identity(normalise) else wrap(model, normalise)), inputs
    if raw or spec.partition(":")[0] not in ("timm", "torchvision", "hf"):
        return model, inputs
    own = published_statistics(spec, model, channels=in_channels)
    return (model if own is None else wrap(model, own, source=OWN)), inputs


def _without_normalisation(spec: str) -> dict[str, Any]:
    """The setting that disables a network's own normalisation, if it has one."""
    if has_weights(spec):
        raise UserError(f"'{spec}' takes images in [0, 1], as it was trained", hint="leave mean and std out")
    if ":" in spec or "normalise" not in inspect.signature(MODELS.get(spec)).parameters:
        return {}
    return {"normalise": None}


def _resolved(
    spec: str,
    num_classes: int | None,
    in_channels: int | None,
    *,
    settings: dict[str, Any],
    allow_code: bool,
    pretrained: bool,
) -> tuple[nn.Module, Any]:
    """The network as its constructor or its published file defines it, and inputs if they come with it."""
    source, colon, name = spec.rpartition(":")
    if spec.endswith(".py"):
        raise UserError(
            f"'{spec}' is a file: name the function in it that builds the model",
            hint=f"write {spec}:FUNCTION",
        )
    if source.endswith(".py"):
        if not allow_code:
            # A file that --plugin names has been run already, and its functions have names.
            own = f"{Path(source).name}:{name}"
            if own not in MODELS.names():
                raise UserError(
                    f"model '{spec}' would run code",
                    hint=f"run secateur.registry.load_plugin on {source} first",
                    command=f"add --plugin {source}",
                )
            return build(own, num_classes=num_classes or 10, in_channels=in_channels, **settings), None
        return from_file(Path(source), name, num_classes, in_channels)
    if settings and colon:
        raise UserError(
            f"'{spec}' has no settings, but '{next(iter(settings))}' is given",
            hint="settings are those of networks of the zoo",
        )
    if spec.startswith(HUB):
        name = spec.removeprefix(HUB)
        return pretrained_classifier(name, num_classes, in_channels, pretrained=pretrained), None
    num_classes = num_classes or 10
    if not colon:
        _refuse_files(spec)
        return build(spec, num_classes=num_classes, in_channels=in_channels, **settings), None
    if has_weights(spec):
        return _published(spec, num_classes, in_channels, pretrained), None
    if source == "torchvision":
        return _torchvision(name, num_classes)
    if source == "timm":
        return _timm(name, num_classes, in_channels)
    raise UserError(
        f"unknown model source '{source}' in '{spec}'",
        hint="write a zoo name, FILE.py:FUNCTION, "
        "or NAME after shipped:, hf:, robustbench:, torchvision:, timm:",
    )


def _refuse_files(spec: str) -> None:
    """Weights and names of the hub in the place of a network, which a newcomer writes."""
    if Path(spec).suffix in SUFFIXES:
        raise UserError(
            f"'{spec}' is a file of weights: they need their network",
            hint="name the network, as in FILE.py:FUNCTION, and load the weights into it",
            command=f"name the network, as in --model FILE.py:FUNCTION --weights {spec}",
        )
    if "/" in spec:
        raise UserError(
            f"unknown model '{spec}'", hint=f"write hf:{spec} for a model of Hugging Face or its folder"
        )


def _published(spec: str, num_classes: int, in_channels: int | None, pretrained: bool) -> nn.Module:
    facts = checkpoint(spec).facts
    channels = MODELS.entry(facts["arch"]).facts["input"][0]
    if num_classes != 10 or in_channels not in (None, channels):
        raise UserError(
            f"'{spec}' classifies images with {counted(channels, 'channel')} into 10 classes, "
            f"not {channels if in_channels is None else in_channels} into {num_classes}",
            hint=f"it was trained on {facts['dataset']}",
        )
    model = build(facts["arch"], **facts["settings"])
    if pretrained:
        load_published(model, spec)
    return model


def _torchvision(name: str, num_classes: int) -> tuple[nn.Module, Any]:
    models = needed("torchvision.models", f"torchvision:{name}")
    if not NAME.fullmatch(name) or name not in models.list_models(module=models):
        raise UserError(
            f"torchvision has no classifier '{name}'", hint="see torchvision.models.list_models()"
        )
    return built(name, models.get_model, {"name": name, "weights": None, "num_classes": num_classes})


def _timm(name: str, num_classes: int, in_channels: int | None) -> tuple[nn.Module, Any]:
    timm = needed("timm", f"timm:{name}")
    if not NAME.fullmatch(name) or not timm.is_model(name):
        raise UserError(f"timm has no model '{name}'", hint="see timm.list_models()")
    settings = {"model_name": name, "num_classes": num_classes, "in_chans": in_channels or 3}
    return built(name, timm.create_model, settings)
