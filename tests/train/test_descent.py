"""The optimiser of a training."""

import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from secateur.train.descent import Descent


def test_its_steps_are_those_of_torch_to_the_bit():
    networks, optimisers = [], []
    for kind in (Descent, torch.optim.SGD):
        torch.manual_seed(0)
        networks.append(nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)))
        optimisers.append(kind(networks[-1].parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4))
    x, y = torch.rand(20, 6), torch.arange(20) % 3
    for _ in range(5):
        for network, optimiser in zip(networks, optimisers, strict=True):
            optimiser.zero_grad()
            F.cross_entropy(network(x), y).backward()
            optimiser.step()
    first, second = (network.state_dict() for network in networks)
    assert all(torch.equal(first[name], second[name]) for name in first)
    first, second = (optimiser.state_dict() for optimiser in optimisers)
    assert first["param_groups"] == second["param_groups"]
    for number, state in first["state"].items():
        assert torch.equal(state["momentum_buffer"], second["state"][number]["momentum_buffer"])


@pytest.mark.slow
def test_a_training_does_not_load_torchs_compiler():
    code = (
        "import sys, torch\n"
        "from torch import nn\n"
        "from secateur.data import Dataset\n"
        "from secateur.recipes import Adversary, Recipe\n"
        "from secateur.train import train\n"
        "net = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))\n"
        "data = Dataset('drawn', torch.rand(8, 1, 8, 8), torch.arange(8) % 4, tuple('abcd'), None)\n"
        "recipe = Recipe(epochs=1, batch_size=4, adversary=Adversary(epsilon=0.1, step_size=0.1, steps=1))\n"
        "train(net, data, data, recipe, seed=0)\n"
        "assert not {'torch._dynamo', 'sympy'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
