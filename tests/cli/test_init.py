"""A study file to start from: of a preset, and of one's own network and images."""

import pytest

from secateur.config import load_study
from secateur.registry import MODELS, plugins

NET = """
from secateur.models import build as zoo

def build(num_classes=10, in_channels=1):
    return zoo("resnet-tiny", num_classes=num_classes, in_channels=in_channels)
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plugins, "_LOADED", {})
    monkeypatch.setattr(MODELS, "_entries", dict(MODELS._entries))
    monkeypatch.setattr(MODELS, "_objects", dict(MODELS._objects))
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "my net.py").write_text(NET)
    return tmp_path


def test_ones_own_network_is_a_study_that_validates(secateur, own):
    said = secateur(
        "init",
        "s.yaml",
        "--model",
        "nets/my net.py:build",
        "--data",
        "digits",
        "--mean",
        "0.1",
        "--std",
        "0.3",
    )
    assert said.code == 0, said.err
    assert "next: secateur plan s.yaml --plugin 'nets/my net.py'" in said.out
    checked = secateur("validate", "s.yaml", "--plugin", "nets/my net.py")
    assert checked.code == 0, checked.err
    assert "keeps the weights that my net.py:build comes with" in checked.err.replace("\n", " ")
    study = load_study(own / "s.yaml")
    assert study.models["my-net"].statistics == ((0.1,), (0.3,))
    assert study.recipe("my-net").epochs == 0
    # Without the file on the command line nothing of it runs.
    plugins._LOADED.clear()
    for name in [name for name in MODELS._entries if name.startswith("my net.py:")]:
        del MODELS._entries[name]
    refused = secateur("validate", "s.yaml")
    assert refused.code == 2
    assert "--plugin" in refused.err
    assert "s.yaml:" in refused.err


@pytest.mark.parametrize(
    ("options", "label", "holds"),
    [
        (("--model", "resnet-tiny"), "resnet-tiny", "recipe: {epochs: 20, batch_size: 128}"),
        (("--model", "shipped:digits-robust"), "digits-robust", "# robust: as it was published"),
        (("--model", "resnet-tiny", "--weights", "w: 1.pt", "--robust"), "resnet-tiny", 'weights: "w: 1.pt"'),
    ],
)
def test_the_networks_of_the_zoo_and_the_package_have_what_they_need(secateur, own, options, label, holds):
    (own / "w: 1.pt").touch()
    assert secateur("init", "s.yaml", *options, "--data", "digits").code == 0
    assert holds in (own / "s.yaml").read_text()
    study = load_study(own / "s.yaml")
    assert list(study.models) == [label]
    assert study.robust(label) == ("robust" in str(options))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--data", "digits"), "--data needs --model"),
        (("--robust",), "--robust needs --model"),
        (("--model", "net.py:build"), "--model needs --data"),
        (("--model", "nope.py:build", "--data", "digits"), "there is no file 'nope.py'"),
        (("--model", "resnet-tiny", "--data", "digits", "--weights", "w.pth"), "there is no file 'w.pth'"),
        (("--model", "resnet18", "--data", "digits", "--preset", "thesis"), "no --preset"),
        (("--model", "resnet18", "--data", "digits", "--mean", "0.5"), "--mean and --std"),
    ],
)
def test_what_does_not_belong_together_is_one_sentence_and_writes_nothing(secateur, own, options, words):
    said = secateur("init", "s.yaml", *options)
    assert said.code == 2
    assert words in said.err
    assert not (own / "s.yaml").exists()


def test_a_preset_is_written_as_before_and_nothing_is_overwritten(secateur, own):
    assert secateur("init", "s.yaml").code == 0
    text = (own / "s.yaml").read_text()
    assert text.startswith("# Handwritten digits")
    assert "exists already" in secateur("init", "s.yaml", "--preset", "thesis").err
    assert (own / "s.yaml").read_text() == text
