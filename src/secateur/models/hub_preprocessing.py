"""What an image processor of transformers does to images in [0, 1], read from the JSON beside the weights.

Its code is not run: resizing is left to the data, and scaling and normalisation together are one mean and one
deviation per channel, which stand in front of the network.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from secateur.errors import UserError
from secateur.kinds import is_number, is_whole
from secateur.models.normalisation import Statistics, check_statistics, is_identity

_WHITE = 255  # the factor of a processor applies to 8-bit pixels


@dataclass(frozen=True)
class Preprocessing:
    """Mean and deviation for images in [0, 1], height and width, and whether channels are read as BGR.

    ``statistics`` is None where nothing is subtracted and divided, ``size`` where no size is stated.

    >>> Preprocessing(((0.5,), (0.5,)), (224, 224)).flips
    False
    """

    statistics: Statistics | None = None
    size: tuple[int, int] | None = None
    flips: bool = False


def preprocessing_of(processor: Mapping[str, Any], config: Mapping[str, Any]) -> Preprocessing:
    """What ``preprocessor_config.json`` and, where it is silent, ``config.json`` say of the images.

    Raises:
        UserError: a mean, a deviation or a factor that is no number.

    >>> preprocessing_of({"image_mean": [0.5], "image_std": [0.5], "size": {"shortest_edge": 32}}, {})
    Preprocessing(statistics=((0.5,), (0.5,)), size=(32, 32), flips=False)
    >>> preprocessing_of({}, {"pretrained_cfg": {"mean": [0.4], "std": [0.2], "input_size": [3, 64, 48]}})
    Preprocessing(statistics=((0.4,), (0.2,)), size=(64, 48), flips=False)
    """
    of_timm = config.get("pretrained_cfg")
    if not processor and isinstance(of_timm, Mapping):
        processor = {"image_mean": of_timm.get("mean"), "image_std": of_timm.get("std")}
        config = {"image_size": (of_timm.get("input_size") or ())[1:]}
    return Preprocessing(
        _statistics(processor) if processor else None,
        _size(processor) or _pair(config.get("image_size")),
        bool(processor.get("do_flip_channel_order")),
    )


def _statistics(processor: Mapping[str, Any]) -> Statistics | None:
    """Mean and deviation of one step from [0, 1] to what the network takes; None if it takes [0, 1]."""
    mean, std = processor.get("image_mean"), processor.get("image_std")
    if not processor.get("do_normalize", mean is not None) or mean is None or std is None:
        mean, std = 0.0, 1.0
    means, deviations = check_statistics(*(_numbers(values) for values in (mean, std)))
    # Some processors of EfficientNet divide twice, as its first training did.
    if str(processor.get("image_processor_type", "")).startswith("EfficientNet") and processor.get(
        "include_top", True
    ):
        deviations = tuple(value**2 for value in deviations)
        means = tuple(means)
    scale = _number(processor.get("rescale_factor", 1 / _WHITE)) if processor.get("do_rescale", True) else 1.0
    white = _WHITE * scale
    white = 1.0 if math.isclose(white, 1, rel_tol=1e-6) else white
    offset = 1.0 if processor.get("rescale_offset") else 0.0
    found = (
        tuple((value + offset) / white for value in means),
        tuple(value / white for value in deviations),
    )
    return None if is_identity(found) else found


def _size(processor: Mapping[str, Any]) -> tuple[int, int] | None:
    """Height and width after resizing and cropping."""
    if processor.get("do_center_crop") and (cropped := _pair(processor.get("crop_size"))):
        return cropped
    return _pair(processor.get("size")) if processor.get("do_resize", True) else None


def _pair(stated: Any) -> tuple[int, int] | None:
    """Height and width of a side, a pair, or a mapping; None if nothing usable is stated."""
    if isinstance(stated, Mapping):
        edge = stated.get("shortest_edge")
        stated = (stated.get("height", edge), stated.get("width", edge))
    sides = list(stated) if isinstance(stated, list | tuple) else [stated, stated]
    whole = all(is_whole(side, least=1) for side in sides)
    return (sides[0], sides[1]) if whole and len(sides) == 2 else None


def _numbers(values: Any) -> Any:
    return tuple(values) if isinstance(values, list) else values


def _number(value: Any) -> float:
    if not is_number(value) or not 0 < value < math.inf:
        raise UserError(f"rescale_factor must be a positive number, got {value!r}")
    return float(value)
