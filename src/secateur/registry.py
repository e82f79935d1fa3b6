"""Names for everything that can be chosen by name: models, datasets, criteria, attacks, engines.

A registry maps a name to ``"package.module:attribute"`` and imports it on first use, so that listing names
never imports torch. Installed packages add names through entry points (group ``secateur.<kind>``).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from secateur.errors import UserError


@dataclass(frozen=True)
class Entry:
    """A registered name: where it lives, one line about it, and facts for listings."""

    name: str
    target: str
    summary: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def load(self) -> Any:
        """Import and return the registered object."""
        module, _, attribute = self.target.partition(":")
        return getattr(import_module(module), attribute)


class Registry:
    """All names of one kind, in order of registration."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, Entry] = {}
        self._objects: dict[str, Any] = {}
        self._discovered = False

    def register(self, name: str, target: str | Any, summary: str = "", **facts: Any) -> None:
        """Add ``name``; ``target`` is ``"module:attribute"`` or the object itself.

        Raises:
            UserError: the name is taken by something else.
        """
        where = target if isinstance(target, str) else f"{target.__module__}:{target.__qualname__}"
        if (known := self._entries.get(name)) and known.target != where:
            raise UserError(
                f"{self.kind} '{name}' is already registered as {known.target}", hint="choose another name"
            )
        self._entries[name] = Entry(name, where, summary, facts)
        if not isinstance(target, str):
            self._objects[name] = target

    def entries(self) -> list[Entry]:
        """Every entry, installed plug-ins included."""
        self._discover()
        return list(self._entries.values())

    def names(self) -> list[str]:
        """Every name, in order of registration."""
        return [entry.name for entry in self.entries()]

    def entry(self, name: str) -> Entry:
        """The entry called ``name``.

        Raises:
            UserError: no such name; the hint offers the nearest one.
        """
        self._discover()
        if name in self._entries:
            return self._entries[name]
        near = get_close_matches(name, self._entries, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(self._entries)}"
        raise UserError(f"unknown {self.kind} '{name}'", hint=hint)

    def get(self, name: str) -> Any:
        """The object called ``name``, imported on first use."""
        entry = self.entry(name)
        if name not in self._objects:
            self._objects[name] = entry.load()
        return self._objects[name]

    def _discover(self) -> None:
        if self._discovered:
            return
        self._discovered = True
        for point in entry_points(group=f"secateur.{self.kind}"):
            self.register(point.name, point.value, "installed plug-in")


MODELS = Registry("model")
DATASETS = Registry("dataset")
CHECKPOINTS = Registry("checkpoint")
CRITERIA = Registry("criterion")
ATTACKS = Registry("attack")

CRITERIA.register("l1", "secateur.pruning.criteria:l1", "sum of absolute kernel weights (Li et al. 2017)")
CRITERIA.register("random", "secateur.pruning.criteria:random", "seeded, uniform over channels")
CRITERIA.register("l2", "secateur.pruning.criteria_weights:l2", "Euclidean norm of the filters")
CRITERIA.register(
    "group_norm",
    "secateur.pruning.criteria_weights:group_norm",
    "norm of all that goes along (Fang et al. 2023)",
)
CRITERIA.register(
    "bn_scale", "secateur.pruning.criteria_weights:bn_scale", "scale of batch normalisation (Liu et al. 2017)"
)
CRITERIA.register(
    "fpgm", "secateur.pruning.criteria_weights:fpgm", "distance from the geometric median (He et al. 2019)"
)
CRITERIA.register(
    "lamp", "secateur.pruning.criteria_weights:lamp", "share of the layer's larger channels (Lee et al. 2021)"
)
CRITERIA.register(
    "taylor",
    "secateur.pruning.criteria_data:taylor",
    "first-order change of the loss (Molchanov et al. 2019)",
    needs_batch=True,
)
CRITERIA.register(
    "robust_taylor",
    "secateur.pruning.criteria_data:taylor",
    "the same on adversarial images: what robustness needs",
    needs_batch="adversarial",
)
CRITERIA.register(
    "hessian",
    "secateur.pruning.criteria_data:hessian",
    "second-order change of the loss, diagonal (LeCun et al. 1990)",
    needs_batch=True,
)
CRITERIA.register(
    "activation", "secateur.pruning.criteria_data:activation", "mean activation over images", needs_batch=True
)

ATTACKS.register(
    "ddn",
    "secateur.attacks.ddn:ddn",
    "decoupled direction and norm (Rony et al. 2019)",
    norms=(2.0,),
    kind="minimum-norm",
    targeted=True,
)
ATTACKS.register(
    "fmn",
    "secateur.attacks.fmn:fmn",
    "fast minimum-norm (Pintor et al. 2021)",
    norms=(0.0, 1.0, 2.0, float("inf")),
    kind="minimum-norm",
    targeted=True,
)

# Channels, height and width of the images that a network is made for.
_CIFAR = (3, 32, 32)
ATTACKS.register(
    "steep",
    "secateur.attacks.steep:steep",
    "our own: FMN's radius, steepest steps, exact projections",
    norms=(1.0, 2.0, float("inf")),
    kind="minimum-norm",
    targeted=True,
)
ATTACKS.register(
    "sigma-zero",
    "secateur.attacks.sigma_zero:sigma_zero",
    "smooth L0 and an adaptive threshold (Cinà et al. 2025)",
    norms=(0.0,),
    kind="minimum-norm",
    targeted=True,
)
ATTACKS.register(
    "strongest",
    "secateur.attacks.strongest:strongest",
    "per image, the nearest example of several attacks",
    norms=(0.0, 1.0, 2.0, float("inf")),
    kind="minimum-norm",
    targeted=True,
)
ATTACKS.register(
    "pgd",
    "secateur.attacks.fixed:pgd",
    "projected gradient descent (Madry et al. 2018)",
    norms=(2.0, float("inf")),
    kind="fixed-eps",
    targeted=True,
)
ATTACKS.register(
    "apgd",
    "secateur.attacks.fixed:apgd",
    "auto-PGD, DLR or cross-entropy (Croce & Hein 2020)",
    norms=(2.0, float("inf")),
    kind="fixed-eps",
    targeted=True,
)
ATTACKS.register(
    "fgsm",
    "secateur.attacks.single:fgsm",
    "one steepest step (Goodfellow et al. 2015)",
    norms=(0.0, 1.0, 2.0, float("inf")),
    kind="fixed-eps",
    targeted=True,
)
ATTACKS.register(
    "noise",
    "secateur.attacks.single:noise",
    "random perturbations, no gradient",
    norms=(0.0, 1.0, 2.0, float("inf")),
    kind="fixed-eps",
    targeted=True,
)
ATTACKS.register(
    "square",
    "secateur.attacks.square:square",
    "random squares, no gradient (Andriushchenko et al. 2020)",
    norms=(float("inf"),),
    kind="fixed-eps",
    targeted=True,
)

MODELS.register(
    "resnet-tiny",
    "secateur.models.resnet:resnet_tiny",
    "residual network for small images (the demo's)",
    input=(1, 8, 8),
)
MODELS.register(
    "smallcnn",
    "secateur.models.smallcnn:smallcnn",
    "4 convolutions, 3 dense layers, for 28x28 digits",
    input=(1, 28, 28),
)
MODELS.register("resnet18", "secateur.models.resnet:resnet18", "ResNet-18 with the CIFAR stem", input=_CIFAR)
MODELS.register("resnet50", "secateur.models.resnet:resnet50", "ResNet-50 with the CIFAR stem", input=_CIFAR)
MODELS.register(
    "resnet20", "secateur.models.resnet:resnet20", "CIFAR ResNet-20, shortcuts of zero channels", input=_CIFAR
)
MODELS.register(
    "resnet56", "secateur.models.resnet:resnet56", "CIFAR ResNet-56, shortcuts of zero channels", input=_CIFAR
)
MODELS.register(
    "resnet110",
    "secateur.models.resnet:resnet110",
    "CIFAR ResNet-110, shortcuts of zero channels",
    input=_CIFAR,
)
MODELS.register(
    "preact-resnet18", "secateur.models.preact:preact_resnet18", "pre-activation ResNet-18", input=_CIFAR
)
MODELS.register("wrn-28-10", "secateur.models.wide:wrn", "wide ResNet-28-10, TRADES layout", input=_CIFAR)
MODELS.register(
    "wrn-28-10-silu",
    "secateur.models.wide:wrn_silu",
    "wide ResNet-28-10, SiLU, DeepMind layout",
    input=_CIFAR,
)
MODELS.register(
    "vgg16-bn", "secateur.models.vgg:vgg16", "VGG-16 with batch normalisation, for 32x32 images", input=_CIFAR
)
MODELS.register(
    "vgg19-bn", "secateur.models.vgg:vgg19", "VGG-19 with batch normalisation, for 32x32 images", input=_CIFAR
)

DATASETS.register("digits", "secateur.data:digits", "1 797 handwritten 8x8 digits, 17 grey levels, built in")
DATASETS.register("idx", "secateur.data:idx", "MNIST-like IDX files in a folder: idx:DIR")
DATASETS.register("folder", "secateur.data:folder", "a folder of images per class: folder:DIR")
DATASETS.register(
    "cifar10", "secateur.data:cifar10", "the official binary archive, packed or not: cifar10:DIR"
)
DATASETS.register(
    "cifar100", "secateur.data:cifar100", "the official binary archive, fine labels: cifar100:DIR"
)
DATASETS.register(
    "fashion-mnist", "secateur.data:fashion_mnist", "the four official files: fashion-mnist:DIR"
)
DATASETS.register("svhn", "secateur.data:svhn", "the cropped digits as .mat files: svhn:DIR")
DATASETS.register("npz", "secateur.data:npz", "arrays x and y, or x_train, y_train, x_test, y_test: npz:FILE")


def checkpoint(spec: str) -> Entry:
    """The published weights called ``robustbench:NAME``.

    NAME may begin with ``Linf/`` or ``L2/``; without, Linf is meant where there is one. Facts: arch,
    settings, dataset, norm, epsilon, robust, clean_accuracy and robust_accuracy in percent, gdrive.

    Raises:
        UserError: no such name.
    """
    name = spec.removeprefix("robustbench:")
    if "/" not in name:
        known = CHECKPOINTS.names()
        name = next((full for full in (f"Linf/{name}", f"L2/{name}") if full in known), f"Linf/{name}")
    return CHECKPOINTS.entry(name)


# Published CIFAR-10 weights by threat model and name, as RobustBench lists them; accuracies in percent, clean
# and under AutoAttack within epsilon. No sha256 is published: the first download pins it in the cache.
_LINF = {"norm": float("inf"), "epsilon": 8 / 255}
_L2 = {"norm": 2.0, "epsilon": 0.5}
for _name, _arch, _settings, _threat, _clean, _attacked, _drive in [
    (
        "Linf/Addepalli2022Efficient_RN18",
        "resnet18",
        {},
        _LINF,
        85.71,
        52.48,
        "1m5vhdzIUUKhDbsZdOG9z76Eyp6f4xe_f",
    ),
    ("Linf/Sehwag2021Proxy_R18", "resnet18", {}, _LINF, 84.59, 55.54, "1-ZgoSlD_AMhtXdnUElilxVXnzK2DcHuu"),
    ("L2/Sehwag2021Proxy_R18", "resnet18", {}, _L2, 89.76, 74.41, "1zPjjZj9wujBNkAmHHHIikem6_aIjMhXG"),
    (
        "Linf/Engstrom2019Robustness",
        "resnet50",
        {"normalise": "cifar10-robustness"},
        _LINF,
        87.03,
        49.25,
        "1etqmQsksNIWBvBQ4r8ZFk_3FJlLWr8Rr",
    ),
    (
        "L2/Engstrom2019Robustness",
        "resnet50",
        {"normalise": "cifar10-robustness"},
        _L2,
        90.83,
        69.24,
        "1O8rGa6xOUIRwQ-M4ESrCjzknby8TM2ZE",
    ),
    (
        "Linf/Wang2023Better_WRN-28-10",
        "wrn-28-10-silu",
        {},
        _LINF,
        92.44,
        67.31,
        "1-6MYKJdECDVGaWjj6GgqvaT95BGKhUvI",
    ),
    (
        "L2/Wang2023Better_WRN-28-10",
        "wrn-28-10-silu",
        {},
        _L2,
        95.16,
        83.68,
        "1-fwKiJXEqHHUngt8wKsNnHuD4vAPvPXC",
    ),
    ("Linf/Standard", "wrn-28-10", {}, _LINF, 94.78, 0.0, "1t98aEuzeTL8P7Kpd5DIrCoCL21BNZUhC"),
    ("L2/Standard", "wrn-28-10", {}, _L2, 94.78, 0.0, "1t98aEuzeTL8P7Kpd5DIrCoCL21BNZUhC"),
]:
    CHECKPOINTS.register(
        _name,
        "secateur.models.names:build",
        f"{_arch}, clean {_clean:g} %, {_attacked:g} % under AutoAttack",
        arch=_arch,
        settings=_settings,
        dataset="cifar10",
        robust=_attacked > 0,
        clean_accuracy=_clean,
        robust_accuracy=_attacked,
        gdrive=_drive,
        **_threat,
    )
