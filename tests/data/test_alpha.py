"""Transparent pixels have no colour of their own: alpha is dropped where it is opaque, else refused."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import secateur
from secateur import data
from secateur.data.images import read_image
from secateur.errors import UserError

DRAWN = np.random.default_rng(0)
COLOUR = DRAWN.integers(0, 256, (5, 4, 3), np.uint8)


def with_alpha(mode, opacity):
    image = Image.fromarray(COLOUR).convert("L" if mode == "LA" else "RGB")
    alpha = np.full((5, 4), 255, np.uint8)
    alpha[2, 1] = opacity
    image.putalpha(Image.fromarray(alpha))
    return image


def keyed(mode, used):
    """A picture one colour of which counts as transparent, as palettes and old PNG have it."""
    grey = Image.fromarray(np.arange(20, dtype=np.uint8).reshape(5, 4))
    image = {"P": grey.convert("P"), "L": grey, "RGB": grey.convert("RGB")}[mode]
    value = 7 if used else 99
    image.info["transparency"] = (value,) * 3 if mode == "RGB" else value
    return image


SEEN = {
    **{mode: (with_alpha(mode, 255), with_alpha(mode, 254)) for mode in ("RGBA", "LA")},
    **{mode: (keyed(mode, used=False), keyed(mode, used=True)) for mode in ("P", "L", "RGB")},
}


@pytest.mark.parametrize("pair", SEEN.values(), ids=SEEN)
def test_pictures_are_read_where_they_are_opaque_and_refused_where_they_are_not(tmp_path, pair):
    paths = [tmp_path / f"{name}.png" for name in ("opaque", "clear")]
    for image, path in zip(pair, paths, strict=True):
        image.save(path, **({"transparency": image.info["transparency"]} if image.info else {}))
    read = read_image(paths[0])
    assert np.array_equal(read, np.asarray(pair[0].convert("L" if read.ndim == 2 else "RGB")))
    with pytest.raises(UserError, match=r"clear.png' has 1 of 20 pixels that are transparent: their colour"):
        read_image(paths[1])
    # The same picture in a list, or in the data set of another library.
    with pytest.raises(UserError, match="a picture of the data has 1 of 20 pixels that are transparent"):
        data.of(([Image.open(paths[1])], [0]))


def test_a_picture_whose_hidden_colours_are_shown_is_caught(tmp_path, monkeypatch):
    monkeypatch.setattr("secateur.data.images.refuse_transparent", lambda image: None)
    with_alpha("RGBA", 0).save(tmp_path / "clear.png")
    assert read_image(tmp_path / "clear.png").shape == (5, 4, 3), "the refusal is what the other test sees"


class Three(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)

    def forward(self, x):
        return self.conv(x).mean((2, 3))


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("opaque", [True, False])
def test_four_channels_are_told_apart_by_what_the_fourth_holds(last, opaque):
    x = np.full((3, 8, 6, 4), 255, np.uint8)
    x[1, 2, 2, :3] = 9
    x[2, 0, 0, 3] -= not opaque
    given = x if last else x.transpose(0, 3, 1, 2)
    assert data.of((given, [0, 1, 0])).x.shape == given.shape
    with pytest.raises(UserError, match=r"leave .*out.* x\[.*:3\]") as caught:
        secateur.attack(Three(), (given, [0, 1, 0]), "fgsm", eps=0.1)
    assert ("is 1 everywhere" in str(caught.value)) == opaque
    assert ("some pixels are transparent" in str(caught.value)) == (not opaque)


def test_an_archive_with_four_channels_says_what_to_leave_out(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.zeros((3, 8, 8, 4), np.uint8), y=np.array([0, 1, 0]))
    with pytest.raises(UserError, match=r"1 or 3 channels.*alpha channel that is opaque.*x\[\.\.\., :3\]"):
        data.load(f"npz:{tmp_path / 'd.npz'}")


def test_a_network_of_four_channels_takes_them():
    four = nn.Sequential(nn.Flatten(), nn.Linear(4 * 4, 2))
    x = torch.rand(3, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    assert secateur.attack(four, (x, [0, 1, 0]), "fgsm", eps=0.1).result.n == 3
