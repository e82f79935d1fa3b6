"""Published pruning rates by name: which layers lose how much, each for one network."""

from secateur.registry.registry import Registry

RATES = Registry("rates")

# Parameters and multiply-adds (of one 32x32 image) that are left, as the published networks have them.
for _name, _arch, _settings, _parameters, _macs in [
    ("vgg16-a", "vgg16-bn", {"bias": False, "hidden": 512}, 5_397_034, 206_279_680),
    ("resnet56-a", "resnet56", {}, 773_336, 112_435_840),
    ("resnet56-b", "resnet56", {}, 735_712, 90_907_264),
    ("resnet110-a", "resnet110", {}, 1_688_522, 212_779_648),
    ("resnet110-b", "resnet110", {}, 1_168_424, 155_124_352),
]:
    RATES.register(
        f"li2017:{_name}",
        f"secateur.pruning.rates:{_name.replace('-', '_')}",
        f"{_arch} as Li et al. 2017 prune it by l1",
        arch=_arch,
        settings=_settings,
        parameters=_parameters,
        macs=_macs,
        bibtex=("li2017",),
    )
