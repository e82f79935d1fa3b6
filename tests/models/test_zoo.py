import pytest
import torch

from secateur.models import build, load_weights, predict
from secateur.registry import MODELS

SIZES = {"resnet-tiny": (1, 8), "smallcnn": (1, 28)}
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


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_network_has_its_known_number_of_parameters(name):
    assert count(build(name)) == PARAMETERS[name]


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_network_maps_images_to_logits_and_gradients_flow(name):
    channels, side = SIZES.get(name, (3, 32))
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
