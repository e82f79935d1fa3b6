"""`secateur export`: from a pruned folder, or any network, to a checked file."""

import json
from inspect import signature

import pytest

from secateur import exports, pruning
from secateur.cli.prune import prune
from secateur.exports import formats


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from secateur.cli import main

    out = tmp_path_factory.mktemp("pruned") / "net"
    with pytest.raises(SystemExit) as end:
        main(["prune", "-m", "resnet-tiny", "-s", "0.5", "-o", str(out)])
    assert not end.value.code
    return out


@pytest.mark.slow
def test_a_pruned_folder_needs_no_other_words(secateur, folder, tmp_path):
    said = secateur(
        *("export", folder, "-o", tmp_path / "net.pt2", "--batch", "2", "--seconds", "0"),
        *("--threads", "1", "--json"),
    )
    assert said.code == 0, said.err
    assert said.json == json.loads((tmp_path / "net.pt2.json").read_text())
    assert said.json["check"]["max_error"] <= 1e-6
    before, after = said.json["networks"]["before"], said.json["networks"]["after"]
    assert after["parameters"] < 0.3 * before["parameters"]
    assert [cost["network"] for cost in said.json["costs"]] == ["before", "after", "torch.export"]


@pytest.mark.slow
def test_a_network_that_was_not_pruned_stands_alone(secateur, tmp_path):
    said = secateur("export", "-m", "resnet-tiny", "-o", tmp_path / "net.pt2", "--no-measure")
    assert said.code == 0, said.err
    assert "model" in said.out
    assert "before" not in said.out
    assert (tmp_path / "net.pt2.md").exists()


def test_a_missing_extra_is_exit_code_5_with_the_command_to_install_it(
    secateur, folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(formats, "find_spec", lambda package: None)
    said = secateur("export", folder, "-o", tmp_path / "net.onnx")
    assert said.code == 5
    assert "pip install 'secateur[onnx]'" in said.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["nowhere", "-o", "net.pt2"], 2, "no saved network"),
        (["-o", "net.pt2"], 2, "no network is named"),
        (["FOLDER", "-w", "x.pt", "-o", "net.pt2"], 2, "already contains weights"),
        (["FOLDER", "-o", "net.pth"], 2, "has no known suffix"),
        (["FOLDER", "-o", "net.pt2", "--device", "abacus"], 5, "no device abacus"),
    ],
)
def test_a_mistake_is_one_sentence(secateur, folder, tmp_path, monkeypatch, words, code, said):
    monkeypatch.chdir(tmp_path)
    found = secateur("export", *(folder if word == "FOLDER" else word for word in words))
    assert found.code == code
    assert said in found.err
    assert "Traceback" not in found.err
    assert not list(tmp_path.iterdir())


def test_a_folder_cannot_make_us_run_code(secateur, tmp_path):
    from secateur import models

    evil = tmp_path / "evil.py"
    evil.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    net = models.build("resnet-tiny", in_channels=1)
    pruning.save(net, tmp_path / "net", origin={"model": f"{evil}:net", "input": [1, 1, 8, 8]})
    said = secateur("export", tmp_path / "net", "-o", tmp_path / "net.pt2")
    assert said.code == 2
    assert "whose code would run" in said.err
    assert not (tmp_path / "ran").exists()


def test_every_option_of_a_plan_is_one_of_prune():
    options = set(signature(pruning.plan).parameters) - {"graph", "dense_sizes", "batch"}
    assert options <= set(signature(prune).parameters)
    assert "data" in signature(prune).parameters


def test_budgets_and_rates_are_read(secateur, tmp_path):
    said = secateur(
        *("prune", "-m", "resnet-tiny", "--rates", "layer1=0", "--rates", "layer3=0.75", "-s", "0.5"),
        *("--min-channels", "2", "--max-sparsity", "0.75", "-o", tmp_path / "out", "--json"),
    )
    assert said.code == 0, said.err
    said = secateur("prune", "-m", "resnet-tiny", "--parameters", "20_000", "-o", tmp_path / "few", "--json")
    assert said.json["parameters_after"] <= 20_000


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rates", "layer1=x"], "LAYER=SPARSITY"),
        (["--rates", "layer1=0.5", "--rates", "layer2"], "LAYER=SPARSITY"),
        (["--parameters", "many"], "expected a number"),
        (["--macs", "1.5"], "fraction"),
        (["--latency", "fast"], "latency must be"),
        (["--latency", "2"], "latency must be"),
    ],
)
def test_a_bad_budget_is_one_sentence(secateur, tmp_path, words, said):
    found = secateur("prune", "-m", "resnet-tiny", *words, "-o", tmp_path / "out")
    assert found.code == 2
    assert said in found.err
    assert "Traceback" not in found.err
    assert not (tmp_path / "out").exists()


def test_what_the_room_offers_is_what_it_says():
    assert all(getattr(exports, name) is not None for name in exports.__all__)
