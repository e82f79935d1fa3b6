"""The images that a criterion looks at."""

from torch import Generator, Tensor, nn

from secateur.data import Dataset, subset
from secateur.recipes import Adversary
from secateur.registry import CRITERIA
from secateur.train import perturb

# How many images a criterion looks at.
IMAGES = 256
# What robust_taylor attacks with where the network was not trained adversarially.
ADVERSARY = Adversary(epsilon=8 / 255, step_size=2 / 255, steps=10)


def needs_images(criterion: str) -> bool:
    """Whether the criterion called so looks at images. Raises UserError when there is none of that name."""
    return bool(CRITERIA.entry(criterion).facts.get("needs_batch"))


def evidence(
    criterion: str,
    model: nn.Module,
    images: Dataset,
    *,
    generator: Generator,
    adversary: Adversary | None = None,
) -> tuple[Tensor, Tensor] | None:
    """Up to 256 images with their labels, stratified, for a criterion that looks at data; else None.

    For one that looks at adversarial images they are made by ``adversary``, by default L-infinity 8/255.
    """
    if not needs_images(criterion):
        return None
    chosen = subset(images, min(images.n, IMAGES), generator=generator)
    if CRITERIA.entry(criterion).facts["needs_batch"] != "adversarial":
        return chosen.x, chosen.y
    how = adversary or ADVERSARY
    attacked = perturb(model, chosen.x, chosen.y, adversary=how, generator=generator, bounds=chosen.bounds)
    return attacked, chosen.y
