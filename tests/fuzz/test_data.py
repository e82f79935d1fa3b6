"""Pictures, archives and files of labels with damaged bytes: images, or one sentence that names the file."""

import gzip
import io
import os
import random
import struct
import zipfile

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from fuzz.mutate import damaged
from secateur.data import load
from secateur.data.images import read_image
from secateur.errors import UserError

ROUNDS = 1000 if os.environ.keys() & {"CI", "SLOW"} else 150
DRAWN = np.random.default_rng(0)
GREY = DRAWN.integers(0, 256, (12, 10), np.uint8)
COLOUR = DRAWN.integers(0, 256, (12, 10, 3), np.uint8)


def picture(kind, pixels, **how):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format=kind, **how)
    return stream.getvalue()


PICTURES = {
    "png": picture("PNG", COLOUR),
    "deep.png": picture("PNG", GREY.astype(np.uint16) * 257),
    "jpg": picture("JPEG", COLOUR),
    "progressive.jpg": picture("JPEG", COLOUR, progressive=True),
    "bmp": picture("BMP", COLOUR),
    "gif": picture("GIF", GREY),
    "pgm": picture("PPM", GREY),
    "tif": picture("TIFF", COLOUR),
    "packed.tif": picture("TIFF", GREY, compression="tiff_lzw"),
    "float.tif": picture("TIFF", np.float32(GREY) / 255),
    "webp": picture("WEBP", COLOUR),
}


def answer(read, name, seed):
    """What is said about a file; nothing if it is read."""
    try:
        read()
    except UserError as refused:
        return refused.message
    except Exception as error:
        raise AssertionError(f"seed {seed}, {name}: {type(error).__name__}: {error}") from error
    return ""


@pytest.mark.slow
@pytest.mark.parametrize("name", PICTURES)
def test_damaged_pictures_are_read_or_refused(tmp_path, name):
    path = tmp_path / f"picture.{name}"
    for seed in range(ROUNDS):
        path.write_bytes(damaged(PICTURES[name], random.Random(seed)))
        said = answer(lambda: read_image(path), name, seed)
        assert len(said.splitlines()) <= 1, (seed, said)
        assert not said or path.name in said
    assert [left.name for left in tmp_path.iterdir()] == [path.name]


def arrays(pack):
    stream = io.BytesIO()
    pack(stream, x=COLOUR[None].repeat(3, 0), y=np.arange(3), classes=np.array(["a", "b", "c"]))
    return stream.getvalue()


def repacked(method):
    """The same arrays, packed by another method of zip files."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(arrays(np.savez))) as old, zipfile.ZipFile(stream, "w", method) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return stream.getvalue()


def mat():
    stream = io.BytesIO()
    images = DRAWN.integers(0, 256, (32, 32, 3, 2), np.uint8)
    savemat(stream, {"X": images, "y": np.array([[1], [10]], np.uint8)}, do_compression=True)
    return stream.getvalue()


IDX = struct.pack(">IIII", 0x803, 2, 12, 10) + GREY.tobytes() * 2
LABELS = struct.pack(">II", 0x801, 2) + b"\1\2"
# The spec, and the files by name; the first is damaged.
FILES = {
    "plain": ("npz:{}/d.npz", {"d.npz": arrays(np.savez)}),
    "packed": ("npz:{}/d.npz", {"d.npz": arrays(np.savez_compressed)}),
    "lzma": ("npz:{}/d.npz", {"d.npz": repacked(zipfile.ZIP_LZMA)}),
    "bzip2": ("npz:{}/d.npz", {"d.npz": repacked(zipfile.ZIP_BZIP2)}),
    "images": ("idx:{}", {"t10k-images-idx3-ubyte": IDX, "t10k-labels-idx1-ubyte": LABELS}),
    "labels": ("idx:{}", {"t10k-labels-idx1-ubyte": LABELS, "t10k-images-idx3-ubyte": IDX}),
    "gzip": ("idx:{}", {"t10k-images-idx3-ubyte.gz": gzip.compress(IDX), "t10k-labels-idx1-ubyte": LABELS}),
    "svhn": ("svhn:{}", {"test_32x32.mat": mat()}),
    "cifar": ("cifar10:{}/a.tar.gz", {"a.tar.gz": gzip.compress(bytes(2048))}),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FILES)
def test_damaged_arrays_are_read_or_refused(tmp_path, name):
    spec, files = FILES[name]
    for path, content in files.items():
        (tmp_path / path).write_bytes(content)
    path, content = next(iter(files.items()))
    for seed in range(ROUNDS):
        (tmp_path / path).write_bytes(damaged(content, random.Random(seed)))
        said = answer(lambda: load(spec.format(tmp_path)), name, seed)
        assert len(said.splitlines()) <= 1, (seed, said)
    assert sorted(left.name for left in tmp_path.iterdir()) == sorted(files)
