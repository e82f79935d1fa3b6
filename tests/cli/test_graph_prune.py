import json

import pytest
import torch

from secateur import models


@pytest.fixture
def pruned(secateur, tmp_path):
    said = secateur(
        "prune", "-m", "resnet-tiny", "--input", "1x1x8x8", "-s", "0.5", "-o", tmp_path / "pruned", "--json"
    )
    assert said.code == 0, said.err
    return tmp_path / "pruned", said.json


def test_prune_reports_sizes_and_its_proof(pruned):
    folder, report = pruned
    assert report["parameters_after"] < 0.3 * report["parameters_before"]
    assert report["macs_after"] < 0.3 * report["macs_before"]
    assert report["max_error"] <= 1e-10
    assert {path.name for path in folder.iterdir()} >= {"plan.json", "weights.safetensors"}


@pytest.mark.slow
def test_a_pruned_folder_serves_as_weights(secateur, pruned, tmp_path):
    folder, _ = pruned
    out = tmp_path / "record.json"
    said = secateur(
        *("attack", "-m", "resnet-tiny", "-w", folder, "-d", "digits", "-a", "fmn", "--norm", "2"),
        *("--steps", "5", "--limit", "12", "--out", out, "--json"),
    )
    assert said.code == 0, said.err
    assert said.json["n"] == 12
    assert said.json["partial"] is True
    assert set(said.json["median_correct"]) == {"l0", "l1", "l2", "linf"}
    record = json.loads(out.read_text())
    assert len(record["outcome"]) == len(record["hashes"]) == 12


def test_attack_takes_weights_from_a_state_dict(secateur, tmp_path):
    model = models.build("resnet-tiny", in_channels=1)
    torch.save(model.state_dict(), tmp_path / "w.pt")
    said = secateur(
        "attack", "-m", "resnet-tiny", "-w", tmp_path / "w.pt", "-d", "digits", "--steps", "3", "--limit", "4"
    )
    assert said.code == 0, said.err
    assert "grade" in said.out


def test_graph_explains_and_draws(secateur, tmp_path):
    picture = tmp_path / "graph.svg"
    said = secateur("graph", "-m", "resnet-tiny", "--input", "1x1x8x8", "--draw", picture)
    assert said.code == 0, said.err
    assert "group 0" in said.out
    assert picture.read_text().startswith("<svg") or "<svg" in picture.read_text()[:200]


def test_graph_speaks_json(secateur):
    said = secateur("graph", "-m", "resnet-tiny", "--input", "1x1x8x8", "--json")
    assert said.json["groups"]


def test_a_model_of_ones_own_comes_from_a_file(secateur, tmp_path):
    code = """
from torch import nn

def net(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, num_classes))
"""
    (tmp_path / "mine.py").write_text(code)
    said = secateur(
        "prune", "-m", f"{tmp_path / 'mine.py'}:net", "--input", "1x1x8x8", "-o", tmp_path / "out", "--json"
    )
    assert said.code == 0, said.err
    assert said.json["parameters_after"] < said.json["parameters_before"]


@pytest.mark.parametrize("form", ["json", "words"])
def test_a_proof_that_compared_nothing_is_called_none(secateur, tmp_path, form):
    code = """
from torch import nn

class Found(nn.Sequential):
    def forward(self, x):
        y = super().forward(x)
        return y.sum() * y.new_zeros(0)

def net(num_classes):
    return Found(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, num_classes))
"""
    (tmp_path / "mine.py").write_text(code)
    asked = ("prune", "-m", f"{tmp_path / 'mine.py'}:net", "--input", "1x1x8x8", "-o", tmp_path / "out")
    said = secateur(*asked, *(["--json"] if form == "json" else []))
    assert said.code == 0, said.err
    assert "is empty on inputs like the example" in " ".join(f"{said.out} {said.err}".split())
    if form == "json":
        assert (said.json["verified"], said.json["max_error"]) == (False, None)
    else:
        assert "not verified" in said.out
        assert "equals the masked network" not in said.out


BAD = [
    (["prune", "-m", "resnet-tny", "-o", "OUT"], 2, "resnet-tiny"),
    (["prune", "-m", "resnet-tiny", "--input", "1x1x8x8", "-s", "1.5", "-o", "OUT"], 2, "1.5"),
    (["prune", "-m", "resnet-tiny", "--input", "1x1x8x8", "-s", "nan", "-o", "OUT"], 2, "sparsity"),
    (["prune", "-m", "resnet-tiny", "--input", "8by8", "-o", "OUT"], 2, "8by8"),
    (["prune", "-m", "resnet-tiny", "--input", "1x1x8x8", "-c", "l3", "-o", "OUT"], 2, "did you mean 'l2'?"),
    (["prune", "-m", "nowhere.py:net", "--input", "1x1x8x8", "-o", "OUT"], 2, "nowhere.py"),
    (["attack", "-m", "resnet-tiny", "-w", "missing.pt", "-d", "digits"], 2, "missing.pt"),
    (["attack", "-m", "resnet-tiny", "-d", "idx:missing"], 2, "missing"),
    (["attack", "-m", "resnet-tiny", "-d", "digits", "--norm", "3"], 2, "norm"),
    (["attack", "-m", "resnet-tiny", "-d", "digits", "--set", "gama=0.1"], 2, "gama"),
    (["attack", "-m", "resnet-tiny", "-d", "digits", "--set", "gamma"], 2, "gamma"),
    (["attack", "-m", "resnet-tiny", "-d", "digits", "--steps", "0"], 2, "steps"),
    (["attack", "-m", "resnet-tiny", "-d", "digits", "--limit", "0"], 2, "limit"),
    (["attack", "-m", "resnet-tiny", "-d", "digits", "-a", "dnn"], 2, "ddn"),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code", "word"), BAD, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_a_mistake_is_one_sentence_that_names_it(secateur, tmp_path, monkeypatch, arguments, code, word):
    monkeypatch.chdir(tmp_path)
    said = secateur(*(str(tmp_path / "out") if argument == "OUT" else argument for argument in arguments))
    assert said.code == code
    assert word in said.err
    assert "Traceback" not in said.err
    assert not (tmp_path / "out").exists()


def test_prune_never_overwrites_a_folder(secateur, pruned):
    folder, _ = pruned
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    said = secateur("prune", "-m", "resnet-tiny", "--input", "1x1x8x8", "-o", folder)
    assert said.code == 2
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_budget_takes_the_place_of_a_sparsity(secateur, tmp_path):
    said = secateur("prune", "-m", "resnet-tiny", "--parameters", "0.4", "-o", tmp_path / "out", "--json")
    assert said.code == 0, said.err
    assert said.json["parameters_after"] <= 0.4 * said.json["parameters_before"]


def test_ways_to_choose_channels_are_options(secateur, tmp_path):
    said = secateur(
        *(
            "prune",
            "-m",
            "resnet-tiny",
            "--scope",
            "global",
            "--selection",
            "greedy",
            "--reduction",
            "shortcut",
        ),
        *("--round-to", "4", "-s", "0.5", "-o", tmp_path / "out", "--json"),
    )
    assert said.code == 0, said.err
    assert said.json["parameters_after"] < said.json["parameters_before"]


ATTENTION = """
import torch
from torch import nn
from torch.nn import functional as F

class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.embed, self.head = nn.Linear(8, 24), nn.Linear(24, classes)
        self.q, self.k, self.v, self.out = (nn.Linear(24, 24) for _ in range(4))
        self.num_heads, self.head_size = 4, 6

    def split(self, x):
        return x.view(x.shape[0], -1, self.num_heads, self.head_size).transpose(1, 2)

    def forward(self, x):
        x = self.embed(x.flatten(1, 2))
        y = F.scaled_dot_product_attention(*(self.split(layer(x)) for layer in (self.q, self.k, self.v)))
        return self.head(self.out(y.transpose(1, 2).flatten(2)).mean(1))

def net(num_classes):
    return Net(num_classes)
"""


def test_whole_heads_go_where_asked_for(secateur, tmp_path):
    (tmp_path / "mine.py").write_text(ATTENTION)
    common = ("-m", f"{tmp_path / 'mine.py'}:net", "--input", "1x1x8x8", "--heads", "whole")
    explained = secateur("graph", *common, "--json")
    assert explained.code == 0, explained.err
    said = secateur("prune", *common, "-s", "0.5", "-o", tmp_path / "out", "--json")
    assert said.code == 0, said.err
    assert said.json["verified"]
    plan = json.loads((tmp_path / "out" / "plan.json").read_text())["plans"][0]
    assert {"attribute": "num_heads", "before": 4, "after": 2}.items() <= plan["repairs"][0].items()
    refused = secateur("prune", "-m", "resnet-tiny", "--heads", "whole", "-o", tmp_path / "none")
    assert refused.code == 2
    assert "no attention" in refused.err


SEVERAL = """
from torch import nn

class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.hidden, self.head = nn.Linear(64, 16), nn.Linear(16, classes)
    def forward(self, x):
        features = self.hidden(x.flatten(1)).relu()
        return {"features": features, "logits": self.head(features)}

def net(num_classes):
    return Net(num_classes)
"""


def test_one_of_several_outputs_counts_where_it_is_named(secateur, tmp_path):
    (tmp_path / "mine.py").write_text(SEVERAL)
    common = ("-m", f"{tmp_path / 'mine.py'}:net", "--input", "1x1x8x8")
    refused = secateur("prune", *common, "-o", tmp_path / "none")
    assert refused.code == 2
    assert "name the logits" in refused.err
    said = secateur("prune", *common, "--logits", "logits", "-o", tmp_path / "out", "--json")
    assert said.code == 0, said.err
    assert said.json["channels"] == 8
    unknown = secateur("graph", *common, "--logits", "1")
    assert unknown.code == 2
    assert "the model has no output 1" in unknown.err
    assert "its outputs are: features, logits" in unknown.err


def test_the_commands_that_come_next_can_be_pasted(secateur, tmp_path):
    said = secateur("prune", "-m", "shipped:digits-plain", "--sparsity", "0.5", "--out", tmp_path / "my net")
    assert f"--weights '{tmp_path}/my net' --data" in said.err
    assert f"secateur export '{tmp_path}/my net' --out 'my net.onnx'" in said.err


def test_a_picture_of_the_graph_is_svg_or_refused(secateur, tmp_path):
    said = secateur("graph", "-m", "shipped:digits-plain", "--draw", tmp_path / "graph.png")
    assert said.code == 2
    assert "does not end in .svg" in said.err
    assert not (tmp_path / "graph.png").exists()
