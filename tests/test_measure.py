"""Numbers with known answers."""

import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from secateur import measure, models


def lenet():
    return nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(6 * 12 * 12, 10)
    )


def test_parameters_and_macs_are_those_counted_by_hand():
    model = lenet().train()
    assert measure.parameters(model) == 6 * 25 + 6 + 864 * 10 + 10
    assert measure.macs(model, torch.zeros(1, 1, 28, 28)) == 6 * 25 * 24 * 24 + 864 * 10
    assert measure.macs(model, (torch.zeros(3, 1, 28, 28),)) == 6 * 25 * 24 * 24 + 864 * 10
    assert measure.macs(model, {"input": torch.zeros(2, 1, 28, 28)}) == 6 * 25 * 24 * 24 + 864 * 10
    assert model.training


def test_latency_is_measured_in_seconds():
    measured = measure.latency(lenet(), torch.zeros(1, 1, 28, 28), seconds=0.02, threads=1)
    low, high = measured["quartiles"]
    assert 0 < low <= measured["median"] <= high < 1
    assert measured["threads"] == 1
    assert measured["runs"] >= 4


def chain():
    return nn.Sequential(
        nn.Linear(10, 100, bias=False), nn.ReLU(), nn.Linear(100, 50, bias=False), nn.ReLU(), nn.Flatten()
    )


def test_the_peak_of_memory_is_that_of_what_lives_together():
    # Weights, the input, and both sides of the first ReLU; the second pair of results is smaller.
    model = chain().train()
    assert measure.peak_memory(model, torch.rand(7, 10)) == 4 * (1000 + 5000 + 7 * (10 + 100 + 100))
    assert model.training
    shared = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    shared[1].weight = shared[0].weight
    assert measure.peak_memory(shared, (torch.rand(1, 4),)) == 4 * (16 + 4 + 4 + 4)


def test_a_meter_that_forgets_nothing_is_caught(monkeypatch):
    honest = measure.peak_memory(chain(), torch.rand(7, 10))
    monkeypatch.setattr(measure._Meter, "_forget", lambda self, place, size: None)
    assert measure.peak_memory(chain(), torch.rand(7, 10)) > honest


def test_gradients_keep_what_the_backward_pass_needs():
    """Two linear layers: the inner result, its gradient and those of the weights are alive together."""
    model = nn.Sequential(nn.Linear(100, 100, bias=False), nn.Tanh(), nn.Linear(100, 100, bias=False))
    one, two, four = (measure.peak_memory(model, torch.rand(n, 100), gradients=True) for n in (1, 2, 4))
    assert measure.peak_memory(model, torch.rand(1, 100)) < one
    assert one >= 4 * 4 * 100 * 100
    assert four - two == 2 * (two - one)
    # An image, its inner result, and the gradient of that.
    assert two - one >= 3 * 400


class Mixed(nn.Module):
    """Products of several kinds, some of which torch takes apart before it counts them."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.recurrent = nn.GRU(8, 6, batch_first=True)
        self.up = nn.ConvTranspose1d(6, 4, 3, groups=2)

    def forward(self, x):
        """[N, L, 8] to [N, 4, L + 2]."""
        seen = nn.functional.scaled_dot_product_attention(x, x, x) + self.attention(x, x, x)[0]
        return self.up(self.recurrent(torch.einsum("nlc,ncd->nld", seen, x.mT @ x))[0].mT)


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (models.build("resnet20"), (2, 3, 32, 32)),
        (models.build("vgg16-bn"), (1, 3, 32, 32)),
        (models.build("resnet-tiny"), (3, 1, 8, 8)),
        (Mixed(), (2, 5, 8)),
        (nn.Conv3d(2, 4, 3, groups=2, stride=2), (2, 2, 7, 7, 7)),
    ],
)
def test_macs_are_half_of_what_torch_counts(model, shape):
    x = torch.rand(shape)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(x)
    assert measure.macs(model, x) == counter.get_total_flops() // (2 * len(x)) > 0


@pytest.mark.slow
def test_sizes_are_measured_without_torchs_compiler():
    code = (
        "import sys, torch\n"
        "from torch import nn\n"
        "from secateur import measure\n"
        "net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 4))\n"
        "measure.macs(net, torch.rand(1, 1, 8, 8))\n"
        "measure.peak_memory(net, torch.rand(1, 1, 8, 8), gradients=True)\n"
        "assert not {'torch._dynamo', 'sympy'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
