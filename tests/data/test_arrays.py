import gzip
import hashlib
import os
import random
import struct
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from secateur.data import idx_files, load, load_splits, of, save_npz
from secateur.errors import UserError


def images(n, seed=0, shape=(6, 5, 3)):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), np.uint8)


@pytest.mark.parametrize(("shape", "channels"), [((6, 5, 3), 3), ((3, 6, 5), 3), ((6, 5), 1), ((6, 5, 1), 1)])
def test_arrays_of_any_usual_layout_are_read(tmp_path, shape, channels):
    x = images(7, shape=shape)
    np.savez(tmp_path / "d.npz", x=x, y=np.arange(7) % 3)
    data = load(f"npz:{tmp_path / 'd.npz'}")
    assert data.shape == (channels, 6, 5)
    assert (data.levels, data.num_classes) == (256, 3)
    first = x[0] if shape[0] == 3 else np.atleast_3d(x[0]).transpose(2, 0, 1)
    assert np.array_equal((data.x[0] * 255).round().to(torch.uint8).numpy(), first)


def test_floating_point_arrays_have_no_grey_levels(tmp_path):
    x = np.random.default_rng(0).random((4, 6, 5, 3))
    np.savez(tmp_path / "d.npz", x=x, y=np.arange(4), classes=np.array(["a", "b", "c", "d"]))
    data = load(f"npz:{tmp_path / 'd.npz'}")
    assert (data.levels, data.classes) == (None, ("a", "b", "c", "d"))
    assert np.allclose(data.x[1].numpy(), x[1].transpose(2, 0, 1))
    np.savez(tmp_path / "d.npz", x=x * 255, y=np.arange(4))
    with pytest.raises(UserError, match="outside"):
        load(f"npz:{tmp_path / 'd.npz'}")


def test_train_and_test_arrays_are_kept_apart(tmp_path):
    np.savez(
        tmp_path / "d.npz",
        x_train=images(20),
        y_train=np.arange(20) % 2,
        x_test=images(6, 1),
        y_test=np.arange(6) % 2,
    )
    parts = load_splits(f"npz:{tmp_path / 'd.npz'}", generator=torch.Generator().manual_seed(0))
    assert (parts.train.n, parts.validation.n, parts.test.n) == (18, 2, 6)


class Payload:
    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.system, (f"touch {self.trace}",)


def test_an_array_that_needs_pickle_is_refused_and_not_run(tmp_path):
    trace = tmp_path / "it-ran"
    np.savez(tmp_path / "d.npz", x=np.array([Payload(trace)], dtype=object), y=np.arange(1))
    with pytest.raises(UserError, match="needs pickle, which would execute code"):
        load(f"npz:{tmp_path / 'd.npz'}")
    assert not trace.exists()


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"a": images(2)}, "has neither x and y"),
        ({"x": images(2), "y": np.arange(3)}, r"labels \[N\]"),
        ({"x": images(2), "y": np.array([0.5, 1])}, "one-dimensional integers"),
        ({"x": images(2), "y": np.array([[0], [1]])}, "one-dimensional integers"),
        ({"x": images(2), "y": np.array([0, -1])}, "image 1 has label -1"),
        ({"x": images(2).astype(np.int32), "y": np.arange(2)}, "expected uint8, uint16 or floating point"),
        ({"x": images(2, shape=(6, 5, 4)), "y": np.arange(2)}, "1 or 3 channels"),
        ({"x": images(0), "y": np.arange(0)}, "'y' holds no labels"),
        ({"x": images(2), "y": np.array([0, 10**9])}, "the largest label is 1000000000"),
        (
            {"x": images(2), "y": np.array([0, 2**64 - 1], np.uint64)},
            "the largest label is 18446744073709551615",
        ),
        ({"x": images(2), "y": np.arange(2), "classes": np.array("ab")}, "'classes' must be one-dimensional"),
        ({"x": images(2, shape=(6, 0, 3)), "y": np.arange(2)}, "have no pixels"),
    ],
)
def test_unusable_arrays_are_refused(tmp_path, arrays, said):
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(UserError, match=said):
        load(f"npz:{tmp_path / 'd.npz'}")


def test_what_is_no_array_file_is_refused(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="there is no file"):
        load(f"npz:{tmp_path / 'd.npz'}")
    (tmp_path / "d.npz").write_bytes(b"not a zip")
    with pytest.raises(UserError, match=r"not a readable \.npz"):
        load(f"npz:{tmp_path / 'd.npz'}")
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY broken")
        archive.writestr("y.npy", b"")
    with pytest.raises(UserError, match="cannot be read"):
        load(f"npz:{tmp_path / 'd.npz'}")
    monkeypatch.setattr("secateur.data.arrays.MAX_BYTES", 10)
    np.savez_compressed(tmp_path / "d.npz", x=np.zeros((9, 6, 5), np.uint8), y=np.arange(9))
    with pytest.raises(UserError, match="refused"):
        load(f"npz:{tmp_path / 'd.npz'}")


def test_packing_a_folder_of_pictures_keeps_its_parts_and_fingerprints(tmp_path):
    for part, n in (("train", 6), ("test", 4)):
        for index, image in enumerate(images(n, seed=n)):
            path = tmp_path / "pictures" / part / "ab"[index % 2] / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    save_npz(f"folder:{tmp_path / 'pictures'}", tmp_path / "packed.npz")
    for part in ("train", "test"):
        before = load(f"folder:{tmp_path / 'pictures'}", split=part)
        after = load(f"npz:{tmp_path / 'packed.npz'}", split=part)
        assert after.fingerprint == before.fingerprint
        assert after.classes == before.classes == ("a", "b")


def test_packing_needs_8_bit_or_16_bit_images(tmp_path):
    with pytest.raises(UserError, match="no 8-bit or 16-bit images"):
        save_npz("digits", tmp_path / "d.npz")


def test_svhn_files_are_read_and_ten_means_zero(tmp_path):
    x = images(5, shape=(32, 32, 3)).transpose(1, 2, 3, 0)
    savemat(tmp_path / "test_32x32.mat", {"X": x, "y": np.array([[1], [10], [2], [9], [10]], np.uint8)})
    data = load(f"svhn:{tmp_path}")
    assert data.y.tolist() == [1, 0, 2, 9, 0]
    assert data.shape == (3, 32, 32)
    assert np.array_equal((data.x[2] * 255).round().to(torch.uint8).numpy(), x[..., 2].transpose(2, 0, 1))


def test_damaged_svhn_files_are_refused(tmp_path):
    with pytest.raises(UserError, match="no SVHN files"):
        load(f"svhn:{tmp_path}")
    path = tmp_path / "test_32x32.mat"
    savemat(path, {"X": np.zeros((28, 28, 3, 2), np.uint8), "y": np.ones((2, 1), np.uint8)})
    with pytest.raises(UserError, match="not the SVHN file"):
        load(f"svhn:{tmp_path}")
    savemat(path, {"Z": np.zeros(3)})
    with pytest.raises(UserError, match="not a readable SVHN file"):
        load(f"svhn:{tmp_path}")
    for content in (b"", b"<html></html>" * 50, path.read_bytes()[:200]):
        path.write_bytes(content)
        with pytest.raises(UserError, match="not a readable SVHN file"):
            load(f"svhn:{tmp_path}")


def fashion(folder):
    for name in idx_files.FASHION_SHA256:
        images_file = "images" in name
        header = struct.pack(">IIII", 0x803, 10, 28, 28) if images_file else struct.pack(">II", 0x801, 10)
        body = images(10, shape=(28, 28)).tobytes() if images_file else bytes(range(10))
        with gzip.open(folder / name, "wb") as stream:
            stream.write(header + body)


def test_fashion_mnist_is_the_official_files_or_refused(tmp_path, monkeypatch):
    fashion(tmp_path)
    with pytest.raises(UserError, match="is not the official file"):
        load(f"fashion-mnist:{tmp_path}")
    hashes = {
        name: hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in idx_files.FASHION_SHA256
    }
    monkeypatch.setattr(idx_files, "FASHION_SHA256", hashes)
    data = load(f"fashion-mnist:{tmp_path}")
    assert (data.name, data.n, data.classes[9]) == ("fashion-mnist", 10, "Ankle boot")
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(b"")
    with pytest.raises(UserError, match="is unpacked"):
        load(f"fashion-mnist:{tmp_path}")


def pictures(folder, suffix):
    (folder / "a").mkdir()
    Image.fromarray(images(1, shape=(8, 8, 3))[0]).save(folder / "a" / f"x{suffix}")
    return f"folder:{folder}", folder / "a" / f"x{suffix}"


def array_file(folder, save):
    save(folder / "d.npz", x=images(7), y=np.arange(7) % 3)
    return f"npz:{folder / 'd.npz'}", folder / "d.npz"


def mat_file(folder):
    x, path = images(4, shape=(32, 32, 3)).transpose(1, 2, 3, 0), folder / "test_32x32.mat"
    savemat(path, {"X": x, "y": np.ones((4, 1), np.uint8)}, do_compression=True)
    return f"svhn:{folder}", path


@pytest.mark.slow
@pytest.mark.parametrize(
    "write",
    [
        *(
            lambda folder, suffix=suffix: pictures(folder, suffix)
            for suffix in (".png", ".jpg", ".tif", ".bmp")
        ),
        lambda folder: array_file(folder, np.savez),
        lambda folder: array_file(folder, np.savez_compressed),
        mat_file,
    ],
    ids=["png", "jpg", "tif", "bmp", "npz", "packed npz", "mat"],
)
def test_a_file_damaged_anywhere_is_read_or_refused_in_one_sentence(tmp_path, write):
    spec, path = write(tmp_path)
    whole, chance, said = path.read_bytes(), random.Random(0), []
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(chance.choice([1, 1, 2, 8])):
            damaged[chance.randrange(chance.choice([len(whole), min(200, len(whole))]))] = chance.randrange(
                256
            )
        path.write_bytes(damaged[: chance.choice([None, None, None, chance.randrange(len(whole))])])
        try:
            load(spec)
        except UserError as error:
            said.append(str(error))
    assert len(said) > 10
    assert not any("\n" in sentence for sentence in said)


@pytest.mark.parametrize("shape", [(3, 1, 1), (3, 16, 1), (1, 8, 1), (3, 8, 3)])
def test_narrow_pictures_with_their_channels_first_stay_as_they_are(tmp_path, shape):
    x = np.random.default_rng(0).random((4, *shape), dtype=np.float32)
    np.savez(tmp_path / "d.npz", x=x, y=np.arange(4) % 2)
    data = load(f"npz:{tmp_path / 'd.npz'}")
    assert data.shape == shape
    assert of((x, np.arange(4) % 2)).fingerprint == data.fingerprint
