import pytest
import torch

from secateur import data, models
from secateur.decision import check
from secateur.recipes import Distillation, Recipe


@pytest.fixture(scope="session")
def digits():
    """Train and test images of the shipped networks, few enough for a quick check."""
    parts = {name: data.load("digits:split", split=name) for name in ("train", "test")}
    generator = torch.Generator().manual_seed(0)
    return data.subset(parts["train"], 400, generator=generator), data.subset(
        parts["test"], 120, generator=generator
    )


@pytest.fixture
def dense():
    return models.resolve("shipped:digits-plain")


@pytest.fixture
def quick(dense, digits):
    """A check that takes about a second."""

    def call(**options):
        recipe = Recipe(
            epochs=2, learning_rate=0.01, recalibrate=True, distillation=Distillation(), checkpoint_every=1
        )
        options = {"recipe": recipe, "images": 40, "steps": 20, "budgets": {"linf": [0.05]}, **options}
        return check(options.pop("model", dense), *options.pop("images_of", digits), **options)

    return call
