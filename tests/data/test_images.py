"""Pictures of any depth, mode and size: what is in the file is what a network sees."""

import struct

import numpy as np
import pytest
import torch
from PIL import Image

from secateur.data import load, save_npz
from secateur.data.images import image_size, read_image, resize_dataset, resize_image
from secateur.errors import UserError

DRAWN = np.random.default_rng(0)


def saved(root, *pixels, suffix="png"):
    for index, image in enumerate(pixels):
        path = root / "ab"[index % 2] / f"{index}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path)
    return f"folder:{root}"


def deep(n=2, shape=(5, 4)):
    return [DRAWN.integers(0, 65_536, shape, np.uint16) for _ in range(n)]


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_sixteen_bits_are_scaled_and_their_levels_recorded(tmp_path, suffix):
    pixels = deep()
    if suffix == "pgm":
        for name, image in zip("ab", pixels, strict=True):
            (tmp_path / name).mkdir()
            header = b"P5\n4 5\n65535\n"
            (tmp_path / name / "0.pgm").write_bytes(header + image.astype(">u2").tobytes())
        data = load(f"folder:{tmp_path}")
    else:
        data = load(saved(tmp_path, *pixels, suffix=suffix))
    assert (data.shape, data.levels) == ((1, 5, 4), 65_536)
    assert torch.equal((data.x[:, 0] * 65_535).round(), torch.from_numpy(np.float32(pixels)))


def test_the_last_of_sixteen_bits_is_part_of_the_identity(tmp_path):
    pixels = deep()
    before = load(saved(tmp_path / "one", *pixels))
    pixels[0][0, 0] ^= 1
    after = load(saved(tmp_path / "two", *pixels))
    assert before.fingerprint != after.fingerprint
    assert before.image_hashes()[0] != after.image_hashes()[0]
    assert before.image_hashes()[1] == after.image_hashes()[1]


def test_beside_sixteen_bits_eight_keep_their_grey(tmp_path):
    shallow = DRAWN.integers(0, 256, (5, 4), np.uint8)
    data = load(saved(tmp_path, deep(1)[0], shallow))
    assert data.levels == 65_536
    assert torch.equal((data.x[1, 0] * 255).round(), torch.from_numpy(np.float32(shallow)))


def test_sixteen_bits_can_be_packed(tmp_path):
    before = load(saved(tmp_path / "p", *deep(4)))
    save_npz(f"folder:{tmp_path / 'p'}", tmp_path / "d.npz")
    assert load(f"npz:{tmp_path / 'd.npz'}").fingerprint == before.fingerprint


def test_a_tiff_whose_zero_is_white_is_turned_round(tmp_path):
    (pixels,) = deep(1)
    Image.fromarray(pixels).save(tmp_path / "w.tif", tiffinfo={262: 0})
    assert np.array_equal(read_image(tmp_path / "w.tif"), 65_535 - pixels)


def test_white_of_twelve_bits_is_white(tmp_path):
    # Width, height, bits, no compression, zero is black, offset, rows, bytes; two pixels in three bytes.
    tags = [(256, 2), (257, 1), (258, 12), (259, 1), (262, 1), (273, 8), (278, 1), (279, 3)]
    body = bytes([0xFF, 0xF8, 0x00]) + b"\0"
    table = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    head = b"II*\0" + struct.pack("<I", 8 + len(body))
    (tmp_path / "w.tif").write_bytes(
        head + body + struct.pack("<H", len(tags)) + table + struct.pack("<I", 0)
    )
    assert read_image(tmp_path / "w.tif").tolist() == [[65_535, round(0x800 / 4095 * 65_535)]]


def test_floating_point_pictures_lie_between_0_and_1(tmp_path):
    pixels = [DRAWN.random((5, 4), np.float32) for _ in range(2)]
    data = load(saved(tmp_path / "p", *pixels, suffix="tif"))
    assert data.levels is None
    assert torch.equal(data.x[:, 0], torch.from_numpy(np.stack(pixels)))
    with pytest.raises(UserError, match=r"floating-point pixels range from .*, not from 0 to 1"):
        load(saved(tmp_path / "q", pixels[0] * 255, pixels[1], suffix="tif"))
    pixels[0][2, 2] = np.nan
    with pytest.raises(UserError, match="from nan"):
        load(saved(tmp_path / "r", *pixels, suffix="tif"))


def test_integers_without_a_white_are_refused(tmp_path):
    pixels = [np.full((5, 4), 100_000, np.int32)] * 2
    with pytest.raises(UserError, match="32-bit integers of unknown range"):
        load(saved(tmp_path, *pixels, suffix="tif"))


@pytest.mark.parametrize(
    ("mode", "channels", "suffix"),
    [
        *[("1", 1, "png"), ("L", 1, "png"), ("LA", 1, "png"), ("P", 3, "png"), ("RGB", 3, "png")],
        *[("RGBA", 3, "png"), ("CMYK", 3, "tif"), ("YCbCr", 3, "tif"), ("P", 3, "gif")],
    ],
)
def test_every_other_mode_is_eight_bits_as_pillow_converts_it(tmp_path, mode, channels, suffix):
    drawn = [Image.fromarray(DRAWN.integers(0, 256, (5, 4, 3), np.uint8)).convert(mode) for _ in range(2)]
    data = load(saved(tmp_path, *drawn, suffix=suffix))
    assert (data.shape, data.levels) == ((channels, 5, 4), 256)
    with Image.open(tmp_path / "a" / f"0.{suffix}") as stored:
        expected = np.asarray(stored.convert("L" if channels == 1 else "RGB"))
    expected = np.atleast_3d(expected).transpose(2, 0, 1)
    assert np.array_equal((data.x[0] * 255).round().byte().numpy(), expected)


def test_pictures_of_different_sizes_name_two_and_the_way_out(tmp_path):
    spec = saved(tmp_path, *deep(1), *deep(1, (8, 6)))
    with pytest.raises(UserError) as caught:
        load(spec)
    assert "a/0.png has 4x5 pixels, b/1.png has 6x8" in caught.value.message
    assert "--resize 4" in caught.value.command
    assert "resize=4, or resize: 4" in caught.value.hint
    assert load(spec, resize=4).shape == (1, 4, 4)
    assert load(spec, resize=(3, 5)).shape == (1, 3, 5)


def test_scaling_averages_and_does_not_skip_pixels():
    stripes = np.tile(np.array([0, 255], np.uint8), (16, 8))
    small = resize_image(stripes, (4, 4))
    assert (abs(small.astype(int) - 127) < 16).all(), "skipping pixels would give black or white"
    assert (abs(resize_image(np.float32(stripes / 255), (4, 4)) - 0.5) < 0.06).all()
    sixteen = resize_image(stripes.astype(np.uint16) * np.uint16(257), (4, 4))
    assert sixteen.dtype == np.uint16
    assert (abs(sixteen / 257 - small) < 1.01).all()


def test_scaling_keeps_proportions_and_cuts_out_the_middle():
    wide = np.zeros((4, 12), np.uint8)
    wide[:, 4:8] = 200
    assert (resize_image(wide, (4, 4)) == 200).all()
    colour = np.stack([wide, wide, wide // 2], axis=2)
    assert resize_image(colour, (2, 2)).shape == (2, 2, 3)


def test_images_that_are_no_pictures_are_scaled_on_their_own_levels():
    digits = load("digits", resize=16)
    assert (digits.shape, digits.levels) == ((1, 16, 16), 17)
    assert torch.equal((digits.x * 16).round() / 16, digits.x)
    assert digits.fingerprint != load("digits").fingerprint
    assert torch.equal(resize_dataset(load("digits").take(range(9)), (8, 8)).x, load("digits").x[:9])


def test_scaled_arrays_are_the_scaled_pictures(tmp_path):
    pixels = [DRAWN.integers(0, 256, (9, 7, 3), np.uint8) for _ in range(4)]
    spec = saved(tmp_path / "p", *pixels)
    save_npz(spec, tmp_path / "small.npz", resize=5)
    save_npz(spec, tmp_path / "whole.npz")
    wanted = sorted(load(spec, resize=5).image_hashes())
    assert sorted(load(f"npz:{tmp_path / 'small.npz'}").image_hashes()) == wanted
    assert sorted(load(f"npz:{tmp_path / 'whole.npz'}", resize=5).image_hashes()) == wanted


@pytest.mark.parametrize("size", [0, -3, 5000, (3, 4, 5), (3,), (3, 0), True, (2.0, 3)])
def test_an_impossible_size_is_refused(size):
    with pytest.raises(UserError, match="must be an image size"):
        image_size(size)
