"""`secateur attack` and `evaluate` on more images than memory holds: what they say of the whole."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from secateur import data

IMAGES = data.load("digits:split", split="test").take(range(90))
PIXELS = 4 * 64


@pytest.fixture(scope="module")
def specs(tmp_path_factory):
    """The same images as a folder and as an .npz file."""
    root = tmp_path_factory.mktemp("images")
    grey = IMAGES.x.mul(255).round().to(torch.uint8)[:, 0].numpy()
    for at, (picture, label) in enumerate(zip(grey, IMAGES.y.tolist(), strict=True)):
        (root / "f" / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(root / "f" / str(label) / f"{at}.png")
    np.savez(root / "a.npz", x=grey, y=IMAGES.y.numpy())
    return {"folder": f"folder:{root / 'f'}", "npz": f"npz:{root / 'a.npz'}"}


@pytest.fixture
def small(monkeypatch):
    """Memory for 30 images, parts of 16."""
    monkeypatch.setattr("secateur.data.handed_over.MOST", 30 * PIXELS)
    monkeypatch.setattr("secateur.data.streaming.PART", 16 * PIXELS)


ATTACK = ("attack", "-m", "shipped:digits-plain", "-a", "fmn", "--norm", "Linf", "--steps", "8", "--json")


def record(secateur, tmp_path, *options):
    said = secateur(*ATTACK, *options, "-o", tmp_path / "r.json")
    assert said.code == 0, said.err
    found = json.loads((tmp_path / "r.json").read_text())
    for key in ("date", "times", "search", "kept", "grade", "checks", "checks_cost", "batch_failures"):
        found.pop(key, None)
    for key in ("seconds", "grade", "meaning", "reasons"):
        found["summary"].pop(key)
    return found, said


WAYS = {
    "all": (),
    "limit": ("--limit", "50", "--seed", "3"),
    "target": ("--target", "3"),
    "next": ("--target", "next", "--limit", "60"),
    "mask": ("--mask", "{mask}"),
    "resized": ("--resize", "8", "--bounds", "0..1"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["folder", "npz"])
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_the_record_of_every_image_is_that_of_the_whole(secateur, specs, tmp_path, request, kind, way):
    mask = np.arange(90 * 64).reshape(90, 8, 8) % 3 > 0
    np.save(tmp_path / "mask.npy", mask[:, None])
    options = ("-d", specs[kind], *(word.format(mask=tmp_path / "mask.npy") for word in way))
    whole, _ = record(secateur, tmp_path, *options)
    request.getfixturevalue("small")
    parts, said = record(secateur, tmp_path, *options)
    assert "is read part by part" in said.err
    assert parts == whole


@pytest.mark.slow
def test_a_sample_that_fits_is_the_same_sample_read_at_once(secateur, specs, tmp_path, request):
    options = ("-d", specs["folder"], "--limit", "20", "--seed", "5")
    whole, _ = record(secateur, tmp_path, *options)
    request.getfixturevalue("small")
    few, said = record(secateur, tmp_path, *options)
    assert few == whole
    assert "part by part" not in said.err
    assert few["summary"]["images"] == 90
    assert few["summary"]["partial"]


@pytest.mark.slow
def test_examples_pictures_and_starting_points(secateur, specs, tmp_path, small, monkeypatch):
    monkeypatch.setattr("secateur.evaluate.attacking.KEPT", 40)
    spec = specs["folder"]
    record(secateur, tmp_path, "-d", spec, "--examples", tmp_path / "e.safetensors", "--pictures", tmp_path)
    saved = load_file(tmp_path / "e.safetensors")
    assert 20 < len(saved["index"]) <= 40
    gap = (saved["adv"] - data.load(spec).x[saved["index"]]).flatten(1).abs().amax(1)
    assert bool((gap < 0.7).all())
    assert {"examples.png", "curve.svg"} <= {path.name for path in tmp_path.iterdir()}
    start = ("--start", tmp_path / "e.safetensors")
    parts, _ = record(secateur, tmp_path, "-d", spec, *start)
    monkeypatch.undo()
    whole, _ = record(secateur, tmp_path, "-d", spec, *start)
    assert parts == whole
    assert len(whole["start"][0]) == 90
    without, _ = record(secateur, tmp_path, "-d", spec)
    assert without["distances"] != whole["distances"]


@pytest.mark.slow
def test_the_nearest_of_all_images_needs_them_in_memory(secateur, specs, small):
    said = secateur(*ATTACK, "-d", specs["npz"], "--start", "another-class")
    assert said.code == 2
    assert "may be any of 90 images, which do not fit into memory" in said.err
    assert secateur(*ATTACK, "-d", specs["npz"], "--start", "another-class", "--limit", "12").code == 0


def test_an_evaluation_counts_all_images(secateur, specs, request):
    asked = ("evaluate", "-m", "shipped:digits-plain", "-d", specs["folder"], "--json")
    whole = secateur(*asked).json
    request.getfixturevalue("small")
    parts = secateur(*asked).json
    close = ("loss", "confidence", "calibration_error")
    assert {k: v for k, v in parts.items() if k not in close} == {
        k: v for k, v in whole.items() if k not in close
    }
    assert parts["n"] == 90
