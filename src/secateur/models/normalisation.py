"""Input normalisation, inside a network or in front of it, so that every model takes images in [0, 1]."""

import math
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from secateur.errors import UserError
from secateur.kinds import is_number
from secateur.text import counted

Statistics = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation, one value for each channel or a single one for all."""

INNER = "model."
"""The prefix of the inner network's names."""

STATISTICS: dict[str, Statistics] = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)),
    # Those of the robustness library: the mean of per-image deviations, not the deviation of the data set.
    "cifar10-robustness": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


def add_normalisation(
    module: nn.Module, which: str | None, in_channels: int, *, names: tuple[str, str] = ("mu", "sigma")
) -> None:
    """Register mean and deviation as constant buffers [1, C, 1, 1] called ``names``, outside the state dict.

    With ``which`` None, or other than three channels, nothing is added and ``normalise_input`` is the
    identity.

    Raises:
        UserError: unknown statistics.
    """
    if which is not None and which not in STATISTICS:
        raise UserError(f"unknown normalisation '{which}'", hint=f"known: {', '.join(STATISTICS)}, or null")
    if which is None or in_channels != 3:
        return
    for name, values in zip(names, STATISTICS[which], strict=True):
        module.register_buffer(name, torch.tensor(values).reshape(1, 3, 1, 1), persistent=False)


def normalise_input(module: nn.Module, x: Tensor, *, names: tuple[str, str] = ("mu", "sigma")) -> Tensor:
    """Images [N, C, H, W] normalised by the buffers of ``module``, if it has them."""
    mean, deviation = (getattr(module, name, None) for name in names)
    if mean is None or deviation is None:
        return x
    out: Tensor = (x - mean) / deviation
    return out


class Normalised(nn.Module):
    """``model((x - mean) / std)``: takes images in [0, 1]. ``source`` says where the statistics come from.

    >>> Normalised(nn.Flatten(), ((0.5,), (0.25,)))(torch.ones(1, 1, 1, 1))
    tensor([[2.]])
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, statistics: Statistics, *, source: str = "") -> None:
        super().__init__()
        self.model = model
        self.source = source
        like = next((tensor for tensor in model.parameters() if tensor.is_floating_point()), torch.empty(0))
        for name, values in zip(("mean", "std"), statistics, strict=True):
            tensor = torch.tensor(values).reshape(1, -1, 1, 1).to(like)
            # Not persistent: constants of the architecture, not weights, as in the networks of the zoo.
            self.register_buffer(name, tensor, persistent=False)
        # A wrapper starts in training mode, which would misreport a network in evaluation mode.
        self.training = model.training

    def forward(self, x: Tensor, *others: Any, **named: Any) -> Any:
        """The output of the inner network for images [N, C, H, W] in [0, 1]."""
        return self.model((x - self.mean) / self.std, *others, **named)


def normalised(model: nn.Module, mean: float | Sequence[float], std: float | Sequence[float]) -> Normalised:
    """Put the input normalisation of ``torchvision.transforms.Normalize`` in front of a network.

    All networks here take images in [0, 1], so that perturbation sizes are comparable between them. The
    network is neither changed nor copied; it is ``.model`` of the returned module, which can be attacked,
    traced, pruned, saved, loaded and exported like any other.

    Args:
        model: takes normalised images [N, C, H, W].
        mean: in units of [0, 1], one value per channel, or one for all channels.
        std: likewise, positive.

    Raises:
        UserError: values that are not finite, a deviation that is not positive, different numbers of values,
            or a model that already normalises its input.

    >>> import secateur, torch
    >>> model = secateur.normalised(torch.nn.Flatten(), mean=0.5, std=0.25)
    >>> model(torch.ones(1, 1, 1, 2))
    tensor([[2., 2.]])
    """
    return wrap(model, check_statistics(mean, std))


def wrap(model: nn.Module, statistics: Statistics, *, source: str = "") -> Normalised:
    """:func:`normalised` for statistics that are already checked."""
    if isinstance(model, Normalised):
        raise UserError("the model normalises its input already", hint="leave mean and std out")
    return Normalised(model, statistics, source=source)


def check_statistics(mean: float | Sequence[float], std: float | Sequence[float]) -> Statistics:
    """Mean and deviation as tuples of equal length.

    Raises:
        UserError: as for :func:`normalised`.

    >>> check_statistics(0.5, (0.1, 0.2, 0.3))
    ((0.5, 0.5, 0.5), (0.1, 0.2, 0.3))
    """
    found = []
    for name, given in (("mean", mean), ("std", std)):
        values = tuple(given) if isinstance(given, Sequence) and not isinstance(given, str) else (given,)
        if not values or not all(is_number(value) and math.isfinite(value) for value in values):
            raise UserError(
                f"{name} must be finite numbers, got {given!r}", hint="give one value, or one per channel"
            )
        found.append(tuple(map(float, values)))
    means, deviations = found
    if len(means) != len(deviations) and 1 not in (len(means), len(deviations)):
        raise UserError(f"mean has {len(means)} values and std {len(deviations)}", hint="give equally many")
    if min(deviations) <= 0:
        raise UserError(f"std must be positive, got {min(deviations):g}")
    channels = max(len(means), len(deviations))
    both = [values * channels if len(values) == 1 else values for values in (means, deviations)]
    return both[0], both[1]


def check_channels(statistics: Statistics, channels: int | None) -> None:
    """Raise UserError if the statistics are for another number of channels."""
    count = len(statistics[0])
    if channels is not None and count not in (1, channels):
        raise UserError(
            f"mean and std have {count} values, but the images have {counted(channels, 'channel')}",
            hint="give one value, or one per channel",
        )


def unwrapped(model: nn.Module) -> nn.Module:
    """The inner network of a :class:`Normalised` model; any other model as it is."""
    return model.model if isinstance(model, Normalised) else model


def statistics(model: nn.Module) -> Statistics | None:
    """Mean and deviation of a :class:`Normalised` network; None for any other.

    >>> statistics(normalised(torch.nn.Flatten(), mean=0.5, std=0.25))
    ((0.5,), (0.25,))
    """
    if not isinstance(model, Normalised):
        return None
    return tuple(model.mean.flatten().tolist()), tuple(model.std.flatten().tolist())


def is_identity(statistics: Statistics) -> bool:
    """Whether the statistics are mean 0 and deviation 1."""
    return all(value == 0 for value in statistics[0]) and all(value == 1 for value in statistics[1])


def describe_normalisation(model: nn.Module) -> str:
    """A sentence on the normalisation in front of the network; "" without one.

    >>> describe_normalisation(normalised(torch.nn.Flatten(), mean=0.5, std=0.25))
    'the input is normalised with mean 0.5 and std 0.25'
    """
    found = statistics(model)
    if found is None or not isinstance(model, Normalised):
        return ""
    mean, std = (", ".join(f"{value:.4g}" for value in values) for values in found)
    source = f", {model.source}" if model.source else ""
    return f"the input is normalised with mean {mean} and std {std}{source}"


def published_statistics(spec: str, model: nn.Module, *, channels: int | None) -> Statistics | None:
    """The statistics published with ``timm:``, ``torchvision:`` or ``hf:NAME``; None if there are none.

    For images with another number of channels than the published statistics, their average over channels.

    >>> model = torch.nn.Flatten()
    >>> model.pretrained_cfg = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.2, 0.2)}
    >>> [round(values[0], 4) for values in published_statistics("timm:any", model, channels=1)]
    [0.5, 0.2]
    """
    package, _, name = spec.partition(":")
    if package == "hf":
        found = getattr(getattr(model, "preprocessing", None), "statistics", None)
    else:
        found = _of_timm(model) if package == "timm" else _of_torchvision(name)
    if found is None or channels in (None, len(found[0])):
        return found
    mean, std = (sum(values) / len(values) for values in found)
    return (mean,), (std,)


def _of_timm(model: nn.Module) -> Statistics | None:
    facts = getattr(model, "pretrained_cfg", None) or {}
    mean, std = facts.get("mean"), facts.get("std")
    return None if mean is None or std is None else check_statistics(tuple(mean), tuple(std))


def _of_torchvision(name: str) -> Statistics | None:
    weights = import_module("torchvision.models").get_model_weights(name)
    usual = getattr(weights, "DEFAULT", None)
    preset = usual.transforms() if usual is not None else None
    mean, std = getattr(preset, "mean", None), getattr(preset, "std", None)
    return None if mean is None or std is None else check_statistics(tuple(mean), tuple(std))
