"""The dense networks of a study, for planning: their weights' identity, and how fast they are here."""

import time

import torch
from torch import Tensor, nn

from secateur.config import Problem, Study, refuse
from secateur.config.problems import nearest
from secateur.errors import UserError
from secateur.measure import macs, parameters
from secateur.models import build, load_published, load_weights, place, resolve, weights_hash
from secateur.study.cells import Facts
from secateur.study.cost import Speed

SECONDS = 0.3
BATCH = 16


def dense_network(study: Study, label: str, *, shape: tuple[int, ...], classes: int) -> nn.Module:
    """The architecture of a model of the study, without its weights. Raises UserError."""
    model = study.models[label]
    if ":" in model.arch:
        return resolve(
            model.arch, num_classes=classes, in_channels=shape[0], allow_code=False, pretrained=False
        )
    return build(model.arch, num_classes=classes, in_channels=shape[0], **model.settings)


def unknown_layers(study: Study, *, shape: tuple[int, ...], classes: int) -> list[Problem]:
    """Layers that the study's ``keep`` or ``rates`` name and one of its models does not have."""
    rates = study.pruning.rates if isinstance(study.pruning.rates, dict) else {}
    named = {f"pruning.keep.{i}": name for i, name in enumerate(study.pruning.keep)}
    named |= {f"pruning.rates.{name}": name for name in rates}
    found = []
    for label in study.models if named else ():
        network = dense_network(study, label, shape=shape, classes=classes)
        known = {name for name, _ in (*network.named_modules(), *network.named_parameters())}
        for key, name in named.items():
            # A group is called by the dimension of a parameter: conv1.weight[0].
            if name.partition("[")[0] not in known:
                sentence = f"the model '{label}' has no module or parameter '{name}'"
                found.append(Problem(study.where(key), key, sentence, nearest(name, known)))
    return found


def hash_weights(study: Study, *, shape: tuple[int, ...], classes: int) -> dict[str, str]:
    """The hash of the tensors in every weights file of the study, shipped ones too, by label of the model.

    The tensors count, not the file: saving them again or under another name changes nothing.

    Raises:
        UserError: files that are missing, damaged, or do not fit their architecture, a line each.
    """
    found, problems = {}, []
    for label, model in study.models.items():
        shipped = model.arch.startswith("shipped:")
        if model.weights is None and not shipped:
            continue
        try:
            network = dense_network(study, label, shape=shape, classes=classes)
            if model.weights is not None:
                load_weights(network, model.weights)
            else:
                load_published(network, model.arch)
            found[label] = weights_hash(network)
        except UserError as error:
            key = f"models.{label}.weights"
            problems.append(Problem(study.where(key), key, str(error)))
    if problems:
        raise refuse(problems)
    return found


def measure_speeds(study: Study, facts: Facts) -> dict[str, Speed]:
    """Time the gradient of every model's dense network for a fraction of a second, by label of the model.

    On the study's device. Raises UserError if that is not here.
    """
    found: dict[str, Speed] = {}
    images = torch.zeros(BATCH, *facts.shape)
    threads = torch.get_num_threads()
    torch.set_num_threads(study.threads)
    try:
        for label in study.models:
            network = dense_network(study, label, shape=facts.shape, classes=facts.classes).eval()
            size = macs(network, images[:1]), parameters(network)
            there = place(network, study.device)
            found[label] = Speed(_seconds_per_unit(there, images.to(study.device)), *size)
    finally:
        torch.set_num_threads(threads)
    return found


def _seconds_per_unit(network: nn.Module, images: Tensor) -> float:
    _gradient(network, images)  # warms up
    _wait(images)
    rounds, started = 0, time.perf_counter()
    while rounds == 0 or time.perf_counter() - started < SECONDS:
        _gradient(network, images)
        rounds += 1
        _wait(images)
    # A forward pass is one unit, a gradient two.
    return (time.perf_counter() - started) / (rounds * len(images) * 3)


def _wait(images: Tensor) -> None:
    """Until a GPU has done what it was told to."""
    if images.device.type == "cuda":
        torch.cuda.synchronize(images.device)


def _gradient(network: nn.Module, images: Tensor) -> None:
    network.zero_grad()
    network(images).sum().backward()
