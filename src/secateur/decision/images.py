"""The images of a check: those to train on in memory, those to test on in memory or read part by part."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Generator, Tensor, nn

from secateur import models
from secateur.attacks.runner.classifier import PROBED
from secateur.attacks.runner.outputs import Logits
from secateur.data import Dataset, Parts, hold_out
from secateur.data.dataset import numbered
from secateur.data.parts import first_images
from secateur.data.rereading import reread, within_memory
from secateur.data.splits import given_splits, stratified_indices
from secateur.decision.handed import Handed, handed
from secateur.hashing import stream


@dataclass(frozen=True, eq=False)
class Images:
    """The images of a check; ``remarks`` say how they came about, one sentence each."""

    train: Dataset
    validation: Dataset
    test: Dataset | Parts
    remarks: tuple[str, ...] = ()

    @property
    def example(self) -> Tensor:
        """One test image, [1, ...]."""
        return self.test.like.x if isinstance(self.test, Parts) else self.test.x[:1]

    def sample(self, count: int, *, generator: Generator) -> Dataset:
        """``count`` test images, or all if there are fewer, each class in proportion to its share."""
        chosen = stratified_indices(self.test.y, min(count, self.test.n), generator=generator)
        found = self.test.take(chosen)
        return found.whole() if isinstance(found, Parts) else found

    def predicted(self, model: nn.Module) -> Tensor:
        """The class that ``model`` gives to every test image, int64 [N]."""
        if not isinstance(self.test, Parts):
            return models.predict(model, self.test.x, batch_size=128)
        classes = []
        for part in self.test.stream():
            classes.append(models.predict(model, part.x, batch_size=128).cpu())
            # Two parts would be in memory while the next one is read.
            del part
        return torch.cat(classes)


def network_and_images(
    model: nn.Module,
    train: Any,
    validation: Any | None,
    test: Any,
    *,
    logits: Logits = None,
    seed: int,
) -> tuple[Handed, Images]:
    """The network and the images of a check; validation is a tenth of ``train`` unless it is given.

    Data that are not ours have the classes of the network's outputs, with the names that the test images
    state. Of more images to train on than memory holds a random sample is taken.

    Raises:
        UserError: what ``data.of`` refuses, images that the network does not accept, test images that do not
            fit into memory and can be read once only, or data with different shapes.
    """
    known = reread(test, name="test")
    few = first_images(known, PROBED) if isinstance(known, Dataset) else known.like
    network = handed(model, few.x, logits=logits, data=known.name)
    outputs = models.logits(network.asked, few.x[:1]).shape[1]
    names = known.classes if len(known.classes) == outputs or test is known else numbered(outputs)

    def fitted(source: Any, name: str) -> Dataset:
        found = within_memory(source, name=name, generator=stream(seed, f"sample of {name}"))
        return found if found is source else replace(found, classes=names)

    tested = known if test is known else _named(known, names)
    whole = tested if isinstance(tested, Dataset) else _one_of(tested)
    held = None if validation is None else fitted(validation, "validation")
    rest = fitted(train, "train")
    if held is None:
        splits = hold_out(rest, whole, generator=stream(seed, "validation split"))
    else:
        splits = given_splits(rest, held, whole)
    return network, Images(splits.train, splits.validation, tested, splits.remarks)


def _named(images: Dataset | Parts, names: tuple[str, ...]) -> Dataset | Parts:
    def change(part: Dataset) -> Dataset:
        return replace(part, classes=names)

    if isinstance(images, Dataset):
        return change(images)
    return replace(images.changed(change), fingerprint=images.fingerprint)


def _one_of(images: Parts) -> Dataset:
    """One of the images, with a remark on how all are read."""
    said = f"the {images.n:,} test images do not fit into memory: every network reads them part by part"
    return replace(images.like, remarks=(*images.remarks, said))
