import pytest
import torch
from torch.nn import functional as F

from secateur import models
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


@pytest.mark.parametrize("criterion", [entry.name for entry in CRITERIA.entries()])
def test_every_criterion_has_an_answer_on_the_command_line(secateur, tmp_path, criterion):
    result = secateur(*PRUNE, "-o", tmp_path / "pruned", "-c", criterion, "-d", "digits", "--json")
    if CRITERIA.entry(criterion).facts.get("kind") == "weights":
        assert (result.code, "Traceback" in result.err) == (2, False)
        assert "masks single weights" in result.err
        return
    assert result.code == 0, result.err
    assert result.json["max_error"] <= 1e-10
    assert result.json["parameters_after"] < result.json["parameters_before"]


def test_an_adversarial_criterion_sees_adversarial_images():
    model = models.build("resnet-tiny").eval()
    seen = {name: evidence(name, "digits", model, 0) for name in ("taylor", "robust_taylor")}
    (clean, labels), (attacked, same) = seen["taylor"], seen["robust_taylor"]
    assert torch.equal(labels, same)
    assert 0 < (clean - attacked).abs().max() <= 8 / 255 + 1e-6
    loss = [F.cross_entropy(model(images), labels).item() for images in (clean, attacked)]
    assert loss[1] > loss[0]


def test_published_rates_are_listed_and_prune(secateur, tmp_path):
    listed = {row["name"]: row for row in secateur("ls", "rates", "--json").json["rates"]}
    assert listed["li2017:resnet56-a"]["parameters"] == "773336"
    result = secateur(
        "prune", "-m", "resnet56", "-o", tmp_path / "pruned", "--rates", "li2017:resnet56-a", "--json"
    )
    assert result.code == 0, result.err
    assert (result.json["parameters_after"], result.json["macs_after"]) == (773_336, 112_435_840)
