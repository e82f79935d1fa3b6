"""Networks of a study that fail on its images: found before anything trains, without computing anything."""

import torch

from secateur.config import Problem, Study
from secateur.errors import UserError
from secateur.models import check_accepts
from secateur.registry import comes_with_weights
from secateur.study.build_models import dense_network


def misfits(study: Study, *, shape: tuple[int, ...], classes: int) -> list[Problem]:
    """The models that cannot take images of ``shape`` (channels, height, width), one problem each."""
    found = []
    for label, model in study.models.items():
        # Shapes alone show it, but a plug-in may read numbers, and other code may ask for them.
        devices = ["cpu"] if comes_with_weights(model.arch) else ["meta", "cpu"]
        for device in devices:
            part, said = _refusal(study, label, device, shape=shape, classes=classes)
            if not said:
                break
        else:
            key = f"models.{label}.{part}"
            found.append(Problem(study.where(key), key, said))
    return found


def _refusal(
    study: Study, label: str, device: str, *, shape: tuple[int, ...], classes: int
) -> tuple[str, str]:
    """Which part of a model is wrong, and the error, on this device; both empty where it takes the image."""
    part = "settings" if study.models[label].settings else "arch"
    try:
        with torch.device(device):
            network, image = dense_network(study, label, shape=shape, classes=classes), torch.zeros(1, *shape)
            part = "arch"
            check_accepts(network, image, data=study.data.spec)
    except UserError as error:
        return part, str(error)
    except Exception as error:
        return part, f"'{study.models[label].arch}' cannot be built: {type(error).__name__}: {error}"
    return "", ""
