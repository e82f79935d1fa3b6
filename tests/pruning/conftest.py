"""What tests of criteria share."""

from types import SimpleNamespace

import pytest
import torch

import secateur
from pruning.channels import Net, seeded
from secateur.pruning.calibration_stats import CalibrationStats


@pytest.fixture
def case():
    model = Net()
    secateur.models.initialise(model, seeded())
    with torch.no_grad():
        for layer in (model.bn1, model.bn2):
            layer.weight.normal_(generator=seeded(1))
            layer.bias.normal_(generator=seeded(2))
    x = torch.rand(12, 1, 8, 8, generator=seeded(3))
    y = torch.randint(0, 3, (12,), generator=seeded(4))
    graph = secateur.trace(model, x[:2])
    return SimpleNamespace(
        model=model, x=x, y=y, graph=graph, calibration=CalibrationStats(model, x, y, batch_size=5)
    )
