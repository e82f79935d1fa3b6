"""Train the networks that the package ships, and write them where ``shipped:NAME`` finds them.

usage: python benchmarks/ship_digits.py

Both are ``resnet-tiny`` networks, trained on the train part of ``digits:split``: one plainly, one on
adversarial images (L∞, ε = 0.15). A tenth of the train part chooses the epoch. Prints accuracy on the 540
test images.
"""

from pathlib import Path

import torch
from safetensors.torch import save_file

import secateur
from secateur import data, models
from secateur.data.splits import hold_out
from secateur.recipes import Adversary, Recipe
from secateur.train import train

FOLDER = Path(secateur.__file__).parent / "models" / "shipped"
PLAIN = Recipe(epochs=20, batch_size=64, learning_rate=0.1)
ROBUST = Recipe(
    epochs=20, batch_size=64, learning_rate=0.1, adversary=Adversary(epsilon=0.15, step_size=0.04, steps=7)
)


def main() -> None:
    parts = data.open_dataset("digits:split")
    splits = hold_out(parts["train"](), parts["test"](), generator=torch.Generator().manual_seed(0))
    FOLDER.mkdir(exist_ok=True)
    for name, recipe in (("digits-plain", PLAIN), ("digits-robust", ROBUST)):
        model = models.build("resnet-tiny", in_channels=1)
        train(model, splits.train, splits.validation, recipe, seed=0)
        save_file(model.state_dict(), FOLDER / f"{name}.safetensors")
        result = secateur.attack(model, splits.test, "pgd", norm=float("inf"), eps=0.1, steps=20)
        clean = models.accuracy(model, splits.test.x, splits.test.y)
        robust = 1 - result.result.adv_success.double().mean().item()
        print(f"{name}: accuracy {clean:.4f}, against PGD at 0.1 {robust:.4f}")


if __name__ == "__main__":
    main()
