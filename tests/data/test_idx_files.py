import gzip
import struct

import numpy as np
import pytest
import torch
from PIL import Image

from secateur.data import load, load_splits
from secateur.errors import UserError


def write_idx(folder, prefix, images, labels, *, packed=False):
    opened = gzip.open if packed else open
    suffix = ".gz" if packed else ""
    with opened(folder / f"{prefix}-images-idx3-ubyte{suffix}", "wb") as stream:
        stream.write(struct.pack(">IIII", 0x803, *images.shape) + images.tobytes())
    with opened(folder / f"{prefix}-labels-idx1-ubyte{suffix}", "wb") as stream:
        stream.write(struct.pack(">II", 0x801, len(labels)) + labels.tobytes())


def images(n=6, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 5, 4), np.uint8)


LABELS = np.array([3, 1, 4, 1, 5, 9], np.uint8)


@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_give_back_their_pixels_and_labels(tmp_path, packed):
    write_idx(tmp_path, "t10k", images(), LABELS, packed=packed)
    data = load(f"idx:{tmp_path}")
    assert data.shape == (1, 5, 4)
    assert data.y.tolist() == LABELS.tolist()
    assert (data.x[:, 0] * 255).round().to(torch.uint8).numpy().tolist() == images().tolist()
    assert data.levels == 256
    assert data.num_classes == 10


def test_an_idx_folder_may_hold_train_test_or_both(tmp_path):
    write_idx(tmp_path, "t10k", images(), LABELS)
    with pytest.raises(UserError, match="no split 'train' \\(it has: test\\)"):
        load(f"idx:{tmp_path}", split="train")
    write_idx(tmp_path, "train", images(40, seed=1), np.arange(40, dtype=np.uint8) % 10)
    assert load(f"idx:{tmp_path}").n == 6, "without a split, the official test images"
    assert load(f"idx:{tmp_path}", split="train").n == 40
    parts = load_splits(f"idx:{tmp_path}", generator=torch.Generator().manual_seed(0))
    assert (parts.train.n, parts.validation.n, parts.test.n) == (36, 4, 6)


def test_damaged_idx_files_are_refused(tmp_path):
    write_idx(tmp_path, "t10k", images(), LABELS)
    path = tmp_path / "t10k-images-idx3-ubyte"
    whole = path.read_bytes()
    for content, said in [
        (whole[:-1], "damaged"),
        (whole + b"x", "damaged"),
        (b"\0\0\x08\x01" + whole[4:], "not an IDX file"),
        (b"", "not an IDX file"),
        (whole[:4] + struct.pack(">I", 2**31) + whole[8:], "damaged"),
        (whole[:4] + struct.pack(">III", 2**31, 2**31, 4), "promises 18446744073709551616 bytes, it has 0"),
        (whole[:4] + struct.pack(">III", 6, 0, 8), "have no pixels"),
    ]:
        path.write_bytes(content)
        with pytest.raises(UserError, match=said):
            load(f"idx:{tmp_path}")


def test_unequal_numbers_of_images_and_labels_are_refused(tmp_path):
    write_idx(tmp_path, "t10k", images(5), LABELS)
    with pytest.raises(UserError, match=r"5 images, but .* 6 labels"):
        load(f"idx:{tmp_path}")


@pytest.mark.parametrize("cut", [20, -4])
def test_a_truncated_gzip_is_refused(tmp_path, cut):
    write_idx(tmp_path, "t10k", images(), LABELS, packed=True)
    path = tmp_path / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(UserError, match="cannot be read"):
        load(f"idx:{tmp_path}")


def test_a_gzip_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("secateur.data.idx_files.MAX_BYTES", 100)
    write_idx(tmp_path, "t10k", np.zeros((6, 50, 40), np.uint8), LABELS, packed=True)
    with pytest.raises(UserError, match="refused"):
        load(f"idx:{tmp_path}")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("idx", "needs a folder"),
        ("idx:/nowhere/at/all", "there is no folder"),
        ("digits:here", "built in"),
        ("digist", "unknown dataset 'digist' \\(did you mean 'digits'"),
    ],
)
def test_a_wrong_name_or_folder_is_refused(spec, said):
    with pytest.raises(UserError, match=said):
        load(spec)


def test_an_idx_folder_without_files_says_what_is_expected(tmp_path):
    with pytest.raises(UserError, match="t10k-images"):
        load(f"idx:{tmp_path}")


def picture(path, seed, *, mode="RGB", size=(4, 5)):
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (*size[::-1], 3) if mode == "RGB" else size[::-1]
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8), mode=None).save(path)
    return path


def test_a_folder_of_pictures_gives_classes_in_alphabetical_order(tmp_path):
    for label, name in enumerate(["cat", "ant", "bee"]):
        for index in range(label + 1):
            picture(tmp_path / name / f"{index}.png", 10 * label + index)
    data = load(f"folder:{tmp_path}")
    assert data.classes == ("ant", "bee", "cat")
    assert data.y.tolist() == [0, 0, 1, 1, 1, 2]
    assert data.shape == (3, 5, 4)
    cat = np.asarray(Image.open(tmp_path / "cat" / "0.png")).transpose(2, 0, 1)
    assert (data.x[5] * 255).round().to(torch.uint8).numpy().tolist() == cat.tolist()
    assert data.x.is_contiguous()


def test_renaming_pictures_changes_nothing(tmp_path):
    for index in range(4):
        picture(tmp_path / "a" / f"{index}.png", index)
        picture(tmp_path / "b" / f"{index}.png", 10 + index)
    before = load(f"folder:{tmp_path}").fingerprint
    for index in range(4):
        (tmp_path / "a" / f"{index}.png").rename(tmp_path / "a" / f"x{9 - index}.png")
    assert load(f"folder:{tmp_path}").fingerprint == before
    (tmp_path / "a" / "x9.png").rename(tmp_path / "b" / "x9.png")
    assert load(f"folder:{tmp_path}").fingerprint != before, "another label is another dataset"


def test_grey_pictures_give_one_channel_and_mixed_ones_three(tmp_path):
    picture(tmp_path / "a" / "0.png", 0, mode="L")
    picture(tmp_path / "b" / "0.png", 1, mode="L")
    assert load(f"folder:{tmp_path}").shape == (1, 5, 4)
    picture(tmp_path / "b" / "1.png", 2)
    data = load(f"folder:{tmp_path}")
    assert data.shape == (3, 5, 4)
    assert torch.equal(data.x[0, 0], data.x[0, 2])


def test_train_and_test_folders_are_kept_apart(tmp_path):
    for index in range(10):
        picture(tmp_path / "train" / "ab"[index % 2] / f"{index}.png", index)
    picture(tmp_path / "test" / "a" / "0.png", 20)
    picture(tmp_path / "test" / "b" / "0.png", 21)
    assert load(f"folder:{tmp_path}").n == 2
    parts = load_splits(f"folder:{tmp_path}", generator=torch.Generator().manual_seed(0))
    assert (parts.train.n, parts.validation.n, parts.test.n) == (9, 1, 2)


def test_unusable_folders_are_refused(tmp_path):
    with pytest.raises(UserError, match="no sub-folders"):
        load(f"folder:{tmp_path}")
    (tmp_path / "a").mkdir()
    with pytest.raises(UserError, match="has no images"):
        load(f"folder:{tmp_path}")
    picture(tmp_path / "a" / "0.png", 0)
    picture(tmp_path / "b" / "0.png", 0, size=(7, 7))
    with pytest.raises(UserError, match="different sizes"):
        load(f"folder:{tmp_path}")
    (tmp_path / "b" / "0.png").write_text("<html>not found</html>")
    with pytest.raises(UserError, match="not a readable image"):
        load(f"folder:{tmp_path}")


def test_train_and_test_with_different_classes_are_refused(tmp_path):
    for part, names in [("train", "ab"), ("test", "ac")]:
        for name in names:
            for index in range(5):
                picture(tmp_path / part / name / f"{index}.png", index)
    with pytest.raises(UserError, match="lacks the class 'b' of"):
        load_splits(f"folder:{tmp_path}", generator=torch.Generator().manual_seed(0))


def test_the_official_mnist_test_images_are_read(shared):
    data = load(f"idx:{shared / 'mnist'}")
    assert (data.n, data.shape) == (10_000, (1, 28, 28))
    assert data.y[:5].tolist() == [7, 2, 1, 0, 4]
