"""Train the two narrow ResNet-18 of `benchmarks/attacks.py`: one plainly, one adversarially.

    python benchmarks/attack_networks.py DIR

reads DIR/cifar10.npz and writes resnet18-plain.safetensors and resnet18-robust.safetensors there: eight
channels where ResNet-18 has sixty-four, 10 000 training images, half an hour on one core.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from secateur.data import load, subset
from secateur.models import accuracy, build, initialise
from secateur.recipes import Adversary, Augment, Recipe
from secateur.train import train

WIDTHS = (8, 16, 32, 64)
AUGMENT = Augment(padding=4, flip=True)
RECIPES = {
    "plain": Recipe(16, learning_rate=0.1, augment=AUGMENT),
    # Fast adversarial training, Wong et al. 2020.
    "robust": Recipe(20, learning_rate=0.1, augment=AUGMENT, adversary=Adversary(4 / 255, 5 / 255, steps=1)),
}


def main() -> None:
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    images = load(f"npz:{folder / 'cifar10.npz'}", split="train")
    drawn = subset(images, 11_000, generator=torch.Generator().manual_seed(0))
    order = torch.randperm(drawn.n, generator=torch.Generator().manual_seed(0))
    fitted, validation = drawn.take(order[:10_000]), drawn.take(order[10_000:])
    test = load(f"npz:{folder / 'cifar10.npz'}", split="test")
    for name, recipe in RECIPES.items():
        model = build("resnet18", widths=WIDTHS)
        initialise(model, torch.Generator().manual_seed(0))
        train(model, fitted, validation, recipe, seed=0)
        save_file(model.state_dict(), folder / f"resnet18-{name}.safetensors")
        print(f"resnet18-{name}: {accuracy(model, test.x, test.y):.3f} of the test images right", flush=True)


if __name__ == "__main__":
    main()
