"""One's own pictures and networks on the command line: what is attacked, and what the network sees of it."""

import json
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from secateur import data

QUICK = ("--attack", "fgsm", "--set", "eps=0.01", "--json")


def pictures(folder, n, *, first=0, size=(8, 8), classes="ab"):
    for index in range(n):
        path = folder / classes[index % len(classes)] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full(size, first + index, np.uint8)).save(path)


def test_beside_train_the_validation_images_are_attacked(secateur, tmp_path):
    pictures(tmp_path / "train", 20)
    pictures(tmp_path / "val", 6, first=100)
    said = secateur("attack", "-m", "resnet-tiny", "-d", f"folder:{tmp_path}", *QUICK)
    assert said.code == 0, said.err
    assert (said.json["n"], said.json["part"]) == (6, "validation")
    assert "has the splits train, validation; the attack uses validation" in said.err


@pytest.mark.parametrize(
    ("part", "words"), [("train", "training images only"), (".", "no separate test split")]
)
def test_where_nothing_is_held_out_it_is_said(secateur, tmp_path, part, words):
    pictures(tmp_path / part, 6)
    said = secateur("attack", "-m", "resnet-tiny", "-d", f"folder:{tmp_path}", *QUICK)
    assert said.code == 0, said.err
    assert words in said.err
    assert "may have been trained on" in said.err


@pytest.mark.parametrize(("data", "noted"), [("digits", True), ("digits:split", False)])
def test_a_shipped_network_names_the_images_that_it_has_not_seen(secateur, data, noted):
    said = secateur(
        "attack", "-m", "shipped:digits-plain", "-d", data, "-a", "fgsm", "--limit", "20", "--json"
    )
    assert said.code == 0, said.err
    assert ("was trained on part of digits: digits:split holds those images apart" in said.err) == noted


@pytest.mark.slow
def test_a_limit_draws_every_class_with_the_seed_and_records_the_images(secateur, tmp_path):
    pictures(tmp_path / "d", 60, classes="abc")

    def drawn(seed):
        out = tmp_path / "r.json"
        words = ("attack", "-m", "resnet-tiny", "-d", f"folder:{tmp_path / 'd'}", "--limit", "6", "-o", out)
        said = secateur(*words, "--seed", seed, *QUICK)
        assert said.code == 0, said.err
        assert (said.json["partial"], said.json["images"]) == (True, 60)
        return json.loads(out.read_text())["index"]

    whole = data.load(f"folder:{tmp_path / 'd'}")
    first = drawn(0)
    assert sorted(whole.y[first].tolist()) == [0, 0, 1, 1, 2, 2], "the first images are all of one class"
    assert drawn(0) == first
    assert drawn(1) != first


def test_fewer_images_than_classes_are_not_always_of_the_first_ones():
    y = torch.arange(10).repeat(20)
    seen = {
        label
        for seed in range(20)
        for label in y[
            data.random_stratified_indices(y, 2, generator=torch.Generator().manual_seed(seed))
        ].tolist()
    }
    assert len(seen) > 6


@pytest.mark.slow
def test_pictures_of_different_sizes_need_resize(secateur, tmp_path):
    pictures(tmp_path, 4)
    pictures(tmp_path, 2, first=50, size=(20, 12))
    words = ("attack", "-m", "resnet-tiny", "-d", f"folder:{tmp_path}", *QUICK)
    Image.fromarray(np.zeros((9, 7), np.uint8)).save(tmp_path / "a" / "z.png")
    said = secateur(*words)
    assert said.code == 2
    assert "pixels" in said.err
    assert "--resize" in said.err
    scaled = secateur(*words, "--resize", "8")
    assert scaled.code == 0, scaled.err
    assert scaled.json["resize"] == [8, 8]
    assert secateur(*words, "--resize", "8x16").json["resize"] == [8, 16]
    for wrong in ("0", "big", "8x8x8", "-3"):
        refused = secateur(*words, "--resize", wrong)
        assert (refused.code, f"invalid --resize {wrong}" in refused.err) == (2, True)


NETS = """
import torch
from torch import nn

def rgb():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(288, 10))

def large():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))

def few():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 4))

def net(num_classes):
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, num_classes)
    )
"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "nets.py").write_text(NETS)
    return tmp_path / "nets.py"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("rgb", "fails on the images of digits"),
        ("large", "1x8x8"),
        ("few", "beyond the model's 4 classes"),
    ],
)
def test_a_network_that_does_not_take_the_images_is_refused(secateur, file, name, said):
    for words in (("-a", "ddn"), ("-a", "fmn", "--norm", "2", "--start", "another-class")):
        answer = secateur("attack", "-m", f"{file}:{name}", "-d", "digits", "--limit", "4", *words)
        assert answer.code == 2
        assert said in answer.err
        assert "Traceback" not in answer.err


@pytest.fixture
def trained(file, tmp_path):
    """A network that was trained on normalised digits, and knows only those."""
    scope = {}
    exec(NETS, scope)
    torch.manual_seed(0)
    net, digits = scope["net"](10), data.load("digits")
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    x = (digits.x - 0.3) / 0.03
    for _ in range(6):
        for start in range(0, 1797, 64):
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(x[start : start + 64]), digits.y[start : start + 64]).backward()
            optimiser.step()
    save_file(net.state_dict(), tmp_path / "w.safetensors")
    return ("-m", f"{file}:net", "-w", tmp_path / "w.safetensors")


@pytest.mark.slow
def test_mean_and_std_make_a_network_what_it_is(secateur, trained, tmp_path):
    attack = ("attack", *trained, "-d", "digits", "--limit", "100", *QUICK)
    without, within = secateur(*attack), secateur(*attack, "--mean", "0.3", "--std", "0.03")
    assert within.code == 0, within.err
    assert within.json["clean_accuracy"] > 0.9
    assert within.json["normalise"] == [[pytest.approx(0.3)], [pytest.approx(0.03)]]
    assert without.json["clean_accuracy"] < within.json["clean_accuracy"] - 0.3
    assert without.json["normalise"] is None


@pytest.mark.slow
def test_a_normalised_network_is_pruned_attacked_and_exported(secateur, trained, tmp_path):
    size = ("--input", "1x1x8x8")
    out = tmp_path / "pruned"
    said = secateur("prune", *trained, *size, "-s", "0.25", "--mean", "0.3", "--std", "0.03", "-o", out)
    assert said.code == 0, said.err
    model = trained[:2]
    attack = ("attack", *model, "-w", out, "-d", "digits", "--limit", "100", *QUICK)
    pruned = secateur(*attack)
    assert pruned.code == 0, pruned.err
    assert pruned.json["normalise"] == [[pytest.approx(0.3)], [pytest.approx(0.03)]]
    again = secateur(*attack, "--mean", "0.3", "--std", "0.03")
    assert again.json["clean_accuracy"] == pruned.json["clean_accuracy"]
    other = secateur(*attack, "--mean", "0.5", "--std", "0.03")
    assert (other.code, "was pruned with another mean and std" in other.err) == (2, True)
    exported = secateur("export", out, *model, "-o", tmp_path / "net.pt2", "--no-measure", "--json")
    assert exported.code == 0, exported.err
    drawn = secateur("graph", *model, "-w", out, *size, "--json")
    assert drawn.code == 0, drawn.err
    plain = secateur(
        "export", *trained, *size, "--mean", "0.3", "--std", "0.03", "-o", tmp_path / "p.pt2", "--no-measure"
    )
    assert plain.code == 0, plain.err
    images = data.load("digits")
    loaded = torch.export.load(tmp_path / "p.pt2").module()
    assert (loaded(images.x[:200]).argmax(1) == images.y[:200]).float().mean() > 0.9


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--mean", "0.5"), "--mean and --std must be given together"),
        (("--std", "0.5"), "--mean and --std must be given together"),
        (("--mean", "a", "--std", "1"), "expected lists of numbers"),
        (("--mean", "0.1,0.2,0.3", "--std", "1,1,1"), "have 3 values, but the images have 1 channel"),
        (("--mean", "0.1,0.2", "--std", "1,1,1"), "mean has 2 values and std 3"),
        (("--mean", "0.1", "--std", "0"), "std must be positive"),
    ],
)
def test_a_mistake_in_a_normalisation_is_one_sentence(secateur, options, said):
    answer = secateur("attack", "-m", "resnet-tiny", "-d", "digits", "--limit", "4", *options)
    assert answer.code == 2
    assert said in answer.err


@pytest.fixture
def timm(monkeypatch):
    """A stand-in for the package, with one network and its configuration."""
    package = ModuleType("timm")

    def create_model(model_name, num_classes, in_chans):
        net = nn.Sequential(nn.Flatten(), nn.Linear(64 * in_chans, num_classes))
        net.pretrained_cfg = {"mean": (0.4, 0.5, 0.6), "std": (0.25, 0.25, 0.25)}
        return net

    package.is_model, package.create_model = lambda name: name == "net", create_model
    monkeypatch.setitem(sys.modules, "timm", package)


def test_a_network_of_a_package_says_how_its_input_is_normalised(secateur, timm):
    attack = ("attack", "-m", "timm:net", "-d", "digits", "--limit", "20", *QUICK)
    said = secateur(*attack)
    assert said.code == 0, said.err
    assert (
        "timm:net: the input is normalised with mean 0.5 and std 0.25, from its own configuration" in said.err
    )
    assert said.json["normalise"] == [[0.5], [0.25]]
    left_out = secateur(*attack, "--mean", "0", "--std", "1")
    assert left_out.json["normalise"] is None
    assert "normalised with" not in left_out.err


def test_the_graph_of_a_network_of_a_package_has_the_names_of_its_layers(secateur, timm):
    said = secateur("graph", "-m", "timm:net", "--input", "1x1x8x8", "--json")
    assert said.code == 0, said.err
    assert "model.1.weight" not in said.out
    assert "1.weight" in said.out


def test_a_package_network_pruned_before_is_read_as_it_was_saved(secateur, timm, tmp_path):
    import secateur as library

    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    library.save(net, tmp_path / "old", origin={"model": "timm:net", "classes": 10, "input": [1, 1, 8, 8]})
    said = secateur(
        "attack", "-m", "timm:net", "-w", tmp_path / "old", "-d", "digits", "--limit", "20", *QUICK
    )
    assert said.code == 0, said.err
    assert said.json["normalise"] is None


def test_validate_says_which_images_are_used_for_what(secateur, tmp_path):
    pictures(tmp_path / "d" / "train", 40)
    pictures(tmp_path / "d" / "val", 6, first=100)
    study = tmp_path / "s.yaml"
    study.write_text(f"name: s\ndata: folder:{tmp_path / 'd'}\nmodels: {{net: resnet-tiny}}\nimages: 6\n")
    said = secateur("validate", study)
    assert said.code == 0, said.err
    assert "36 train, 4 validation and 6 test images" in said.err
    assert "the validation split is used as test split" in said.err
    pictures(tmp_path / "d" / "extra", 4)
    refused = secateur("validate", study)
    assert refused.code == 2
    assert "'extra', which is not a split" in refused.err
