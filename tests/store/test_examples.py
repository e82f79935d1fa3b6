"""The pictures beside the record of an attack: what they keep, and what is no such file."""

import numpy as np
import pytest
from safetensors.numpy import save

from secateur.store import Damaged, Examples, evenly

NAMES = {"classes": '["a", "b"]'}


def tensors(k=2, channels=3, side=8, **changed):
    shape = (k, channels, side, side)
    whole = {
        "place": np.arange(k, dtype=np.int64),
        "clean": np.zeros(shape, dtype=np.uint8),
        "change": np.zeros(shape, dtype=np.float16),
    }
    return whole | changed


def test_small_changes_survive():
    generator = np.random.default_rng(0)
    clean = generator.random((3, 3, 16, 16)).round(2)
    change = 1e-3 * generator.standard_normal(clean.shape)
    read = Examples.from_bytes(
        Examples.of(clean, clean + change, [4, 5, 9], ("a", "b"), bounds=(0.0, 1.0)).to_bytes()
    )
    assert read.places == (4, 5, 9)
    assert read.classes == ("a", "b")
    assert np.abs(read.pixels(5) - clean[1]).max() <= 0.5 / 255 + 1e-6
    # A grey level is 4e-3: rounding the adversarial image itself would lose all of it.
    assert np.abs(read.added(9) - change[2]).max() < 1e-5


def test_other_bounds_and_large_images_become_small_pictures():
    images = np.full((1, 1, 300, 200), 191.25)
    kept = Examples.of(images, images - 25.5, [0], ("a",), bounds=(0.0, 255.0))
    assert kept.clean.shape == (1, 1, 60, 40)
    assert kept.pixels(0).max() == pytest.approx(0.75, abs=1 / 255)
    assert kept.added(0).min() == pytest.approx(-0.1, abs=1e-4)
    assert Examples.from_bytes(kept.to_bytes()).adversarial(0).mean() == pytest.approx(0.65, abs=2e-3)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"x" * 40,
        save(tensors(), NAMES)[:-1],
        save(tensors()),
        save(tensors(), {"classes": "[1]"}),
        save({"clean": tensors()["clean"]}, NAMES),
        save(tensors(place=np.arange(3)), NAMES),
        save(tensors(place=np.zeros(2, dtype=np.float32)), NAMES),
        save(tensors(channels=2), NAMES),
        save(tensors(side=65), NAMES),
        save(tensors(side=0), NAMES),
        save(tensors(change=np.full((2, 3, 8, 8), np.nan, dtype=np.float16)), NAMES),
    ],
)
def test_other_files_are_damaged(content):
    with pytest.raises(Damaged):
        Examples.from_bytes(content)
    assert Examples.from_bytes(save(tensors(), NAMES)).places == (0, 1)


def test_the_kept_images_depend_on_their_number_alone():
    assert evenly(1) == [0]
    assert evenly(8) == [*range(8)]
    assert evenly(1000) == evenly(1000)
    assert len(set(evenly(1000))) == 8
    assert evenly(0) == []
