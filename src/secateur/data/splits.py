"""Stratified, seeded splits of a dataset."""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from secateur.data.dataset import Dataset
from secateur.display import Shown
from secateur.errors import UserError


@dataclass(frozen=True, eq=False, repr=False)
class Splits(Shown):
    """Disjoint images: ``train`` to fit weights, ``validation`` to choose them, ``test`` to report on.

    ``note`` states how they were made, if not in the usual way.

    >>> from secateur.data import load_splits
    >>> splits = load_splits("digits", generator=Generator().manual_seed(0))
    >>> Splits(splits.train, splits.validation, splits.test).note
    ''
    """

    train: Dataset
    validation: Dataset
    test: Dataset
    note: str = ""

    @property
    def remarks(self) -> tuple[str, ...]:
        """The note, and what the sources of the images hold beside them, one sentence each."""
        said = [said for part in (self.train, self.validation, self.test) for said in part.remarks]
        return tuple(dict.fromkeys([self.note, *said] if self.note else said))

    def _shown(self) -> tuple[str, list[tuple[str, str]]]:
        parts = [(name, f"{getattr(self, name).n:,} images") for name in ("train", "validation", "test")]
        return f"Splits of {self.test.name}", [*parts, *(("note", said) for said in self.remarks)]


def subset(dataset: Dataset, n: int, *, generator: Generator) -> Dataset:
    """``n`` images in the dataset's order, each class in proportion to its share (largest remainder).

    Raises:
        UserError: ``n`` is not between 1 and the number of images.

    >>> from secateur.data import load
    >>> subset(load("digits"), 20, generator=Generator().manual_seed(0)).y.bincount().tolist()
    [2, 2, 2, 2, 2, 2, 2, 2, 2, 2]
    """
    if not 1 <= n <= dataset.n:
        raise UserError(f"{n} images requested, but dataset '{dataset.name}' has {dataset.n}")
    return dataset.take(stratified_indices(dataset.y, n, generator=generator))


def split(
    dataset: Dataset, *, fractions: tuple[float, float, float] = (0.7, 0.1, 0.2), generator: Generator
) -> Splits:
    """Split ``dataset`` into train, validation and test, each stratified by class.

    Raises:
        UserError: fractions that are not positive with sum 1, or an empty split.

    >>> from secateur.data import load
    >>> split(load("digits"), generator=Generator().manual_seed(0)).test.n
    359
    """
    if min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise UserError(f"split fractions must be positive and add up to 1, not {fractions}")
    rest, test = cut(dataset, round(fractions[2] * dataset.n), generator)
    train, validation = cut(rest, round(fractions[1] * dataset.n), generator)
    return Splits(train, validation, test)


def hold_out(train: Dataset, test: Dataset, *, fraction: float = 0.1, generator: Generator) -> Splits:
    """Keep an official test split complete, and draw the validation split from the training images.

    Raises:
        UserError: different classes or image shapes, a fraction outside (0, 1), or an empty split.

    >>> from secateur.data import load
    >>> train, test = (load("digits:split", split=name) for name in ("train", "test"))
    >>> hold_out(train, test, generator=Generator().manual_seed(0)).validation.n
    126
    """
    _check_alike(train, test, "test")
    if not 0 < fraction < 1:
        raise UserError(f"the validation fraction must lie between 0 and 1, not {fraction}")
    rest, validation = cut(train, round(fraction * train.n), generator)
    return Splits(rest, validation, test)


def given_splits(train: Dataset, validation: Dataset, test: Dataset) -> Splits:
    """The three splits of a source that has them all.

    Raises:
        UserError: different classes or image shapes.
    """
    _check_alike(train, validation, "validation")
    _check_alike(train, test, "test")
    return Splits(train, validation, test)


def subsample(splits: Splits, sizes: tuple[int, int, int], *, generator: Generator) -> Splits:
    """Keep ``sizes`` images of the train, validation and test splits, each class in proportion to its share.

    Raises:
        UserError: a split has fewer images than requested.
    """
    kept = []
    for name, size in zip(("train", "validation", "test"), sizes, strict=True):
        part: Dataset = getattr(splits, name)
        if size > part.n:
            raise UserError(
                f"{size} {name} images requested, but the {name} split has {part.n}",
                hint="request fewer, or change the fractions",
            )
        kept.append(subset(part, size, generator=generator))
    train, validation, test = kept
    return Splits(train, validation, test, note=splits.note)


def split_warnings(splits: Splits) -> list[str]:
    """Warnings for readers of results on these splits, one sentence each; empty if there are none.

    >>> from secateur.data import load
    >>> split_warnings(split(load("digits"), generator=Generator().manual_seed(0)))
    []
    """
    said = [*splits.remarks]
    # Test images that were trained on inflate every result.
    seen = set(splits.train.image_hashes()) | set(splits.validation.image_hashes())
    if leaked := sum(digest in seen for digest in splits.test.image_hashes()):
        said.append(
            f"{leaked} of {splits.test.n} test images also occur among the training or validation images"
        )
    if torch.unique(splits.test.y).numel() == 1:
        said.append("all test images belong to one class, so accuracy says little about the others")
    return said


def stratified_indices(y: Tensor, n: int, *, generator: Generator) -> Tensor:
    """Sorted indices of ``n`` labels, each class in proportion to its share (largest remainder)."""
    labels, counts = torch.unique(y.cpu(), return_counts=True)
    # Integer arithmetic, so that quotas do not depend on the platform's floating point.
    quota = counts * n // y.numel()
    remainder = counts * n % y.numel()
    missing = n - int(quota.sum())
    quota[torch.argsort(remainder, descending=True, stable=True)[:missing]] += 1
    chosen = []
    for label, size in zip(labels.tolist(), quota.tolist(), strict=True):
        members = (y.cpu() == label).nonzero().flatten()
        chosen.append(members[torch.randperm(members.numel(), generator=generator)[:size]])
    return torch.cat(chosen).sort().values


def random_stratified_indices(y: Tensor, n: int, *, generator: Generator) -> Tensor:
    """Like :func:`stratified_indices`, with ties between classes of equal share broken at random.

    With fewer images than classes, ``stratified_indices`` would always take the first classes.

    >>> y = torch.arange(10)
    >>> len(random_stratified_indices(y, 3, generator=Generator().manual_seed(0)))
    3
    """
    # Renaming the classes at random changes which of equal remainders comes first, and nothing else.
    names = torch.randperm(int(y.max()) + 1, generator=generator)
    return stratified_indices(names[y.cpu()], n, generator=generator)


def _check_alike(train: Dataset, other: Dataset, name: str) -> None:
    if train.classes != other.classes or train.shape != other.shape:
        raise UserError(
            f"the train split ({len(train.classes)} classes of {list(train.shape)}) and the {name} split "
            f"({len(other.classes)} of {list(other.shape)}) differ in classes or image shape",
            hint="both need the same class names, image size and number of channels",
        )


def cut(dataset: Dataset, n: int, generator: Generator) -> tuple[Dataset, Dataset]:
    """All images but ``n``, and those ``n``, each class in proportion to its share. Raises UserError."""
    if not 1 <= n < dataset.n:
        raise UserError(
            f"dataset '{dataset.name}' with {dataset.n} images is too small to be split",
            hint="use more images or other fractions",
        )
    taken = stratified_indices(dataset.y, n, generator=generator)
    rest = torch.ones(dataset.n, dtype=torch.bool)
    rest[taken] = False
    return dataset.take(rest.nonzero().flatten()), dataset.take(taken)
