"""`secateur attack --bounds` and `--mask`, and exported networks for the commands that only ask a network."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from secateur import data, models
from secateur.attacks.runner.masks import read_mask
from secateur.cli.attack_settings import bounds_of, by_channel
from secateur.errors import UserError

PLAIN = ("attack", "-m", "shipped:digits-plain", "-d", "digits:split", "--limit", "10", "--steps", "8")
FREE = np.zeros((8, 8), bool)
FREE[2:6, 1:7] = True


def written(folder):
    """The same mask in every format."""
    np.save(folder / "m.npy", FREE.astype(np.int16))
    np.savez(folder / "m.npz", FREE)
    Image.fromarray(FREE).save(folder / "m.png")
    Image.fromarray(FREE.astype(np.uint8) * 255).save(folder / "grey.png")
    torch.save(torch.from_numpy(FREE), folder / "m.pt")
    save_file({"mask": torch.from_numpy(FREE.astype(np.float32))}, folder / "m.safetensors")
    return sorted(folder.iterdir())


def test_a_mask_is_the_same_in_every_format(tmp_path):
    files = written(tmp_path)
    assert len(files) == 6
    for path in files:
        assert torch.equal(read_mask(path), torch.from_numpy(FREE)), path.name


@pytest.mark.slow
def test_only_pixels_under_the_mask_change(secateur, tmp_path):
    written(tmp_path)
    options = (
        "--mask",
        tmp_path / "m.png",
        "--examples",
        tmp_path / "e.safetensors",
        "-o",
        tmp_path / "r.json",
    )
    said = secateur(*PLAIN, *options, "--json")
    assert said.code == 0, said.err
    record, saved = json.loads((tmp_path / "r.json").read_text()), load_file(tmp_path / "e.safetensors")
    assert record["free"] == [int(FREE.sum())] * 10
    assert said.json["mask"].endswith("m.png")
    clean = data.load("digits:split", split="test").x[saved["index"]]
    assert said.json["found"] > 0
    changed = (saved["adv"] != clean).flatten(0, 1).any(0).numpy()
    assert changed.any()
    assert not (changed & ~FREE).any()
    # The broken variant: an attack without the mask changes others, too.
    secateur(*PLAIN, "--examples", tmp_path / "e.safetensors")
    saved = load_file(tmp_path / "e.safetensors")
    clean = data.load("digits:split", split="test").x[saved["index"]]
    assert ((saved["adv"] != clean).flatten(0, 1).any(0).numpy() & ~FREE).any()


def test_a_mask_per_image_follows_the_images_that_are_attacked(secateur, tmp_path):
    images = data.load("digits:split", split="test")
    masks = np.arange(images.n)[:, None, None, None] % 60 + 4 > np.arange(64).reshape(1, 1, 8, 8)
    np.save(tmp_path / "m.npy", masks)
    said = secateur(*PLAIN, "--mask", tmp_path / "m.npy", "-o", tmp_path / "r.json")
    assert said.code == 0, said.err
    record = json.loads((tmp_path / "r.json").read_text())
    assert record["free"] == [index % 60 + 4 for index in record["index"]]


class Evil:
    def __reduce__(self):
        return print, ("run",)


PICKLED = np.array([{"a": 1}], object)
GREY = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
TWO = {"a": torch.ones(1), "b": torch.ones(1)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "write", "said"),
    [
        ("m.npy", lambda path: np.save(path, PICKLED, allow_pickle=True), "cannot be read"),
        ("m.npy", lambda path: path.write_bytes(b"\x93NUMPY"), "cannot be read"),
        ("m.npy", lambda path: np.save(path, np.arange(64).reshape(8, 8)), "has the values 1, 2, 3, 4, …"),
        ("m.npz", lambda path: np.savez(path, a=FREE, b=FREE), "holds 2 arrays"),
        ("m.png", lambda path: GREY.save(path), "the values"),
        ("m.pt", lambda path: torch.save(Evil(), path), "reading it would run code"),
        ("m.pt", lambda path: torch.save(TWO, path), "not hold one tensor"),
        ("m.npy", lambda path: np.save(path, np.ones((3, 3))), "is of shape [3, 3], the images of"),
        ("m.npy", lambda path: np.save(path, np.ones((7, 1, 8, 8))), "is for 7 images, digits has 540"),
        ("m.npy", lambda path: np.save(path, np.zeros((8, 8))), "no pixel of image 0 may change"),
        ("m.txt", lambda path: path.write_text("1"), "is no mask"),
        ("gone.npy", lambda path: None, "there is no file"),
    ],
)  # fmt: skip
def test_a_mask_that_is_none_is_one_sentence(secateur, tmp_path, name, write, said):
    write(tmp_path / name)
    seen = secateur(*PLAIN, "--mask", tmp_path / name)
    assert seen.code == 2, seen.err
    assert said in seen.err
    assert "Traceback" not in seen.err


LINE = """
import torch
from torch import nn


class Mine(nn.Module):
    def forward(self, x):
        dark = (x - {middle}).flatten(1).mean(1) * {steep}
        return torch.stack((-dark, dark), 1)


def net():
    return Mine()
"""


def line(folder, middle, steep):
    (folder / "mine.py").write_text(LINE.format(middle=middle, steep=steep))
    return f"{folder / 'mine.py'}:net"


def arrays(folder, x):
    np.savez(folder / "d.npz", x=x, y=np.array([0, 1] * (len(x) // 2)))
    return f"npz:{folder / 'd.npz'}"


GREYS = np.repeat([40, 220], 4 * 4).reshape(2, 4, 4).astype(np.uint8)[[0, 1] * 20]


def test_images_are_scaled_to_the_bounds_and_budgets_with_them(secateur, tmp_path):
    spec = arrays(tmp_path, GREYS)
    options = ("-a", "fmn", "--norm", "inf", "--steps", "60", "-d", spec, "--json")
    one = secateur("attack", "-m", line(tmp_path, 0.5, 8), *options).json
    two = secateur("attack", "-m", line(tmp_path, 0.0, 4), *options, "--bounds", "-1..1").json
    assert two["clean_accuracy"] == one["clean_accuracy"] == 1.0
    assert two["median_all"]["linf"] == pytest.approx(2 * one["median_all"]["linf"], rel=1e-2)
    assert [row["eps"] for row in two["robust_accuracy"]] == [
        2 * row["eps"] for row in one["robust_accuracy"]
    ]
    assert two["bounds"] == "-1..1"


def test_floating_point_arrays_lie_in_the_bounds_as_they_are(secateur, tmp_path):
    x = (GREYS.astype(np.float32) / 255 - 0.5) / np.float32(0.25)
    spec = arrays(tmp_path, x)
    call = ("attack", "-m", line(tmp_path, 0.0, 2), "-d", spec, "-a", "fgsm", "--eps", "0.1", "--json")
    assert secateur(*call).code == 2
    said = secateur(*call, "--bounds", "-2..2", "-o", tmp_path / "r.json")
    assert said.code == 0, said.err
    assert json.loads((tmp_path / "r.json").read_text())["bounds"] == [-2, 2]


def test_bounds_by_channel_hold_images_that_are_normalised_already(secateur, tmp_path):
    low, high = np.array([-2.0, -1.0, -0.5], np.float32), np.array([2.0, 1.0, 0.5], np.float32)
    grey = (GREYS.astype(np.float32) / 255)[:, None]
    x = low[:, None, None] + grey * (high - low)[:, None, None]
    spec, model = arrays(tmp_path, x), line(tmp_path, 0.0, 4)
    call = ("attack", "-m", model, "-d", spec, "-a", "pgd", "--norm", "inf", "--eps", "3", "--steps", "5")
    said = secateur(
        *call, "--bounds", "-2,-1,-0.5..2,1,0.5", "--examples", tmp_path / "e.safetensors", "--json"
    )
    assert said.code == 0, said.err
    adv = load_file(tmp_path / "e.safetensors")["adv"].amax((0, 2, 3)).numpy()
    assert said.json["found"] > 0
    assert (adv <= high + 1e-6).all()


@pytest.mark.parametrize("text", ["1", "1..0", "a..b", "0..1..2", "0,0..1", "..", "0..0"])
def test_bounds_that_are_none_are_one_sentence(text):
    with pytest.raises(UserError, match="invalid --bounds"):
        bounds_of(text)


def test_bounds_by_channel_need_images_that_are_normalised(secateur):
    said = secateur(*PLAIN, "--bounds", "0,0,0..1,1,1")
    assert "--bounds has 3 channels" in said.err
    colour = data.Dataset("grid", torch.zeros(2, 3, 4, 4), torch.tensor([0, 1]), levels=256)
    with pytest.raises(UserError, match=r"have 256 grey levels .*--mean and --std"):
        by_channel([[0.0] * 3, [1.0] * 3], colour)
    assert secateur(*PLAIN, "--bounds", "-1..1").code == 0


def test_python_reads_data_in_other_bounds():
    plain, wide = data.load("digits"), data.load("digits", bounds=(-1, 1))
    assert (wide.bounds, wide.levels) == ((-1, 1), 17)
    torch.testing.assert_close(wide.x, 2 * plain.x - 1)
    assert wide.fingerprint == plain.fingerprint
    assert data.load("digits", bounds=(0, 1)).bounds == (0, 1)
    assert data.load("digits", bounds=(-1, 1), resize=4).bounds == (-1, 1)
    with pytest.raises(UserError, match="the bounds are"):
        data.load("digits", bounds=(1, 0))


@pytest.mark.slow
def test_an_exported_network_is_evaluated_as_the_network_it_was(secateur, tmp_path):
    assert secateur("export", "-m", "shipped:digits-plain", "--out", tmp_path / "n.pt2").code == 0
    options = ("-d", "digits:split", "--json")
    one = secateur("evaluate", "-m", "shipped:digits-plain", *options)
    two = secateur("evaluate", "-m", tmp_path / "n.pt2", *options)
    assert two.code == 0, two.err
    assert two.json["accuracy"] == one.json["accuracy"]
    said = secateur("prune", "-m", tmp_path / "n.pt2", "--sparsity", "0.5", "--out", tmp_path / "p")
    assert said.code == 2
    assert "can be attacked and evaluated, and nothing else" in said.err
    assert "Traceback" not in said.err


def test_evaluate_takes_what_attacks_take():
    from secateur import decision

    model, images = (
        models.resolve("shipped:digits-plain"),
        data.load("digits:split", split="test").take(range(50)),
    )
    plain = decision.evaluate(model, images)
    answers = decision.evaluate(lambda x: {"logits": model(x), "loss": None}, images)
    assert torch.equal(plain.correct, answers.correct)
