"""Folders and .npz files that do not fit into memory: the images of the whole, part by part."""

import tracemalloc

import numpy as np
import pytest
import torch
from PIL import Image

from alive import bytes_alive
from secateur import data
from secateur.data import Dataset, Parts, image_folder, load_or_parts, npy_rows
from secateur.data.streaming import Fingerprint
from secateur.errors import UserError

RANDOM = np.random.default_rng(0)


def folder(root, *, colour=True, deep=True, n=11, side=8):
    """Pictures of several kinds, in two classes."""
    for label in ("cat", "dog"):
        (root / label).mkdir(parents=True)
        for at in range(n):
            grey = RANDOM.integers(0, 256, (side, side), dtype=np.uint8)
            picture = Image.fromarray(grey)
            if colour and at % 3 == 1:
                picture = Image.fromarray(RANDOM.integers(0, 256, (side, side, 3), dtype=np.uint8))
            if deep and at % 3 == 2:
                picture = Image.fromarray(grey.astype(np.uint16) * 200)
            picture.save(root / label / f"{at}.png")
    return f"folder:{root}"


def arrays(path, save=np.savez, *, dtype=np.uint8, shape=(6, 6, 3), order="C", **more):
    high = 1 if np.dtype(dtype).kind == "f" else np.iinfo(dtype).max
    x = (RANDOM.random((41, *shape)) * high).astype(dtype)
    save(path, x=np.asarray(x, order=order), y=RANDOM.integers(0, 3, 41), **more)
    return f"npz:{path}"


SOURCES = {
    "colour": lambda at: folder(at / "f", deep=False),
    "grey": lambda at: folder(at / "f", colour=False, deep=False),
    "deep": lambda at: folder(at / "f", colour=False),
    "mixed": lambda at: folder(at / "f"),
    "npz": lambda at: arrays(at / "a.npz"),
    "packed": lambda at: arrays(at / "a.npz", np.savez_compressed),
    "sixteen bits": lambda at: arrays(at / "a.npz", dtype=np.uint16, shape=(5, 4)),
    "floats": lambda at: arrays(at / "a.npz", dtype=np.float64, shape=(3, 5, 4)),
    "table": lambda at: arrays(at / "a.npz", dtype=np.float32, shape=(7,)),
    "named": lambda at: arrays(at / "a.npz", classes=["a", "b", "c", "d"]),
}


def same(parts, whole):
    assert torch.equal(parts.x, whole.x)
    assert torch.equal(parts.y, whole.y)
    for fact in ("name", "classes", "levels", "bounds", "remarks", "fingerprint"):
        assert getattr(parts, fact) == getattr(whole, fact)


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
@pytest.mark.parametrize("size", [7, 100])
def test_parts_are_the_images_of_the_whole_in_its_order(tmp_path, monkeypatch, source, size):
    monkeypatch.setattr("secateur.data.parts.part_size", lambda each: size)
    spec = source(tmp_path)
    whole, parts = data.load(spec), load_or_parts(spec, split="all", most=0)
    assert isinstance(parts, Parts)
    assert (parts.n, parts.shape, parts.num_classes) == (whole.n, whole.shape, whole.num_classes)
    for _ in range(2):  # they can be read again
        same(parts.whole(), whole)
        read = [*parts.stream()]
        assert [part.n for part in read[:-1]] == [size] * (len(read) - 1)
        assert torch.equal(torch.cat([part.x for part in read]), whole.x)
    digest = Fingerprint(parts.stream().rows)
    for part in parts.stream():
        digest.add(part)
    assert digest.value == whole.fingerprint
    some = [2, 3, 9, 20]
    same(parts.take(range(1, parts.n)).take([1, 2, 8, 19]).whole(), whole.take(some))


@pytest.mark.parametrize("spec", [SOURCES["mixed"], SOURCES["sixteen bits"]])
def test_resized_and_scaled_parts_are_those_of_the_whole(tmp_path, spec):
    spec, asked = spec(tmp_path), {"resize": (4, 3), "bounds": (-1.0, 1.0)}
    same(load_or_parts(spec, split="all", most=0, **asked).whole(), data.load(spec, **asked))


def test_what_fits_is_read_at_once(tmp_path):
    for at, spec in enumerate((folder(tmp_path / "f", colour=False, deep=False), arrays(tmp_path / "a.npz"))):
        size = 4 * data.load(spec).x.numel()
        found = load_or_parts(spec, split="all", most=size)
        assert isinstance(found, Dataset)
        # Nobody knows before the pictures are read that all of them are grey.
        same(found, data.load(spec))
        assert isinstance(load_or_parts(spec, split="all", most=size - 1), Parts), at
    assert isinstance(load_or_parts("digits", split="all", most=0), Dataset)
    assert isinstance(load_or_parts(arrays(tmp_path / "b.npz", order="F"), split="all", most=0), Dataset)


def test_splits_and_remarks_are_those_of_the_whole(tmp_path):
    for part in ("train", "val"):
        folder(tmp_path / part)
    Image.new("L", (4, 4)).save(tmp_path / "loose.png")
    found = load_or_parts(f"folder:{tmp_path}", split="validation", most=0)
    whole = data.load(f"folder:{tmp_path}", split="validation")
    assert len(whole.remarks) == 1
    same(found.whole(), whole)


def test_pictures_that_do_not_fit_together_are_refused_as_ever(tmp_path):
    spec = folder(tmp_path / "f")
    Image.new("L", (9, 8)).save(tmp_path / "f" / "dog" / "odd.png")
    said = []
    for read in (lambda: data.load(spec), lambda: load_or_parts(spec, split="all", most=0)):
        with pytest.raises(UserError, match="images of different sizes") as refused:
            read()
        said.append(refused.value.message)
    assert said[0] == said[1]


def test_damaged_arrays_are_refused_in_a_sentence(tmp_path):
    x = np.full((20, 1, 4, 4), 0.5, np.float32)
    x[13] = 3
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(20) % 2)
    parts = load_or_parts(f"npz:{tmp_path / 'a.npz'}", split="all", most=0)
    with pytest.raises(UserError, match="outside"):
        parts.whole()
    np.savez(tmp_path / "b.npz", x=x[:5], y=np.arange(4) % 2)
    with pytest.raises(UserError, match="5 images in 'x' and 4 labels in 'y'"):
        load_or_parts(f"npz:{tmp_path / 'b.npz'}", split="all", most=0)


SIDE, COUNT = 64, 120
BYTES = 4 * SIDE * SIDE
LIMIT = 48 * BYTES
"""Bytes that may be alive, where parts have 16 images; all pictures together are 30 as they lie in files."""


def held():
    """Bytes of all tensors and Python objects that are alive; arrays that tensors share count twice."""
    return bytes_alive() + tracemalloc.get_traced_memory()[0]


def most_alive(parts):
    """The most bytes that were alive while the parts were read, and the number of images."""
    before, most, seen = held(), 0, 0
    for part in parts.stream():
        most, seen = max(most, held() - before), seen + part.n
        del part
    return most, seen


@pytest.fixture
def counted(monkeypatch):
    monkeypatch.setattr("secateur.data.streaming.PART", 16 * BYTES)
    tracemalloc.start()
    yield
    tracemalloc.stop()


def grey_arrays(path, save):
    x = RANDOM.integers(0, 256, (COUNT, SIDE, SIDE), dtype=np.uint8)
    save(path, x=x, y=np.arange(COUNT) % 2)
    return f"npz:{path}"


LARGE = {
    "folder": lambda at: folder(at / "f", n=COUNT // 2, side=SIDE, colour=False, deep=False),
    "npz": lambda at: grey_arrays(at / "a.npz", np.savez),
    "packed npz": lambda at: grey_arrays(at / "a.npz", np.savez_compressed),
}


@pytest.mark.slow
@pytest.mark.parametrize("source", LARGE.values(), ids=LARGE)
def test_few_images_are_alive_at_a_time(tmp_path, counted, source):
    parts = load_or_parts(source(tmp_path), split="all", most=0)
    most, seen = most_alive(parts)
    assert seen == COUNT
    assert 16 * BYTES < most < LIMIT


@pytest.mark.slow
@pytest.mark.parametrize("source", LARGE.values(), ids=LARGE)
def test_a_reader_that_keeps_what_it_read_is_caught(tmp_path, monkeypatch, counted, source):
    def collected(path, name, blocks, sound=npy_rows.array_rows):
        yield from [*sound(path, name, blocks)]

    kept, read = [], image_folder.read_image
    parts = load_or_parts(source(tmp_path), split="all", most=0)
    monkeypatch.setattr("secateur.data.arrays.array_rows", collected)
    monkeypatch.setattr(image_folder, "read_image", lambda *asked: kept.append(read(*asked)) or kept[-1])
    assert most_alive(parts)[0] > LIMIT
