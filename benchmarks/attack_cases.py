"""What `benchmarks/attacks.py` measures: five networks, their images, and the attacks of four norms."""

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from attack_networks import WIDTHS
from peers import import_torchvision
from torch import nn

from secateur.data import Dataset, load, subset
from secateur.models import build, load_weights, predict
from secateur.registry import ATTACKS

INF = math.inf


@dataclass(frozen=True)
class Entry:
    """An attack by its registered name, with a function from the wanted number of steps to its settings."""

    name: str
    settings: Callable[[int], dict[str, object]]
    label: str = ""

    @property
    def shown(self) -> str:
        return self.label or self.name

    @property
    def peer(self) -> bool:
        return ":" in self.name


def by(key: str, **fixed: object) -> Callable[[int], dict[str, object]]:
    return lambda steps: {key: steps, **fixed}


def searched(most: float, **fixed: object) -> Callable[[int], dict[str, object]]:
    """Minimal APGD: halvings of ε times iterations inside are the wanted number of steps."""

    def settings(steps: int) -> dict[str, object]:
        halvings = max(5, round(math.sqrt(steps) / 3))
        return {"binary_search_steps": halvings, "n_iter": steps // halvings, "max_eps": most / 2, **fixed}

    return settings


# The largest ε that the search of minimal APGD starts from: beyond every distance of these networks.
WIDEST = {1.0: 60.0, 2.0: 6.0, INF: 0.6}


def minimal_apgd(norm: float, loss: str) -> Entry:
    settings = searched(WIDEST[norm], loss_function=loss, use_large_reps=norm == 1)
    return Entry("adv-lib:minimal_apgd", settings, f"adv-lib:minimal_apgd {loss}")


def ours(norm: float) -> list[Entry]:
    """Our minimum-norm attacks of a norm, without rounding to grey levels; ensembles are left out."""
    return [
        Entry(name, by("steps", **({"levels": None} if "levels" in facts["settings"] else {})))
        for name, facts in ((entry.name, entry.facts) for entry in ATTACKS.entries())
        if facts["kind"] == "minimum-norm" and norm in facts["norms"] and facts["cost"] != "its members'"
    ]


PEERS: dict[float, list[Entry]] = {
    0.0: [
        Entry("adv-lib:sigma_zero", by("num_steps")),
        Entry("adv-lib:fmn", by("steps")),
        Entry("adv-lib:pdpgd", by("num_steps", proximal_operator=23)),
        Entry("foolbox:L0FMNAttack", by("steps")),
    ],
    1.0: [
        Entry("adv-lib:fmn", by("steps")),
        Entry("adv-lib:pdpgd", by("num_steps")),
        minimal_apgd(1.0, "dlr"),
        Entry("foolbox:L1FMNAttack", by("steps")),
    ],
    2.0: [
        Entry("adv-lib:ddn_unquantised", by("steps"), "adv-lib:ddn"),
        Entry("adv-lib:fmn", by("steps")),
        Entry("adv-lib:alma", by("num_steps", init_lr_distance=0.1)),
        Entry("adv-lib:pdgd", by("num_steps")),
        minimal_apgd(2.0, "dlr"),
        Entry("foolbox:DDNAttack", by("steps")),
        Entry("foolbox:L2FMNAttack", by("steps")),
        Entry("torchattacks:CW", by("steps", c=10)),
    ],
    INF: [
        Entry("adv-lib:fmn", by("steps")),
        Entry("adv-lib:pdpgd", by("num_steps")),
        minimal_apgd(INF, "dlr"),
        Entry("foolbox:LInfFMNAttack", by("steps")),
    ],
}
ENTRIES = {norm: [*ours(norm), *peers] for norm, peers in PEERS.items()}


def import_peers() -> None:
    """Name what of adv-lib is measured but has no name of its own there; without adv-lib, nothing."""
    with suppress(ImportError):
        import_torchvision()
    try:
        import adv_lib.attacks
        from adv_lib.attacks.auto_pgd import minimal_apgd as found
    except ImportError:
        return
    adv_lib.attacks.minimal_apgd = found
    adv_lib.attacks.ddn_unquantised = partial(adv_lib.attacks.ddn, levels=None)


MODELS = {
    "mnist": "MNIST SmallCNN, DDN-trained (published)",
    "cifar-plain": "CIFAR-10 ResNet-20 (published)",
    "cifar-robust": "CIFAR-10 ResNet-20, adversarial (resnet20-robust of studies/cifar10-small.yaml)",
    "resnet18-plain": "CIFAR-10 narrow ResNet-18, plain (benchmarks/attack_networks.py)",
    "resnet18-robust": "CIFAR-10 narrow ResNet-18, adversarial (benchmarks/attack_networks.py)",
}
RESNET20 = {"cifar-plain": "resnet20-12fca82f.th", "cifar-robust": "resnet20-robust.safetensors"}


def case(name: str, folder: Path, count: int) -> tuple[nn.Module, Dataset]:
    """A network in evaluation mode and ``count`` test images that it classifies correctly."""
    if name == "mnist":
        model = build("smallcnn", num_classes=10, in_channels=1)
        load_weights(model, folder / "mnist" / "smallcnn-ddn-trained.pth")
        images = load(f"idx:{folder / 'mnist'}")
    else:
        model = build("resnet20") if name in RESNET20 else build("resnet18", widths=WIDTHS)
        load_weights(model, folder / RESNET20.get(name, f"{name}.safetensors"))
        images = load(f"npz:{folder / 'cifar10.npz'}", split="test")
    model.eval()
    drawn = torch.Generator().manual_seed(0)
    # CIFAR's test images come class by class; MNIST's first ones are those of published medians.
    pool = images.take(range(4 * count)) if name == "mnist" else subset(images, 1000, generator=drawn)
    right = pool.take((predict(model, pool.x) == pool.y).nonzero().squeeze(1))
    return model, right.take(range(count)) if name == "mnist" else subset(right, count, generator=drawn)
