"""`secateur evaluate`, `finetune`, and `compare` of two of their files."""

import pytest
import torch
from safetensors.torch import load_file

from secateur.errors import ExitCode

NETWORK = ("--model", "shipped:digits-plain")
DATA = ("--data", "digits:split")


@pytest.mark.slow
def test_a_pruned_network_is_fine_tuned_evaluated_and_compared(secateur, tmp_path):
    assert secateur("prune", *NETWORK, "--sparsity", 0.6, "--out", tmp_path / "pruned").code == 0
    tuned = tmp_path / "tuned"
    options = ("--weights", tmp_path / "pruned", "--epochs", 2, "--out", tuned, "--json")
    said = secateur("finetune", *NETWORK, *DATA, *options)
    assert said.code == 0
    assert said.json["after"] > said.json["before"]
    assert {path.name for path in tuned.iterdir()} >= {"plan.json", "weights.safetensors"}

    dense = secateur(
        "evaluate", *NETWORK, *DATA, "--out", tmp_path / "dense.json", "--pictures", tmp_path / "pictures"
    )
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == {"evaluation.png", "evaluation.svg"}
    assert dense.code == 0
    assert "taken for" in dense.out
    again = secateur(
        "evaluate", *NETWORK, *DATA, "--weights", tuned, "--out", tmp_path / "tuned.json", "--json"
    )
    assert again.json["accuracy"] == said.json["after"]
    assert "correct" not in again.json
    compared = secateur("compare", tmp_path / "dense.json", tmp_path / "tuned.json")
    assert compared.code == 0
    assert "540 images of both" in compared.out
    # A finished network is not trained over.
    repeated = secateur("finetune", *NETWORK, *DATA, *options)
    assert repeated.code == ExitCode.BAD_INPUT
    assert "holds something else" in repeated.err


def test_files_that_are_no_results_are_one_sentence(secateur, tmp_path):
    (tmp_path / "a.json").write_text("[1, 2]")
    (tmp_path / "b.json").write_text('{"schema_version": 1}')
    said = secateur("compare", tmp_path / "a.json", tmp_path / "b.json")
    assert said.code == ExitCode.BAD_INPUT
    assert "is not a JSON of attack or evaluate" in said.err
    said = secateur("compare", tmp_path / "b.json", tmp_path / "b.json")
    assert said.code == ExitCode.BAD_INPUT
    assert "names no images" in said.err


ANSWERS = """
import torch
from torch import nn
from secateur.models import resolve

class Answers(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = resolve("shipped:digits-plain")

    def forward(self, x):
        z = self.net(x)
        return {"halved": z / 2, "scores": z}

def answers():
    return Answers()

def half():
    return resolve("shipped:digits-plain").bfloat16()
"""


@pytest.mark.slow
def test_a_network_that_answers_otherwise_or_in_half_precision_is_fine_tuned(secateur, tmp_path):
    (tmp_path / "net.py").write_text(ANSWERS)
    for function, shape, options in (
        ("answers", "1x1x8x8", ("--logits", "scores")),
        ("half", "bfloat16:1x1x8x8", ()),
    ):
        model, folder = ("--model", f"{tmp_path}/net.py:{function}"), tmp_path / function
        pruned = secateur("prune", *model, *options, "--input", shape, "--sparsity", 0.5, "--out", folder)
        assert pruned.code == 0, pruned.err
        tuned = ("--weights", folder, "--epochs", 1, "--out", tmp_path / f"{function}-tuned", "--json")
        said = secateur("finetune", *model, *DATA, *options, *tuned)
        assert said.code == 0, said.err
        assert said.json["after"] > said.json["before"]
        told = load_file(tmp_path / f"{function}-tuned" / "weights.safetensors")
        kinds = {tensor.dtype for tensor in told.values() if tensor.is_floating_point()}
        assert kinds == {torch.bfloat16 if function == "half" else torch.float32}


def test_a_folder_with_other_files_is_left_as_it_is(secateur, tmp_path):
    (tmp_path / "weights.safetensors").write_text("the only copy")
    said = secateur("finetune", *NETWORK, *DATA, "--epochs", "1", "--out", tmp_path)
    assert said.code == 2
    assert "holds something else" in said.err
    assert (tmp_path / "weights.safetensors").read_text() == "the only copy"


@pytest.mark.parametrize(
    ("size", "word"), [("8", "8 grey levels of 256 are 8/255"), ("4/255,8/255", "lists 2 budgets")]
)
@pytest.mark.parametrize("command", ["check", "finetune"])
def test_an_adversary_of_another_scale_is_refused(secateur, tmp_path, command, size, word):
    said = secateur(command, *NETWORK, *DATA, "--adversarial", size, "--out", tmp_path / "out")
    assert said.code == 2
    assert word in said.err
