import itertools
import tarfile

import pytest
import torch

from secateur.errors import UserError
from secateur.models import build, load_weights, predict
from secateur.models.resnet import Padding
from secateur.registry import MODELS

SIZES = {"resnet-tiny": (1, 8), "smallcnn": (1, 28)}
SMALLER = dict.fromkeys(("wrn-28-10", "wrn-28-10-silu", "resnet18", "resnet50", "preact-resnet18"), 8)
"""Sides at which networks that end in an average over all places compute the same, faster."""
PARAMETERS = {
    "resnet-tiny": 56_250,
    "smallcnn": 312_202,
    "resnet18": 11_173_962,
    "resnet50": 23_520_842,
    "resnet20": 269_722,
    "resnet56": 853_018,
    "resnet110": 1_727_962,
    "preact-resnet18": 11_171_146,
    "wrn-28-10": 36_479_194,
    "wrn-28-10-silu": 36_479_194,
    "vgg16-bn": 14_728_266,
    "vgg19-bn": 20_040_522,
}


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", PARAMETERS)
def test_a_network_has_its_known_number_of_parameters(name):
    assert count(build(name)) == PARAMETERS[name]


WIDEST = {"wrn-28-10", "wrn-28-10-silu"}


@pytest.mark.parametrize(
    "name",
    [
        *sorted(PARAMETERS.keys() - WIDEST),
        *(pytest.param(name, marks=pytest.mark.slow) for name in sorted(WIDEST)),
    ],
)
def test_a_network_maps_images_to_logits_and_gradients_flow(name):
    channels, side = SIZES.get(name, (3, SMALLER.get(name, 32)))
    model = build(name, num_classes=7)
    out = model(torch.rand(3, channels, side, side, generator=torch.Generator().manual_seed(0)))
    assert out.shape == (3, 7)
    out.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("name", ["resnet-tiny", "resnet18"])
def test_residual_networks_take_any_width_channels_and_size(name):
    widths = (3, 5, 7) if name == "resnet-tiny" else (3, 5, 7, 9)
    model = build(name, num_classes=4, in_channels=2, widths=widths).eval()
    assert model(torch.zeros(2, 2, 16, 16)).shape == (2, 4)


def test_the_small_cnn_takes_other_sizes_and_widths():
    model = build("smallcnn", in_channels=3, size=32, widths=(4, 5, 6, 7), hidden=(8, 9))
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_the_tiny_network_costs_less_than_a_million_macs():
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter:
        build("resnet-tiny").eval()(torch.zeros(1, 1, 8, 8))
    assert counter.get_total_flops() // 2 == 678_368


def test_resnet18_has_the_keys_of_the_published_checkpoints():
    keys = set(build("resnet18").state_dict())
    expected = {"conv1.weight", "bn1.running_var", "layer1.0.conv1.weight", "layer2.0.shortcut.0.weight"}
    expected |= {"layer2.0.shortcut.1.bias", "layer4.1.bn2.weight", "linear.weight", "linear.bias"}
    assert expected <= keys
    assert not any(key.startswith("layer1.0.shortcut") for key in keys)
    assert len(keys) == 122


@pytest.mark.slow
def test_every_registered_network_can_be_built():
    for entry in MODELS.entries():
        assert count(build(entry.name)) > 0


def test_the_published_mnist_network_loads_strictly_and_classifies_as_published(shared):
    from secateur.data import load

    model = build("smallcnn")
    loaded = load_weights(model, shared / "mnist" / "smallcnn-ddn-trained.pth")
    assert loaded.notes == ()
    images = load(f"idx:{shared / 'mnist'}")
    assert (predict(model, images.x[:200]) == images.y[:200]).sum() == 199


PRUNED = {"resnet18": (2_797_610, 110_378), "vgg19-bn": (5_015_978, 199_495)}
PRUNED |= {
    "resnet50": (5_899_050, 236_955),
    "wrn-28-10": (9_126_002, 366_919),
    "wrn-28-10-silu": (9_126_002, 366_919),
}


@pytest.mark.parametrize(("depth", "blocks"), [(20, 3), (56, 9)])
@pytest.mark.parametrize("shortcut", ["padding", "projection"])
def test_cifar_resnets_have_either_kind_of_shortcut(depth, blocks, shortcut):
    model = build(f"resnet{depth}", shortcut=shortcut)
    keys = set(model.state_dict())
    assert ("layer2.0.shortcut.0.weight" in keys) == (shortcut == "projection")
    assert f"layer3.{blocks - 1}.conv2.weight" in keys
    extra = 16 * 32 + 32 * 64 + 2 * (32 + 64) if shortcut == "projection" else 0
    assert count(model) == PARAMETERS[f"resnet{depth}"] + extra


def test_a_padding_shortcut_takes_every_second_pixel_and_adds_zero_channels():
    shortcut = Padding(3, 7, 2)
    x = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    out = shortcut(x)
    assert out.shape == (2, 7, 3, 3)
    assert torch.equal(out[:, 2:5], x[:, :, ::2, ::2])
    assert out[:, :2].abs().max() == out[:, 5:].abs().max() == 0
    assert not shortcut.state_dict()


def test_published_networks_normalise_their_input_themselves():
    plain, same = build("resnet20", normalise=None).eval(), build("resnet20").eval()
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        expected = plain((x - mean.reshape(3, 1, 1)) / deviation.reshape(3, 1, 1))
        assert torch.allclose(same(x), expected, atol=1e-5)
        assert not torch.allclose(same(x), plain(x), atol=1e-2)


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("resnet20", {"normalise": "cifar"}, "unknown normalisation 'cifar'"),
        ("resnet20", {"shortcut": "option-a"}, "unknown shortcut"),
        ("resnet20", {"widths": (16, 8, 64)}, "cannot narrow"),
        ("wrn-28-10", {"depth": 27}, "6 n \\+ 4"),
        ("smallcnn", {"size": 8}, "at least 16x16"),
    ],
)
def test_impossible_architectures_are_refused(name, settings, said):
    with pytest.raises(UserError, match=said):
        build(name, **settings)


def test_the_vgg_of_li_et_al_has_their_number_of_parameters():
    assert count(build("vgg16-bn", bias=False, hidden=512)) == 14_987_722
    pruned = [32, 64, "M", 128, 128, "M", 256, 256, 256, "M", 256, 256, 256, "M", 256, 256, 256, "M"]
    assert count(build("vgg16-bn", bias=False, hidden=512, configuration=pruned)) == 5_397_034


@pytest.mark.slow
@pytest.mark.parametrize("name", PRUNED)
def test_the_models_of_the_thesis_pruned_uniformly_have_their_known_sizes(name):
    import secateur

    for sparsity, expected in zip((0.5, 0.9), PRUNED[name], strict=True):
        model = build(name)
        secateur.prune(model, torch.zeros(1, 3, 32, 32), criterion="l1", sparsity=sparsity)
        assert count(model) == expected


@pytest.mark.parametrize("name", ["resnet20-12fca82f", "resnet56-4bfd9763"])
def test_published_cifar_networks_load_strictly_and_classify(shared, name, tmp_path):
    from secateur.data import load

    model = build(name.split("-")[0])
    load_weights(model, shared / "cifar10-resnets" / f"{name}.th")
    with tarfile.open(shared / "cifar10-jpeg.tar.xz") as archive:
        for member in itertools.takewhile(lambda member: "/train" not in member.name, archive):
            if member.name.endswith(".jpg") and int(member.name[-8:-4]) < 60:
                archive.extract(member, tmp_path, filter="data")
    images = load(f"folder:{tmp_path / 'cifar10-jpeg'}")
    assert images.n == 600
    assert (predict(model, images.x) == images.y).float().mean() > 0.75
