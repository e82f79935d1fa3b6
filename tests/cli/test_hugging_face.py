"""Every command with a network of Hugging Face: ``--model hf:FOLDER``."""

import json
import shutil
import subprocess
import sys

import pytest

import hub
import hub_server
from secateur.config import load_study
from secateur.errors import ExitCode


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return hub.trained(tmp_path_factory.mktemp("hub") / "resnet")


@pytest.fixture
def here(network, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net").symlink_to(network)
    return tmp_path


MODEL, DATA = ("--model", "hf:net"), ("--data", "digits:split")


def flat(text):
    return " ".join(text.split())


def test_a_check_says_what_it_takes_from_the_network_and_answers(secateur, here):
    options = ("--epochs", 1, "--images", 20, "--steps", 5, "--budgets", "linf:0.02", "--sparsity", 0.2)
    said = secateur("check", *MODEL, *DATA, *options, "--json")
    assert said.code == 0, said.err
    told = flat(said.err)
    assert "hf:net: images are resized to 16x16, as it states" in told
    assert "hf:net: ResNetForImageClassification with 10 classes: digit 0, digit 1" in told
    assert "normalised with mean 0.3 and std 0.4, from its own configuration" in told
    assert "the weights of its constructor" not in told
    assert said.json["lines"][0]["dense"] > 0.8
    attacked = secateur(
        "attack", *MODEL, *DATA, "--weights", "checks/hf-net/network", "--steps", 3, "--limit", 20, "--json"
    )
    assert attacked.code == 0, attacked.err
    assert attacked.json["resize"] == [16, 16]
    assert attacked.json["normalise"] is not None


def test_pruned_fine_tuned_evaluated_compared_and_exported(secateur, here):
    # It states its own size, so that no --input is needed; its channels are those of its configuration.
    pruned = secateur("prune", *MODEL, "--sparsity", 0.3, "--out", "small", "--input", "1x1x16x16")
    assert pruned.code == 0, pruned.err
    tuned = secateur(
        "finetune", *MODEL, *DATA, "--weights", "small", "--epochs", 1, "--out", "tuned", "--json"
    )
    assert tuned.code == 0, tuned.err
    assert "no --teacher given" not in tuned.err
    for name, weights in (("dense", ()), ("tuned", ("--weights", "tuned"))):
        said = secateur("evaluate", *MODEL, *DATA, *weights, "--out", f"{name}.json", "--json")
        assert said.code == 0, said.err
    assert said.json["accuracy"] == tuned.json["after"]
    compared = secateur("compare", "dense.json", "tuned.json")
    assert compared.code == 0
    assert "540 images of both" in compared.out
    exported = secateur("export", "small", "--out", "small.pt2", "--no-measure")
    assert exported.code == 0, exported.err
    shown = secateur("graph", *MODEL, "--input", "1x1x16x16")
    assert shown.code == 0, shown.err


def test_a_study_of_it_is_written_and_runs(secateur, here):
    said = secateur("init", "s.yaml", *MODEL, "--data", "digits:split")
    assert said.code == 0, said.err
    study = load_study(here / "s.yaml")
    assert study.data.resize == (16, 16)
    assert study.recipe("net").epochs == 0
    checked = secateur("validate", "s.yaml")
    assert checked.code == 0, checked.err
    assert "keeps the weights that hf:net comes with" in flat(checked.err)
    less = ("criteria=[l1]", "sparsities=[0, 0.5]", "seeds=[0]", "images=10", "attacks={ddn: {steps: 3}}",
            "finetune={standard: {epochs: 1}}")  # fmt: skip
    ran = secateur("run", "s.yaml", "--out", "run", *(word for each in less for word in ("--set", each)))
    assert ran.code == 0, ran.err
    dense = secateur("show", "run", "train net/0", "--json")
    assert dense.json["record"]["science"]["accuracy"]["test"] > 0.8
    assert any("mean 0.3" in note for note in dense.json["record"]["science"]["notes"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("evaluate", "--model", "hf:net", "--data", "digits:split", "--resize", 16, "--classes", 4),
            "10 classes",
        ),
        (("evaluate", "--model", "hf:absent/net/here", "--data", "digits"), "there is no folder"),
        (("evaluate", "--model", "hf:", "--data", "digits"), "there is no folder"),
        (("check", "--model", "hf:.", "--data", "digits"), "there is no config.json"),
        (("init", "t.yaml", "--model", "hf:.", "--data", "digits"), "there is no config.json"),
        (
            ("prune", "--model", "hf:net", "--out", "small", "--input", "1x3x16x16"),
            "takes images with 1 channel",
        ),
        (("finetune", "--model", "hf:net.py:build", "--data", "digits", "--out", "x"), "no folder"),
    ],
)
def test_mistakes_are_one_sentence(secateur, here, arguments, words):
    said = secateur(*arguments)
    assert said.code == ExitCode.BAD_INPUT, said.err
    assert words in flat(said.err)
    assert "Traceback" not in said.err


def test_classes_of_the_same_names_in_another_order_are_refused(secateur, here):
    import numpy as np
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (16, 16), dtype=np.uint8)
    for names, code in (("abcdefghij", 0), ("abcdefghji", ExitCode.BAD_INPUT)):
        labels = dict(enumerate(names))
        folder = here / names
        network = hub.resnet()
        network.config.id2label = labels
        hub.saved(network, folder, hub.PROCESSOR)
        for name in sorted(names):
            (here / "pictures" / name.upper()).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(here / "pictures" / name.upper() / "one.png")
        said = secateur("evaluate", "--model", f"hf:{folder}", "--data", "folder:pictures")
        assert said.code == code, said.err
    assert "in the order a, b, c and 7 more" in flat(said.err)


@pytest.fixture
def of_a_hub(network, tmp_path, monkeypatch):
    """A process of its own whose hub is one on this machine: the real client reads its address at import."""
    pytest.importorskip("huggingface_hub")
    folder = tmp_path / "repository"
    shutil.copytree(network, folder)
    (folder / "README.md").write_text("a card\n", encoding="utf-8")
    (folder / "pytorch_model.bin").write_bytes(b"a pickle that nobody asks for")
    with hub_server.hub_of({"owner/digits": folder}) as (address, asked):
        monkeypatch.chdir(tmp_path)
        for name, value in (("HF_ENDPOINT", address), ("HF_HOME", tmp_path / "cache"), ("NO_PROXY", "*")):
            monkeypatch.setenv(name, str(value))
        yield asked


def run(*arguments):
    command = [sys.executable, "-m", "secateur", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.slow
def test_a_network_of_a_hub_is_checked_by_its_name(of_a_hub):
    """Through the real client: what it downloads, keeps and asks for again."""
    options = ("--epochs", 1, "--images", 20, "--steps", 5, "--budgets", "linf:0.02", "--sparsity", 0.2)
    said = run("check", "--model", "hf:owner/digits", *DATA, *options, "--json")
    assert said.returncode == 0, said.stderr
    assert json.loads(said.stdout)["lines"][0]["dense"] > 0.8
    fetched = {
        path.rpartition("/")[2] for command, path in of_a_hub if command == "GET" and "resolve" in path
    }
    assert fetched == {"config.json", "preprocessor_config.json", "model.safetensors"}
    # The second time the cache has it, and the weights are not fetched again.
    of_a_hub.clear()
    again = run("evaluate", "--model", "hf:owner/digits", *DATA, "--json")
    assert again.returncode == 0, again.stderr
    assert not [path for command, path in of_a_hub if command == "GET" and path.endswith(".safetensors")]


@pytest.mark.slow
def test_what_a_hub_does_not_have_is_one_sentence(of_a_hub):
    for name, words in (
        ("hf:owner/absent", "the hub gives no 'owner/absent'"),
        ("hf:owner/digits@v2", "the hub gives no 'owner/digits@v2'"),
    ):
        said = run("evaluate", "--model", name, *DATA)
        assert said.returncode == ExitCode.BAD_INPUT, said.stderr
        assert words in flat(said.stderr)
        assert "Traceback" not in said.stderr
