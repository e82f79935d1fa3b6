import pytest

from secateur.data import load_splits, subset
from train.cases import seeded


@pytest.fixture(scope="module")
def splits():
    return load_splits("digits", generator=seeded())


@pytest.fixture(scope="module")
def few(splits):
    return subset(splits.train, 129, generator=seeded()), subset(splits.validation, 50, generator=seeded())
