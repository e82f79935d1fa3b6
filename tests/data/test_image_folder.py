"""Which images are trained on and which are attacked, whatever the folders of a data set are called."""

import numpy as np
import pytest
import torch
from PIL import Image

from secateur.data import (
    describe_splits,
    evaluation_split,
    load,
    load_splits,
    open_dataset,
    split_warnings,
    training_split,
)
from secateur.errors import UserError

SIZES = {"train": 20, "validation": 10, "test": 6}
NAMES = {"train": "train", "val": "validation", "valid": "validation", "validation": "validation"}
NAMES |= {"test": "test", "Training": "train", "Testing": "test", "Val": "validation"}


def pictures(folder, n, *, first=0, classes="ab"):
    """``n`` pictures of one grey level each, so that they can be told apart."""
    for index in range(n):
        path = folder / classes[index % len(classes)] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((3, 4), first + index, np.uint8)).save(path)


def laid_out(root, *names):
    """A folder for each name; the pictures of training are 0…, of validation 100…, of test 200…."""
    for name in names:
        part = NAMES[name]
        pictures(root / name, SIZES[part], first=100 * list(SIZES).index(part))
    return f"folder:{root}"


def greys(dataset):
    return set((dataset.x[:, 0, 0, 0] * 255).round().int().tolist())


def cut(spec, seed=0):
    return load_splits(spec, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", ["val", "valid", "validation", "Val"])
def test_beside_train_the_validation_images_are_held_out(tmp_path, name):
    spec = laid_out(tmp_path, "train", name)
    assert greys(load(spec)) == set(range(100, 110)), "what is attacked was not trained on"
    parts = cut(spec)
    assert greys(parts.test) == set(range(100, 110))
    assert greys(parts.train) | greys(parts.validation) == set(range(20))
    assert "the validation split is used as test split" in split_warnings(parts)[0]


def test_three_parts_are_used_as_they_are(tmp_path):
    spec = laid_out(tmp_path, "train", "valid", "test")
    assert greys(load(spec)) == set(range(200, 206))
    parts = cut(spec)
    assert [greys(part) for part in (parts.train, parts.validation, parts.test)] == [
        set(range(20)),
        set(range(100, 110)),
        set(range(200, 206)),
    ]
    assert split_warnings(parts) == []


def test_train_and_test_are_as_they_were(tmp_path):
    parts = cut(laid_out(tmp_path, "Training", "Testing"))
    assert greys(parts.test) == set(range(200, 206))
    assert (parts.train.n, parts.validation.n) == (18, 2)
    assert split_warnings(parts) == []


def test_without_training_images_the_test_images_stay_test_images(tmp_path):
    parts = cut(laid_out(tmp_path, "val", "test"))
    assert greys(parts.test) == set(range(200, 206))
    assert greys(parts.train) | greys(parts.validation) == set(range(100, 110))


@pytest.mark.parametrize("name", ["train", "val", "test"])
def test_a_single_part_is_cut_at_random_and_said_to_be(tmp_path, name):
    parts = cut(laid_out(tmp_path, name))
    assert not greys(parts.train) & greys(parts.test)
    assert f"only a {NAMES[name]} split" in split_warnings(parts)[0]


@pytest.mark.parametrize(
    ("names", "attacked", "fitted"),
    [
        (("train",), "train", "train"),
        (("val",), "validation", "validation"),
        (("train", "val"), "validation", "train"),
        (("train", "test"), "test", "train"),
        (("val", "test"), "test", "validation"),
        (("train", "val", "test"), "test", "train"),
    ],
)
def test_what_is_attacked_and_what_is_fitted(tmp_path, names, attacked, fitted):
    parts = open_dataset(laid_out(tmp_path, *names))
    assert (evaluation_split(parts), training_split(parts)) == (attacked, fitted)
    assert describe_splits(parts).startswith("the data have ")


@pytest.mark.parametrize(
    ("others", "said"),
    [
        (["extra"], "'extra', which is not a split"),
        (["holdout", "unlabelled"], "'holdout', 'unlabelled', which are not splits"),
    ],
)
def test_a_folder_beside_the_parts_that_is_none_is_named(tmp_path, others, said):
    laid_out(tmp_path, "train")
    for other in others:
        pictures(tmp_path / other, 2)
    with pytest.raises(UserError, match=said):
        load(f"folder:{tmp_path}")
    with pytest.raises(UserError, match=said):
        cut(f"folder:{tmp_path}")


def test_folders_of_folders_that_are_no_parts_are_refused(tmp_path):
    pictures(tmp_path / "train_images", 4)
    with pytest.raises(UserError, match=r"'.*train_images' has folders inside: 'a', 'b' .*name the splits"):
        load(f"folder:{tmp_path}")


def test_two_folders_of_one_part_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"'val' and 'valid' in .* are the same split"):
        load(laid_out(tmp_path, "train", "val", "valid"))


def test_a_class_may_be_called_as_a_part_is(tmp_path):
    pictures(tmp_path, 6, classes=("bus", "car", "train"))
    assert load(f"folder:{tmp_path}").classes == ("bus", "car", "train")
    (tmp_path / "bus").rename(tmp_path / "val")
    (tmp_path / "car").rename(tmp_path / "test")
    with pytest.raises(UserError, match="train' has no sub-folders"):
        load(f"folder:{tmp_path}")


def test_what_systems_leave_behind_is_no_class(tmp_path):
    spec = laid_out(tmp_path, "train", "val")
    for name in ("__MACOSX", ".ipynb_checkpoints"):
        (tmp_path / name).mkdir()
        (tmp_path / "val" / name).mkdir()
    assert load(spec).classes == ("a", "b")


@pytest.mark.parametrize(
    ("names", "said"),
    [(("a",), "val' lacks the class 'b' of '.*train'"), (("a", "b", "c"), "train' lacks the class 'c' of")],
)
def test_parts_with_other_classes_are_refused_before_labels_go_wrong(tmp_path, names, said):
    pictures(tmp_path / "train", 4)
    pictures(tmp_path / "val", 6, classes=names)
    with pytest.raises(UserError, match=said):
        load(f"folder:{tmp_path}")


def test_an_empty_folder_stands_for_a_class_without_images_in_a_part(tmp_path):
    pictures(tmp_path / "train", 6, classes="abc")
    pictures(tmp_path / "val", 4, classes="bc")
    (tmp_path / "val" / "a").mkdir()
    held_out = load(f"folder:{tmp_path}")
    assert held_out.classes == ("a", "b", "c")
    assert sorted(set(held_out.y.tolist())) == [1, 2]


def arrays(tmp_path, **parts):
    found = {}
    for part, n in parts.items():
        first = 100 * ["train", "val", "valid", "test"].index(part)
        found[f"x_{part}"] = np.stack([np.full((3, 4), (first + i) % 256, np.uint8) for i in range(n)])
        found[f"y_{part}"] = np.arange(n) % 3
    np.savez(tmp_path / "d.npz", **found)
    return f"npz:{tmp_path / 'd.npz'}"


@pytest.mark.parametrize("name", ["val", "valid"])
def test_arrays_of_validation_images_are_held_out(tmp_path, name):
    spec = arrays(tmp_path, train=20, **{name: 6})
    assert load(spec).n == 6
    assert cut(spec).test.n == 6


def test_arrays_count_their_classes_over_all_parts(tmp_path):
    spec = arrays(tmp_path, train=20, test=2)
    assert load(spec).num_classes == load(spec, split="train").num_classes == 3
    assert cut(spec).test.n == 2


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("x_train", "y_train", "x_test"), "'x_test', but not the labels"),
        (("x_train", "y_train", "y_test"), "'y_test', but not the images"),
        (("x_train", "y_train", "x_dev", "y_dev"), "'x_dev' of an unknown split"),
        (("x_train", "y_train", "x", "y"), "'x' beside arrays of splits"),
        (("x_val", "y_val", "x_valid", "y_valid"), "'x_val' and 'x_valid', which are the same split"),
    ],
)
def test_arrays_that_would_be_left_out_are_refused(tmp_path, names, said):
    np.savez(
        tmp_path / "d.npz", **{name: np.zeros((4, 3, 4) if name[0] == "x" else 4, np.uint8) for name in names}
    )
    with pytest.raises(UserError, match=said):
        load(f"npz:{tmp_path / 'd.npz'}")


def test_an_idx_file_without_its_twin_is_refused(tmp_path):
    for name, header in (
        ("train-images-idx3", 0x803),
        ("train-labels-idx1", 0x801),
        ("t10k-images-idx3", 0x803),
    ):
        shape = (4, 2, 2) if header == 0x803 else (4,)
        words = np.array([header, *shape], ">u4").tobytes()
        (tmp_path / f"{name}-ubyte").write_bytes(words + bytes(int(np.prod(shape))))
    with pytest.raises(UserError, match="t10k-images-idx3-ubyte' has no labels beside it"):
        load(f"idx:{tmp_path}")


def test_hidden_files_are_no_pictures(tmp_path):
    pictures(tmp_path, 6)
    (tmp_path / "a" / ".DS_Store").write_bytes(b"x")
    (tmp_path / "a" / "._0.png").write_bytes(b"not a picture")
    Image.fromarray(np.full((3, 4), 99, np.uint8)).save(tmp_path / "b" / ".trash.png")
    assert greys(load(f"folder:{tmp_path}")) == set(range(6))
