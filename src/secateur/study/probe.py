"""How fast this machine runs the dense networks of a study, for the estimate of time."""

import time

import torch
from torch import Tensor, nn

from secateur.config import Study
from secateur.measure import macs, parameters
from secateur.models import build, resolve
from secateur.study.cells import Facts
from secateur.study.cost import Speed

SECONDS = 0.3
BATCH = 16


def measure_speeds(study: Study, facts: Facts) -> dict[str, Speed]:
    """Time the gradient of every model's dense network for a fraction of a second, by label of the model."""
    found: dict[str, Speed] = {}
    images = torch.zeros(BATCH, *facts.shape)
    threads = torch.get_num_threads()
    torch.set_num_threads(study.threads)
    try:
        for label, model in study.models.items():
            network = _network(model.arch, model.settings, facts).eval()
            seconds = _seconds_per_unit(network, images)
            found[label] = Speed(seconds, macs(network, images[:1]), parameters(network))
    finally:
        torch.set_num_threads(threads)
    return found


def _network(arch: str, settings: dict[str, object], facts: Facts) -> nn.Module:
    if ":" in arch:
        return resolve(
            arch, num_classes=facts.classes, in_channels=facts.shape[0], allow_code=False, pretrained=False
        )
    return build(arch, num_classes=facts.classes, in_channels=facts.shape[0], **settings)


def _seconds_per_unit(network: nn.Module, images: Tensor) -> float:
    _gradient(network, images)  # warms up
    rounds, started = 0, time.perf_counter()
    while rounds == 0 or time.perf_counter() - started < SECONDS:
        _gradient(network, images)
        rounds += 1
    # A forward pass is one unit, a gradient two.
    return (time.perf_counter() - started) / (rounds * len(images) * 3)


def _gradient(network: nn.Module, images: Tensor) -> None:
    network.zero_grad()
    network(images).sum().backward()
