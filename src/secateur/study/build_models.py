"""The dense networks of a study, for planning: whether they fit, the hash of their weights, their speed."""

from collections.abc import Container
from contextlib import nullcontext
from functools import partial
from statistics import median

import torch
from torch import Tensor, nn

from secateur.config import Problem, Study, refuse
from secateur.data import describe_splits, open_dataset
from secateur.data.image_folder import left_out
from secateur.errors import UserError
from secateur.measure import macs, parameters, peak_memory
from secateur.models import (
    check_accepts,
    describe_normalisation,
    load_published,
    to_device,
    weights_hash,
)
from secateur.models.normalisation import unwrapped
from secateur.models.timing import timer
from secateur.pruning.starting import with_weights
from secateur.registry import HUB, checkpoint, comes_with_weights, has_weights
from secateur.repair.meta_shapes import ShapesAlone
from secateur.stages.networks import architecture
from secateur.study.cells import Facts
from secateur.study.cost import Footprint, Speed
from secateur.text import nearest

SECONDS = 0.3
# As many images at a time as attacks and recipes use, if they fit into the time: small networks gain by it.
BATCH, FEW = 128, 2


def dense_network(
    study: Study, label: str, *, shape: tuple[int, ...], classes: int, pretrained: bool = False
) -> nn.Module:
    """A model of the study, without its weights unless ``pretrained``. Raises UserError."""
    model = study.models[label]
    try:
        return architecture(study, label, shape=shape, classes=classes, pretrained=pretrained)
    except UserError:
        raise
    except Exception as error:
        if not model.settings:
            raise
        # The settings go to the constructor unchecked, and it may raise anything.
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        raise UserError(
            f"{model.arch} cannot be built with the settings of the model '{label}': {reason}"
        ) from error


def unknown_layers(study: Study, *, shape: tuple[int, ...], classes: int) -> list[Problem]:
    """Layers named by the study's ``keep`` or ``rates`` that one of its models does not have."""
    rates = study.pruning.rates if isinstance(study.pruning.rates, dict) else {}
    named = {f"pruning.keep.{i}": name for i, name in enumerate(study.pruning.keep)}
    named |= {f"pruning.rates.{name}": name for name in rates}
    found = []
    for label in study.models if named else ():
        network = dense_network(study, label, shape=shape, classes=classes)
        known = {
            name
            for part in (network, unwrapped(network))
            for name, _ in (*part.named_modules(), *part.named_parameters())
        }
        for key, name in named.items():
            # A group is named by a dimension of a parameter, such as conv1.weight[0].
            if name.partition("[")[0] not in known:
                sentence = f"the model '{label}' has no module or parameter '{name}'"
                found.append(Problem(study.where(key), key, sentence, nearest(name, known)))
    return found


def unfit_models(study: Study, *, shape: tuple[int, ...], classes: int) -> list[Problem]:
    """The models that cannot take images of ``shape`` (channels, height, width), one problem each."""
    found = []
    for label, model in study.models.items():
        # The meta device computes shapes only, which is fast; code that reads values fails there.
        devices = ["cpu"] if comes_with_weights(model.arch) else ["meta", "cpu"]
        for device in devices:
            part, reason = _refusal(study, label, device, shape=shape, classes=classes)
            if not reason:
                break
        else:
            key = f"models.{label}.{part}"
            found.append(Problem(study.where(key), key, reason))
    return found


def _refusal(
    study: Study, label: str, device: str, *, shape: tuple[int, ...], classes: int
) -> tuple[str, str]:
    """Which setting of a model is wrong on this device, and the error; both empty if it accepts the image."""
    part = "settings" if study.models[label].settings else "arch"
    try:
        with torch.device(device):
            network, image = dense_network(study, label, shape=shape, classes=classes), torch.zeros(1, *shape)
            part = "arch"
            # torch's own meta functions import its compiler.
            with ShapesAlone() if device == "meta" else nullcontext():
                check_accepts(network, image, data=study.data.spec)
    except UserError as error:
        return part, str(error)
    except Exception as error:
        return part, f"'{study.models[label].arch}' cannot be built: {type(error).__name__}: {error}"
    return "", ""


def hash_weights(study: Study, *, shape: tuple[int, ...], classes: int) -> dict[str, str]:
    """The hash of the starting weights by label of the model; models initialised by seed have none.

    Tensors are hashed, not files: another name or another saving of the same weights changes nothing. Models
    of plug-ins have the weights that their function returns.

    Raises:
        UserError: files that are missing, damaged, or do not fit their architecture, a line each.
    """
    found, problems = {}, []
    for label, model in study.models.items():
        shipped = model.arch.startswith("shipped:")
        if model.weights is None and not shipped and not comes_with_weights(model.arch):
            continue
        key = f"models.{label}.{'arch' if model.weights is None else 'weights'}"
        try:
            own = model.weights is None and not shipped
            build = partial(dense_network, study, label, shape=shape, classes=classes, pretrained=own)
            network = build() if model.weights is None else with_weights(build, model.weights)
            if model.weights is None and shipped:
                load_published(unwrapped(network), model.arch)
            found[label] = weights_hash(network)
        except UserError as error:
            problems.append(Problem(study.where(key), key, str(error)))
        except Exception as error:
            # The function of a plug-in may raise anything.
            if not comes_with_weights(model.arch):
                raise
            sentence = f"'{model.arch}' cannot be built: {type(error).__name__}: {error}"
            problems.append(Problem(study.where(key), key, sentence))
    if problems:
        raise refuse(problems)
    return found


def remarks(study: Study, facts: Facts) -> list[str]:
    """How images are split and inputs normalised where the study file leaves it open, one sentence each."""
    parts = open_dataset(study.data.spec)
    counts = f"{facts.train:,} train, {facts.validation:,} validation and {facts.test:,} test images"
    source, _, argument = study.data.spec.partition(":")
    notes = [f"{counts}: {describe_splits(parts)}", *(left_out(argument) if source == "folder" else ())]
    for label, model in study.models.items():
        if model.arch.startswith(("timm:", "torchvision:", HUB)) and model.normalise is None:
            network = dense_network(study, label, shape=facts.shape, classes=facts.classes)
            notes.append(
                f"models.{label}: {describe_normalisation(network) or 'the input is not normalised'}"
            )
        if model.weights is None and comes_with_weights(model.arch):
            trained = "trained further" if study.recipe(label).epochs else "not trained: it has no recipe"
            notes.append(f"models.{label}: keeps the weights that {model.arch} comes with, and is {trained}")
    return notes


def measure_speeds(study: Study, facts: Facts, labels: Container[str]) -> dict[str, Speed]:
    """The speed of these models' dense networks on the study's device, from 0.3 s of gradients each.

    Raises:
        UserError: this machine lacks the device, or a network does not accept the images.
    """
    found: dict[str, Speed] = {}
    alike: dict[str, Speed] = {}
    images = torch.zeros(BATCH, *facts.shape)  # the time does not depend on the pixels
    for label in (each for each in study.models if each in labels):
        # Networks of one architecture differ in their weights, which take no time.
        kind = _architecture(study, label)
        if kind not in alike:
            network = dense_network(study, label, shape=facts.shape, classes=facts.classes).eval()
            check_accepts(network, images, data=study.data.spec)
            size, needs = (macs(network, images[:1]), parameters(network)), _footprint(network, images)
            there = to_device(network, study.device)
            seconds = _seconds_per_unit(there, images.to(study.device), study.threads)
            alike[kind] = Speed(seconds, *size, needs)
        found[label] = alike[kind]
    return found


def _architecture(study: Study, label: str) -> str:
    """All that a model's dense network is built from; published weights come with an architecture."""
    model = study.models[label]
    arch = checkpoint(model.arch).facts["arch"] if has_weights(model.arch) else model.arch
    return repr((arch, model.settings, model.statistics))


def _footprint(network: nn.Module, images: Tensor) -> Footprint:
    """What an image more takes, from one image and two: what both share belongs to the weights."""
    own = [*network.parameters(), *network.buffers()]

    def image(*, gradients: bool) -> int:
        one, two = (peak_memory(network, images[:n], gradients=gradients) for n in (1, 2))
        return max(two - one, 0)

    weights = sum(tensor.numel() * tensor.element_size() for tensor in own)
    return Footprint(weights, image(gradients=True), image(gradients=False))


def _seconds_per_unit(network: nn.Module, images: Tensor, threads: int) -> float:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        count = FEW
        _gradient(network, images[:count])  # the first call allocates memory and chooses kernels
        once = _seconds(network, images[:count], least=0.0)
        # A large network needs few images to be measured: a batch of 16 of WRN-28-10 takes many seconds.
        fit = int(SECONDS / 2 * count / max(once, 1e-9))
        if fit > count:
            count = min(fit, len(images))
            _gradient(network, images[:count])
            once = _seconds(network, images[:count], least=SECONDS)
    finally:
        torch.set_num_threads(before)
    # A forward pass is one unit, a gradient two.
    return once / (count * 3)


def _seconds(network: nn.Module, images: Tensor, *, least: float) -> float:
    """The median time of a gradient, measured once and then until ``least`` seconds have passed."""
    taken: list[float] = []
    while not taken or sum(taken) < least:
        begun = timer()
        _gradient(network, images)
        taken.append(timer() - begun)
    return median(taken)


def _gradient(network: nn.Module, images: Tensor) -> None:
    network.zero_grad()
    network(images).sum().backward()
