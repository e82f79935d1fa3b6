import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from secateur import data, models
from secateur.cli.targets import evidence
from secateur.registry import CRITERIA

PRUNE = ("prune", "-m", "resnet-tiny", "--input", "1x1x8x8", "-s", "0.5")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("-c", "taylor"), "add --data"),
        (("-c", "robust_taylor"), "add --data"),
        (("-c", "taylor", "-d", "digist"), "did you mean 'digits'"),
    ],
)
def test_a_criterion_on_data_without_its_data_is_refused(secateur, tmp_path, options, said):
    result = secateur(*PRUNE, "-o", tmp_path / "pruned", *options)
    assert result.code == 2
    assert said in result.err
    assert "Traceback" not in result.err
    assert not (tmp_path / "pruned").exists()


@pytest.mark.slow
@pytest.mark.parametrize("criterion", [entry.name for entry in CRITERIA.entries()])
def test_every_criterion_has_an_answer_on_the_command_line(secateur, tmp_path, criterion):
    result = secateur(*PRUNE, "-o", tmp_path / "pruned", "-c", criterion, "-d", "digits", "--json")
    if CRITERIA.entry(criterion).facts.get("kind") == "weights":
        assert (result.code, "Traceback" in result.err) == (2, False)
        assert "scores single weights" in result.err
        return
    assert result.code == 0, result.err
    assert result.json["max_error"] <= 1e-10
    assert result.json["parameters_after"] < result.json["parameters_before"]


def test_an_adversarial_criterion_sees_adversarial_images():
    model = models.build("resnet-tiny").eval()
    digits = data.load("digits")
    seen = {name: evidence(name, "digits", digits, model, 0) for name in ("taylor", "robust_taylor")}
    (clean, labels), (attacked, same) = seen["taylor"], seen["robust_taylor"]
    assert torch.equal(labels, same)
    assert 0 < (clean - attacked).abs().max() <= 8 / 255 + 1e-6
    loss = [F.cross_entropy(model(images), labels).item() for images in (clean, attacked)]
    assert loss[1] > loss[0]


@pytest.mark.slow
def test_published_rates_are_listed_and_prune(secateur, tmp_path):
    listed = {row["name"]: row for row in secateur("ls", "rates", "--json").json["rates"]}
    assert listed["li2017:resnet56-a"]["parameters"] == "773336"
    result = secateur(
        "prune", "-m", "resnet56", "-o", tmp_path / "pruned", "--rates", "li2017:resnet56-a", "--json"
    )
    assert result.code == 0, result.err
    assert (result.json["parameters_after"], result.json["macs_after"]) == (773_336, 112_435_840)


NET = """
from torch import nn

def net(num_classes=3, in_channels=3):
    layers = [nn.Conv2d(in_channels, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(8, num_classes))

def asked(num_classes):
    return net(num_classes, 1)
"""


@pytest.fixture
def own(tmp_path):
    (tmp_path / "net.py").write_text(NET)
    images = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    np.savez(tmp_path / "own.npz", x=images.numpy(), y=np.arange(20) % 4)
    return tmp_path


@pytest.mark.parametrize(
    ("options", "classes"),
    [
        (("net", "--input", "1x3x8x8"), 3),
        (("asked", "--input", "1x1x8x8"), 10),
        (("net", "--input", "1x3x8x8", "--classes", "5"), 5),
        (("net", "--data", "own.npz", "-c", "taylor"), 4),
        (("net", "--data", "own.npz"), 4),
    ],
)
def test_a_function_is_asked_for_the_classes_that_are_known(secateur, own, options, classes):
    function, *rest = options
    rest = [f"npz:{own / word}" if word == "own.npz" else word for word in rest]
    result = secateur("prune", "-m", f"{own / 'net.py'}:{function}", *rest, "-o", own / "out")
    assert result.code == 0, result.err
    weights = load_file(own / "out" / "weights.safetensors")
    assert weights["4.weight"].shape[0] == classes
    # The command that is offered next works for this network, too.
    assert f"secateur export {own / 'out'} --model {own / 'net.py'}:{function} --out" in result.err


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        (("-m", "net.py", "--input", "1x3x8x8"), "net.py:FUNCTION"),
        (("-m", "net.py:net", "-d", "pictures"), "folder:pictures"),
    ],
)
def test_a_name_that_lacks_its_source_or_function_is_answered_with_it(
    secateur, own, monkeypatch, options, hint
):
    monkeypatch.chdir(own)
    (own / "pictures").mkdir()
    result = secateur("prune", *options, "-o", "out")
    assert result.code == 2
    assert hint in result.err
