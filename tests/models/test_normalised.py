"""Networks trained on normalised images take images in [0, 1], and are pruned, saved and exported as any."""

import copy
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import secateur
from secateur import models, pruning
from secateur.errors import UserError
from secateur.models import build, load_weights, normalised, resolve, weights_hash
from secateur.models.normalisation import Normalised, unwrapped

IMAGES = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def small():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    ).eval()


def test_the_network_sees_what_it_was_trained_on():
    net = small()
    wrapped = secateur.normalised(net, MEAN, STD)
    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (MEAN, STD))
    assert torch.equal(wrapped(IMAGES), net((IMAGES - mean) / std))
    assert wrapped.model is net
    assert not wrapped.training
    assert torch.equal(secateur.normalised(net, 0.5, 0.25)(IMAGES), net((IMAGES - 0.5) / 0.25))


@pytest.mark.parametrize(
    ("mean", "std", "said"),
    [
        ((0.5, 0.5), (0.2, 0.2, 0.2), "mean has 2 values and std 3"),
        (0.5, 0, "std must be positive, got 0"),
        (0.5, -1, "std must be positive, got -1"),
        (float("nan"), 1, "mean must be finite numbers, got nan"),
        (0.5, float("inf"), "std must be finite numbers, got inf"),
        ((), 1, r"mean must be finite numbers, got \(\)"),
        ("0.5", 1, "mean must be finite numbers, got '0.5'"),
        (None, 1, "mean must be finite numbers, got None"),
    ],
)
def test_impossible_statistics_are_refused(mean, std, said):
    with pytest.raises(UserError, match=said):
        normalised(small(), mean, std)


def test_a_network_is_normalised_once():
    with pytest.raises(UserError, match="normalises its input already"):
        normalised(normalised(small(), MEAN, STD), MEAN, STD)


@pytest.mark.parametrize("keep", ["7", "model.7"])
def test_a_normalised_network_is_pruned_by_the_names_of_its_layers(keep):
    net = normalised(small(), MEAN, STD)
    secateur.prune(net, IMAGES, sparsity=0.5, keep=[keep])
    assert (net.model[0].out_channels, net.model[3].out_channels, net.model[7].in_features) == (4, 8, 8)


def test_an_unknown_layer_of_a_normalised_network_is_still_refused():
    with pytest.raises(UserError, match="'head' is not a module"):
        secateur.prune(normalised(small(), MEAN, STD), IMAGES, keep=["head"])


def test_normalised_networks_are_pruned_saved_and_loaded(tmp_path):
    plain, wrapped = small(), normalised(small(), MEAN, STD)
    secateur.prune(plain, IMAGES, sparsity=0.5)
    secateur.prune(wrapped, IMAGES, sparsity=0.5)
    assert plain[0].weight.shape == wrapped.model[0].weight.shape == (4, 3, 3, 3)
    secateur.save(wrapped, tmp_path / "p")
    again = secateur.load(tmp_path / "p", lambda: normalised(small(), MEAN, STD))
    assert torch.equal(again(IMAGES), wrapped(IMAGES))
    assert torch.equal(copy.deepcopy(wrapped)(IMAGES), wrapped(IMAGES))
    mean, std = pruning.saved_statistics(tmp_path / "p")
    assert (mean, std) == (pytest.approx(MEAN), pytest.approx(STD))
    secateur.save(plain, tmp_path / "q")
    assert pruning.saved_statistics(tmp_path / "q") is None
    with pytest.raises(UserError, match="'mean' is missing"):
        secateur.load(tmp_path / "p", small)


@pytest.mark.slow
def test_a_normalised_network_is_exported_with_its_normalisation(tmp_path):
    wrapped = normalised(small(), MEAN, STD)
    secateur.prune(wrapped, IMAGES, sparsity=0.5)
    secateur.export(wrapped, tmp_path / "net.pt2", IMAGES, batch_sizes=())
    loaded = torch.export.load(tmp_path / "net.pt2").module()
    torch.testing.assert_close(loaded(IMAGES), wrapped(IMAGES))


@pytest.mark.parametrize("prefix", ["", "model.", "module."])
def test_weights_go_into_the_network_inside(tmp_path, prefix):
    state = build("resnet-tiny", in_channels=3).state_dict()
    state = {name: tensor + 1 if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    save_file({prefix + name: tensor for name, tensor in state.items()}, tmp_path / "w.safetensors")
    wrapped = normalised(build("resnet-tiny", in_channels=3), MEAN, STD)
    load_weights(wrapped, tmp_path / "w.safetensors")
    assert all(torch.equal(tensor, state[name]) for name, tensor in wrapped.model.state_dict().items())


def test_the_normalisation_is_part_of_the_hash():
    plain, one, other = small(), normalised(small(), MEAN, STD), normalised(small(), MEAN, (0.2, 0.2, 0.2))
    assert len({weights_hash(model) for model in (plain, one, other)}) == 3
    assert weights_hash(normalised(small(), MEAN, STD)) == weights_hash(one)


def test_statistics_take_the_place_of_those_of_a_zoo_network():
    own = resolve("resnet20")
    assert own.state_dict().keys() == build("resnet20", normalise=None).state_dict().keys()
    wrapped = resolve("resnet20", normalise=(MEAN, STD))
    torch.testing.assert_close(wrapped.eval()(IMAGES), own.eval()(IMAGES))
    nothing = resolve("resnet20", normalise=((0.0,), (1.0,)))
    assert not isinstance(nothing, Normalised)
    assert torch.equal(nothing.eval()(IMAGES), build("resnet20", normalise=None).eval()(IMAGES))


def test_statistics_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match="mean and std have 3 values, but the images have 1 channel"):
        resolve("resnet-tiny", in_channels=1, normalise=(MEAN, STD))
    with pytest.raises(UserError, match="as it was trained"):
        resolve("robustbench:Standard", normalise=(MEAN, STD), pretrained=False)


@pytest.fixture
def packages(monkeypatch):
    """Stand-ins for timm and torchvision, as far as they are asked here."""

    class Net(nn.Module):
        def __init__(self, channels, config):
            super().__init__()
            self.fc = nn.Linear(channels, 2)
            self.pretrained_cfg = config

        def forward(self, x):
            return self.fc(x.mean((2, 3)))

    configs = {"usual": {"mean": MEAN, "std": STD}, "bare": {}}
    timm = ModuleType("timm")
    timm.is_model = lambda name: name in configs
    timm.create_model = lambda model_name, num_classes, in_chans: Net(in_chans, configs[model_name])
    preset = SimpleNamespace(transforms=lambda: SimpleNamespace(mean=[0.5, 0.4, 0.3], std=[0.2, 0.2, 0.1]))
    vision = ModuleType("torchvision.models")
    vision.list_models = lambda module: ["usual", "bare"]
    vision.get_model = lambda name, weights, num_classes: Net(3, {})
    vision.get_model_weights = lambda name: SimpleNamespace(DEFAULT=preset) if name == "usual" else ()
    monkeypatch.setitem(sys.modules, "timm", timm)
    monkeypatch.setitem(sys.modules, "torchvision", ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.models", vision)


@pytest.mark.parametrize(
    ("spec", "channels", "mean", "std"),
    [
        ("timm:usual", 3, MEAN, STD),
        ("timm:usual", 1, (sum(MEAN) / 3,), (sum(STD) / 3,)),
        ("torchvision:usual", 3, (0.5, 0.4, 0.3), (0.2, 0.2, 0.1)),
    ],
)
def test_networks_of_packages_have_their_own_normalisation(packages, spec, channels, mean, std):
    net = resolve(spec, num_classes=2, in_channels=channels)
    found = models.statistics(net)
    assert (found[0], found[1]) == (pytest.approx(mean), pytest.approx(std))
    assert "from its own configuration" in models.describe_normalisation(net)
    assert net(torch.rand(2, channels, 4, 4)).shape == (2, 2)
    assert unwrapped(net) is net.model


@pytest.mark.parametrize("spec", ["timm:bare", "torchvision:bare"])
def test_a_package_that_says_nothing_normalises_nothing(packages, spec):
    net = resolve(spec, num_classes=2, in_channels=3)
    assert models.statistics(net) is None
    assert models.describe_normalisation(net) == ""


def test_what_a_package_says_can_be_replaced_and_left_out(packages):
    assert models.statistics(resolve("timm:usual", in_channels=3, raw=True)) is None
    assert models.statistics(resolve("timm:usual", in_channels=3, normalise=((0.0,), (1.0,)))) is None
    other = models.statistics(resolve("timm:usual", in_channels=3, normalise=((0.5,), (0.5,))))
    assert other == ((0.5,), (0.5,))
