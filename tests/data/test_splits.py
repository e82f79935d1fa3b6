import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.data import Dataset, hold_out, load, load_splits, split, split_warnings, splits, subset
from secateur.errors import UserError


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def numbered(labels):
    """Images that carry their own index, so that parts can be compared."""
    n = len(labels)
    x = (torch.arange(n) / n).reshape(n, 1, 1, 1)
    return Dataset("toy", x, torch.tensor(labels), tuple("abcdef"), levels=None)


def indices(dataset, n):
    return (dataset.x.flatten() * n).round().int().tolist()


def test_the_parts_of_a_split_are_disjoint_and_complete():
    digits = load("digits")
    parts = split(digits, generator=seeded())
    hashes = [set(part.image_hashes()) for part in (parts.train, parts.validation, parts.test)]
    assert (parts.train.n, parts.validation.n, parts.test.n) == (1258, 180, 359)
    assert len(hashes[0] | hashes[1] | hashes[2]) == len(set(digits.image_hashes()))
    assert not hashes[0] & hashes[1]
    assert not (hashes[0] | hashes[1]) & hashes[2]


def test_the_same_seed_gives_the_same_split_and_another_seed_another():
    first, again, other = (load_splits("digits", generator=seeded(seed)) for seed in (0, 0, 1))
    assert first.test.fingerprint == again.test.fingerprint
    assert first.train.fingerprint == again.train.fingerprint
    assert first.test.fingerprint != other.test.fingerprint


@given(
    labels=st.lists(st.integers(0, 5), min_size=2, max_size=60),
    share=st.floats(0.01, 1),
    seed=st.integers(0, 2**31),
)
def test_a_subset_has_each_class_within_one_image_of_its_share(labels, share, seed):
    check_shares(labels, share, seed)


def check_shares(labels, share, seed):
    data = numbered(labels)
    n = max(1, round(share * data.n))
    chosen = subset(data, n, generator=seeded(seed))
    places = indices(chosen, data.n)
    assert chosen.n == n == len(set(places))
    assert places == sorted(places), "the order of the dataset is kept"
    counts, all_counts = torch.bincount(chosen.y, minlength=6), torch.bincount(data.y, minlength=6)
    assert ((counts - all_counts * n / data.n).abs() < 1).all()


def test_a_subset_of_everything_is_everything():
    digits = load("digits")
    assert subset(digits, digits.n, generator=seeded()).fingerprint == digits.fingerprint


def test_a_draw_that_ignores_the_classes_would_be_noticed(monkeypatch):
    def careless(y, n, *, generator):
        return torch.arange(n)

    monkeypatch.setattr(splits, "stratified_indices", careless)
    with pytest.raises(AssertionError):
        check_shares([0, 0, 0, 1, 1, 1], 0.5, seed=0)


@pytest.mark.parametrize("n", [0, -1, 1798])
def test_a_subset_of_an_impossible_size_is_refused(n):
    with pytest.raises(UserError, match=f"{n} images requested, but dataset 'digits' has 1797"):
        subset(load("digits"), n, generator=seeded())


@pytest.mark.parametrize("fractions", [(0.5, 0.5, 0.5), (1.0, 0.0, 0.0), (0.9, 0.2, -0.1)])
def test_impossible_fractions_are_refused(fractions):
    with pytest.raises(UserError, match="fractions"):
        split(load("digits"), fractions=fractions, generator=seeded())


def test_too_few_images_to_split_are_refused():
    with pytest.raises(UserError, match="too small to be split"):
        split(numbered([0, 1]), generator=seeded())


def test_holding_out_leaves_the_official_test_part_alone():
    train, test = numbered([0, 1] * 20), numbered([1, 0])
    parts = hold_out(train, test, fraction=0.25, generator=seeded())
    assert parts.test is test
    assert (parts.train.n, parts.validation.n) == (30, 10)
    assert not set(indices(parts.train, 40)) & set(indices(parts.validation, 40))


def test_images_shared_between_train_and_test_are_counted():
    data = numbered([0, 1] * 10)
    parts = hold_out(data, data.take([3, 4]), fraction=0.2, generator=seeded())
    assert any(sentence.startswith("2 of 2 test images also occur") for sentence in split_warnings(parts))


def test_a_test_part_of_one_class_is_pointed_out():
    data = numbered([0, 1] * 10)
    other = Dataset(
        "other", torch.rand(2, 1, 1, 1, generator=seeded()), torch.tensor([1, 1]), data.classes, None
    )
    assert any(
        "one class" in sentence for sentence in split_warnings(hold_out(data, other, generator=seeded()))
    )


def test_clean_splits_have_no_findings():
    assert split_warnings(split(load("digits"), generator=seeded())) == []


def test_sizes_keep_that_many_images_of_each_part_by_class():
    parts = load_splits("digits", sizes=(100, 20, 50), generator=seeded())
    assert (parts.train.n, parts.validation.n, parts.test.n) == (100, 20, 50)
    assert torch.bincount(parts.test.y).tolist() == [5] * 10
    whole = load_splits("digits", generator=seeded())
    assert set(parts.test.image_hashes()) <= set(whole.test.image_hashes())
    assert set(parts.train.image_hashes()) <= set(whole.train.image_hashes())


def test_a_size_beyond_its_part_is_refused_by_name():
    with pytest.raises(UserError, match=r"400 test images requested, but the test split has 359"):
        load_splits("digits", sizes=(100, 20, 400), generator=seeded())
