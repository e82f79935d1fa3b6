"""Trained weights by name: published ones, and those that the package ships."""

from secateur.registry.registry import Entry, Registry

CHECKPOINTS = Registry("checkpoint")
_SHIPPED = "shipped:"
_PUBLISHED = "robustbench:"


def has_weights(spec: str) -> bool:
    """Whether ``spec`` names a network with trained weights: ``robustbench:NAME`` or ``shipped:NAME``.

    >>> has_weights("shipped:digits-plain"), has_weights("resnet18")
    (True, False)
    """
    return spec.startswith((_SHIPPED, _PUBLISHED))


def checkpoint(spec: str) -> Entry:
    """The weights called ``robustbench:NAME`` or ``shipped:NAME``.

    The NAME of published weights may begin with ``Linf/`` or ``L2/``; without, Linf is preferred.
    Facts: arch, settings, dataset, norm, epsilon, robust, clean_accuracy and robust_accuracy in percent, and
    gdrive (published) or file (shipped).

    Raises:
        UserError: no such name.

    >>> checkpoint("robustbench:Engstrom2019Robustness").facts["norm"]
    inf
    """
    if spec.startswith(_SHIPPED):
        return CHECKPOINTS.entry(spec)
    name = spec.removeprefix(_PUBLISHED)
    if "/" not in name:
        known = CHECKPOINTS.names()
        name = next((full for full in (f"Linf/{name}", f"L2/{name}") if full in known), f"Linf/{name}")
    return CHECKPOINTS.entry(name)


# Published CIFAR-10 weights by threat model and name, as RobustBench lists them; accuracies in percent, clean
# and under AutoAttack within epsilon. No sha256 is published: the first download pins it in the cache.
_LINF = {"norm": float("inf"), "epsilon": 8 / 255}
_L2 = {"norm": 2.0, "epsilon": 0.5}
_BIBTEX = {
    "Addepalli2022Efficient": "addepalli2022",
    "Engstrom2019Robustness": "engstrom2019",
    "Sehwag2021Proxy": "sehwag2022",
    "Wang2023Better": "wang2023",
}
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
        "secateur.models.factory:build",
        f"{_arch}, clean {_clean:g} %, {_attacked:g} % under AutoAttack",
        arch=_arch,
        settings=_settings,
        dataset="cifar10",
        robust=_attacked > 0,
        clean_accuracy=_clean,
        robust_accuracy=_attacked,
        gdrive=_drive,
        bibtex=("croce2021", *(key for stem, key in _BIBTEX.items() if stem in _name)),
        **_threat,
    )

# Written by benchmarks/ship_digits.py; accuracies on the 540 test images of ``digits:split``, against PGD.
for _name, _robust, _clean, _attacked in [("plain", False, 99.07, 48.15), ("robust", True, 99.26, 94.44)]:
    CHECKPOINTS.register(
        f"{_SHIPPED}digits-{_name}",
        "secateur.models.factory:build",
        f"resnet-tiny, clean {_clean:g} %, {_attacked:g} % under PGD",
        arch="resnet-tiny",
        settings={},
        dataset="digits:split",
        robust=_robust,
        clean_accuracy=_clean,
        robust_accuracy=_attacked,
        norm=float("inf"),
        epsilon=0.1,
        file=f"digits-{_name}.safetensors",
        bibtex=("alpaydin1998",),
    )
