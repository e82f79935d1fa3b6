"""Networks with inputs other than one batch of images, from the command line."""

import pytest
import torch

from secateur.cli.inputs import asked_inputs, example

CODE = """
import torch
from torch import nn

class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.e, self.a, self.f = nn.Embedding(50, 16), nn.Linear(16, 12), nn.Linear(12, 3)

    def forward(self, ids, mask=None, scale=None):
        h = self.a(self.e(ids)).relu()
        if mask is not None:
            h = h * mask[..., None]
        return self.f(h.mean(1) if scale is None else h.mean(1) * scale)

def net():
    return Tagger()

def with_inputs():
    return Tagger(), {"ids": torch.randint(0, 50, (2, 9)), "mask": torch.ones(2, 9).bool()}
"""


@pytest.fixture
def mine(tmp_path):
    (tmp_path / "mine.py").write_text(CODE)
    return f"{tmp_path / 'mine.py'}"


INPUTS = {
    "named": ("ids:int64:2x10:0..50", "mask:bool:2x10"),
    "by position": ("int64:2x10:0..50", "bool:2x10", "float32:1"),
    "one": ("int64:2x10:0..50",),
    "other types": ("ids:int32:2x10:0..50", "mask:2x10", "scale:float32:2x1:0.5..2"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", INPUTS)
def test_inputs_have_types_and_ranges(secateur, mine, tmp_path, kind):
    options = [word for text in INPUTS[kind] for word in ("--input", text)]
    said = secateur("prune", "-m", f"{mine}:net", *options, "-o", tmp_path / "out", "--json")
    assert said.code == 0, said.err
    assert said.json["verified"]
    assert (said.json["channels_before"], said.json["channels"]) == (28, 14)
    assert secateur("graph", "-m", f"{mine}:net", *options, "--json").json["groups"]


def test_a_function_may_return_the_inputs_too(secateur, mine, tmp_path):
    said = secateur("prune", "-m", f"{mine}:with_inputs", "-o", tmp_path / "out", "--json")
    assert said.code == 0, said.err
    assert said.json["channels"] == 14
    said = secateur("graph", "-m", f"{mine}:with_inputs", "-w", tmp_path / "out", "--json")
    assert said.code == 0, said.err
    # What the command line asks for comes first.
    said = secateur("graph", "-m", f"{mine}:with_inputs", "--input", "int64:1x4:50..60")
    assert said.code == 2
    assert "fails on the example inputs" in said.err


@pytest.mark.slow
@pytest.mark.parametrize("function", ["net", "with_inputs"])
def test_a_pruned_folder_knows_its_inputs(secateur, mine, tmp_path, function):
    told = () if function == "with_inputs" else ("--input", "ids:int64:2x10:0..50")
    said = secateur("prune", "-m", f"{mine}:{function}", *told, "-o", tmp_path / "out", "--json")
    assert said.code == 0, said.err
    file = tmp_path / "net.pt2"
    again = ("-m", f"{mine}:{function}", "--no-measure", "--json")
    said = secateur("export", tmp_path / "out", *again, "-o", file)
    assert said.code == 0, said.err
    assert said.json["inputs"][0]["dtype"] == "int64"


def test_values_lie_in_their_range():
    asked = asked_inputs("mine.py:net", ["a:int64:100:3..5", "b:100:-2..-1", "c:bool:3", "d:float64:2x2"])
    made = example(asked)
    assert set(made["a"].tolist()) == {3, 4}
    assert bool(((made["b"] >= -2) & (made["b"] < -1)).all())
    assert made["c"].all()
    assert made["d"].dtype == torch.float64
    assert torch.equal(made["a"], example(asked)["a"])


BAD = {
    "8by8": "expected a shape such as 1x3x224x224",
    "ids:int46:2x10:0..50": "there is no type 'int46' hint: did you mean 'int64'?",
    "ids:int64:2x10": "int64 needs a range hint: for example ids:int64:2x10:0..50",
    "ids:int64:2x10:0-50": "'0-50' is no range hint: write LOW..HIGH, as in 0..50",
    "ids:int64:2x10:5..5": "the range is empty",
    "ids:int64:2x10:0..1.5": "'0..1.5' is no range",
    "mask:bool:9:0..1": "bool has no range",
    "x:0x4": "every size must be at least 1",
    "a:b:c:2x3": "write [NAME:][TYPE:]SHAPE[:LOW..HIGH]",
    "my ids:2x10": "'my ids' is no name of an argument",
    "8": "a single number is no shape",
}


@pytest.mark.parametrize("text", BAD)
def test_a_mistake_is_one_sentence_with_the_right_form(secateur, mine, text):
    said = secateur("graph", "-m", f"{mine}:net", "--input", text)
    assert said.code == 2
    assert BAD[text] in " ".join(said.err.split())
    assert "Traceback" not in said.err


def test_mistakes_of_several_inputs(secateur, mine):
    for texts, words in (
        (("ids:int64:2x10:0..50", "2x10"), "some of --input have names and some have none"),
        (("x:2x10", "x:2x10"), "--input names x more than once"),
    ):
        options = [word for text in texts for word in ("--input", text)]
        said = secateur("graph", "-m", f"{mine}:net", *options)
        assert said.code == 2
        assert words in " ".join(said.err.split())
    said = secateur("graph", "-m", f"{mine}:net")
    assert said.code == 2
    assert "or let the function return (model, inputs)" in " ".join(said.err.split())
