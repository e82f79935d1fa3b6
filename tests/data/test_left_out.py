"""Pictures that a folder holds and a data set does not: each is said, or refused, and none is dropped."""

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from secateur import data
from secateur.cli.app import app
from secateur.data import left_out as said_by
from secateur.data.image_folder import left_out
from secateur.errors import UserError


def picture(path, grey=7):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8), grey, np.uint8)).save(path, format="PNG")
    return path


@pytest.fixture
def classes(tmp_path):
    for at, name in enumerate(("cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png")):
        picture(tmp_path / name, at)
    return tmp_path


def laid(root, *names):
    for name in names:
        picture(root / name)


LOOSE = "2 pictures lie beside the class folders of '{}', such as 'a.png': without a class, they are left out"


def test_pictures_beside_the_class_folders_are_counted_and_one_is_named(classes):
    assert data.load(f"folder:{classes}").remarks == ()
    laid(classes, "a.png", "b.jpg")
    (classes / "labels.csv").write_text("1,cat\n")
    (classes / ".hidden.png").write_bytes(b"x")
    images = data.load(f"folder:{classes}")
    assert images.remarks == (LOOSE.format(classes),) == left_out(str(classes))
    assert images.n == 4
    assert images.take([0, 3]).remarks == images.remarks
    assert "beside the class folders" in str(images)


def test_a_folder_that_forgets_its_loose_pictures_is_caught(classes, monkeypatch):
    laid(classes, "a.png", "b.jpg")
    monkeypatch.setattr(said_by, "SUFFIXES", set())
    monkeypatch.setattr(said_by, "OTHERS", set())
    monkeypatch.setattr(said_by, "_BEGINS", said_by.re.compile(b"nothing"))
    assert data.load(f"folder:{classes}").remarks != (LOOSE.format(classes),)


def test_beside_splits_and_in_them(tmp_path):
    laid(
        tmp_path,
        *(f"{part}/{name}/{at}.png" for part in ("train", "test") for name in "ab" for at in range(5)),
    )
    laid(tmp_path, "x.png", "test/y.png")
    test, train = (data.load(f"folder:{tmp_path}", split=part).remarks for part in ("test", "train"))
    assert test[0].startswith("2 pictures lie beside")
    assert train[0].startswith("1 picture lies beside")
    assert "such as 'x.png': without a class, it is left out" in train[0]
    splits = data.load_splits(f"folder:{tmp_path}", generator=torch.Generator().manual_seed(0))
    assert set(splits.remarks) == {*test, *train} == set(left_out(str(tmp_path)))
    assert set(splits.remarks) <= set(data.split_warnings(splits))


@pytest.mark.parametrize("name", ["photo", "photo.heic", "photo.jfif", "photo.dat"])
def test_pictures_with_other_names_in_class_folders_are_named(classes, name):
    (classes / "dog" / name).write_bytes(picture(classes / "dog" / "1.png").read_bytes())
    (classes / "dog" / "notes.txt").write_text("P5 is a format, BM another")
    (said,) = data.load(f"folder:{classes}").remarks
    assert said.startswith(
        f"1 picture in the class folders of '{classes}' is left out, such as 'dog/{name}': only .bmp,"
    )


def test_a_class_whose_pictures_have_other_names_is_no_empty_class(tmp_path):
    laid(
        tmp_path,
        *(f"{part}/{name}/{at}.png" for part in ("train", "test") for name in "ab" for at in range(5)),
    )
    for path in sorted((tmp_path / "test" / "b").iterdir()):
        path.rename(path.with_suffix(".heic"))
    (said,) = data.load(f"folder:{tmp_path}").remarks
    assert said.startswith("5 pictures in the class folders")
    assert "'test/b/0.heic'" in said


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            lambda root: (root / "cat" / "3.png").symlink_to(root / "gone.png"),
            "cat/3.png' is not a readable image",
        ),
        (lambda root: (root / "cat" / "3.png").write_bytes(b"\x89PNG"), "cat/3.png' is not a readable image"),
        (lambda root: laid(root, "cat/more/3.png"), "has folders inside: 'more'"),
        (lambda root: (root / "eel").mkdir(), "class folder '.*eel' has no images"),
    ],
    ids=["broken link", "damaged", "sub-sub-folder", "empty class"],
)
def test_what_would_be_dropped_is_refused_by_name(classes, spoil, said):
    spoil(classes)
    with pytest.raises(UserError, match=said):
        data.load(f"folder:{classes}")


def test_the_command_line_says_it(classes):
    laid(classes, "a.png", "b.jpg")
    command = ["evaluate", "--model", "smallcnn", "--data", f"folder:{classes}"]
    shown = " ".join(CliRunner().invoke(app, command).output.split())
    assert f"folders of '{classes}', such as 'a.png': without a class, they are left out" in shown
