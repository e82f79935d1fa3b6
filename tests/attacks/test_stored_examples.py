"""An example counts as it is stored, in float32, also for a network that computes in float64."""

import math

import pytest
import torch
from torch import nn

import secateur
from secateur.data import Dataset


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize(("name", "norm"), [("fmn", math.inf), ("fmn", 2.0), ("steep", 2.0), ("ddn", 2.0)])
def test_every_example_of_a_float64_network_fools_it_as_it_is_returned(name, norm):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).double().eval()
    # So many images that the boundary falls between an example and its rounding for one of them.
    x = torch.rand(1000, 1, 2, 2, generator=torch.Generator().manual_seed(1))
    y = model(x.double()).argmax(1)
    data = Dataset("toy", x, y, ("a", "b"), None)
    result = secateur.attacks.run(model, data, name, norm=norm, steps=300, batch_size=1000)
    fools = model(result.adv.double()).argmax(1) != y
    found = result.adv_success & ~result.ori_success
    assert found.all()
    assert fools[found].all()
    exact = torch.linalg.vector_norm((result.adv.double() - x.double()).flatten(1), norm, dim=1)
    assert torch.allclose(result.distance, exact, rtol=1e-5, atol=1e-7)
