"""Every network of the zoo is pruned, saved, and comes back from its own class."""

from importlib import import_module

import pytest
import torch

import secateur
from secateur import models
from secateur.registry import MODELS

ZOO = [entry.name for entry in MODELS.entries() if "input" in entry.facts]
LARGE = {"resnet110", "wrn-28-10", "wrn-28-10-silu", "resnet50", "preact-resnet18", "vgg19-bn", "vgg16-bn"}
TORCHVISION = [
    "resnet18",
    "mobilenet_v3_small",
    "shufflenet_v2_x0_5",
    "squeezenet1_1",
    "efficientnet_b0",
    "vit_b_32",
]


def round_trip(factory, x, folder):
    model = factory().eval()
    report = secateur.prune(model, x, sparsity=0.5, verify=False)
    assert report.parameters_after < 0.5 * report.parameters_before
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.01)
        secateur.save(model, folder)
        again = secateur.load(folder, factory).eval()
        # Layouts in memory may differ, and with them the order of sums.
        assert torch.allclose(again(x), model(x), rtol=1e-4, atol=1e-5)
    saved = model.state_dict()
    assert saved.keys() == again.state_dict().keys()
    assert all(torch.equal(saved[name], tensor) for name, tensor in again.state_dict().items())
    assert secateur.pruning.history(again) == secateur.pruning.history(model)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in LARGE else ()) for name in ZOO]
)
def test_a_network_of_the_zoo_comes_back(name, tmp_path):
    shape = MODELS.entry(name).facts["input"]
    x = torch.rand(1, *shape, generator=torch.Generator().manual_seed(0))
    round_trip(lambda: models.build(name, in_channels=shape[0]), x, tmp_path / "net")


@pytest.mark.reference
@pytest.mark.parametrize("name", TORCHVISION)
def test_a_network_of_torchvision_comes_back(name, tmp_path):
    pytest.importorskip("torchvision", exc_type=ImportError)
    build = import_module("torchvision.models").get_model
    x = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    round_trip(lambda: build(name, weights=None), x, tmp_path / "net")
