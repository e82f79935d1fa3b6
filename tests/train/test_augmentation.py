import pytest
import torch
from torch.nn import functional as F

from secateur.recipes import Augment
from secateur.train import augment, augmentation
from train.cases import seeded


def batch(n=50, channels=3, height=6, width=7):
    return torch.rand(n, channels, height, width, generator=seeded())


def test_every_crop_is_a_window_of_the_padded_image():
    x, padding = batch(), 2
    out = augment(x, Augment(padding=padding), generator=seeded(1))
    padded = F.pad(x, [padding] * 4)
    found = set()
    for image, source in zip(out, padded, strict=True):
        places = [
            (top, left)
            for top in range(2 * padding + 1)
            for left in range(2 * padding + 1)
            if torch.equal(image, source[:, top : top + 6, left : left + 7])
        ]
        assert len(places) == 1
        found.add(places[0])
    assert len(found) > 15, "the windows differ from image to image"


def test_a_crop_that_moves_all_images_alike_would_be_noticed(monkeypatch):
    def careless(x, padding, generator):
        return F.pad(x, [padding] * 4)[:, :, :6, :7]

    monkeypatch.setattr(augmentation, "_crop", careless)
    with pytest.raises(AssertionError, match="differ"):
        test_every_crop_is_a_window_of_the_padded_image()


def test_about_half_of_the_images_are_mirrored_and_no_other_changed():
    x = batch(400)
    out = augment(x, Augment(flip=True), generator=seeded(1))
    mirrored = [torch.equal(image, source.flip(2)) for image, source in zip(out, x, strict=True)]
    kept = [torch.equal(image, source) for image, source in zip(out, x, strict=True)]
    assert all(a != b for a, b in zip(mirrored, kept, strict=True))
    assert 150 < sum(mirrored) < 250


def test_a_rotation_by_a_right_angle_is_exact(monkeypatch):
    x = batch(4, height=6, width=6)
    monkeypatch.setattr(torch, "rand", lambda n, generator: torch.ones(n))
    out = augmentation._rotate(x, 90, seeded())
    assert torch.allclose(out, x.rot90(1, (2, 3)), atol=1e-5) or torch.allclose(
        out, x.rot90(-1, (2, 3)), atol=1e-5
    )


def test_a_rotation_of_an_oblong_image_keeps_lengths(monkeypatch):
    """A point at distance r from the centre stays at distance r, in pixels of either axis."""
    x = torch.zeros(1, 1, 31, 61)
    x[0, 0, 15, 40] = 1
    monkeypatch.setattr(torch, "rand", lambda n, generator: torch.ones(n))
    out = augmentation._rotate(x, 45, seeded())[0, 0]
    row, column = divmod(int(out.argmax()), 61)
    assert ((row - 15) ** 2 + (column - 30) ** 2) ** 0.5 == pytest.approx(10, abs=0.8)
    assert abs(row - 15) == pytest.approx(10 / 2**0.5, abs=0.8)


def test_rotations_stay_within_the_angle_and_the_range_of_values():
    x = torch.zeros(200, 1, 41, 41)
    x[:, 0, 20, 35] = 1
    out = augment(x, Augment(rotation=15), generator=seeded())
    rows, columns = out.flatten(1).argmax(1) // 41 - 20, out.flatten(1).argmax(1) % 41 - 20
    angles = torch.rad2deg(torch.atan2(rows.float(), columns.float()))
    assert angles.abs().max() <= 17
    assert angles.min() < -10
    assert angles.max() > 10
    assert out.min() >= 0
    assert out.max() <= 1


def test_no_augmentation_is_the_identity_and_the_input_is_never_changed():
    x = batch()
    before = x.clone()
    assert torch.equal(augment(x, Augment(), generator=seeded()), x)
    augment(x, Augment(2, 15, True), generator=seeded())
    assert torch.equal(x, before)


def test_the_same_generator_gives_the_same_images():
    how = Augment(2, 15, True)
    first, second, other = (augment(batch(), how, generator=seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
