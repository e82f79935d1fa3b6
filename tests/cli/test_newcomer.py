"""Mistakes of newcomers with check, init, evaluate, finetune and compare: a sentence each, exit code 2."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from secateur.errors import ExitCode

NET = """
import torch
from torch import nn

class Classes(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x).argmax(1)

def build(num_classes=10, in_channels=1):
    return nn.Sequential(
        nn.Conv2d(in_channels, 8, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes),
    )

def forgets():
    build()

def fails():
    raise ValueError("no weights here")

def needs(width):
    return build()

def classes():
    return Classes(build())

def frozen():
    return build().requires_grad_(False)
"""
LINE = NET[: NET.index("raise")].count("\n") + 1
D = "digits:split"
S = "shipped:digits-plain"
CHECK = ("check", "--model", S, "--data", D)


def picture(path, side=8):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side), dtype=np.uint8)).save(path)


@pytest.fixture(scope="module")
def things(tmp_path_factory):
    """A folder with a network, weights and pictures as newcomers have them."""
    here = tmp_path_factory.mktemp("newcomer")
    (here / "net.py").write_text(NET)
    (here / "broken.py").write_text("def build(:\n")
    (here / "w.pth").write_bytes(b"hello")
    torch.save({"a": torch.zeros(2)}, here / "other.pth")
    torch.save({"trained": {"a": torch.zeros(2)}, "epoch": 3}, here / "checkpoint.pth")
    torch.save({"model": {"a": torch.zeros(2)}, "epoch": 3}, here / "other.pth")
    torch.save(torch.nn.Linear(2, 2), here / "whole.pth")
    picture(here / "flat" / "a.png")
    picture(here / "images" / "train" / "a" / "1.png")
    picture(here / "images" / "train" / "b" / "1.png")
    picture(here / "mixed" / "train" / "a" / "1.png")
    picture(here / "mixed" / "train" / "b" / "1.png", 9)
    (here / "empty").mkdir()
    (here / "full").mkdir()
    (here / "full" / "thesis.tex").write_text("years of work")
    (here / "notes.txt").write_text("mine")
    (here / "bad.json").write_text("{")
    (here / "study.yaml").write_text("name: mine\n")
    np.savez(here / "floats.npz", x=np.zeros((4, 8, 8)), y=np.zeros(4))
    return here


def files(folder):
    return {path.relative_to(folder) for path in Path(folder).rglob("*")}


MISTAKES = [
    # The network.
    (("check", "--model", "net.py", "--data", D), "name the function in it"),
    (("check", "--model", "net:build", "--data", D), "unknown model source 'net'"),
    (("check", "--model", "net.py:bild", "--data", D), "has no function 'bild'"),
    (("check", "--model", "absent.py:build", "--data", D), "there is no file 'absent.py'"),
    (("check", "--model", "broken.py:build", "--data", D), "cannot be imported: SyntaxError"),
    (("check", "--model", "net.py:forgets", "--data", D), "is a NoneType, not a torch.nn.Module"),
    (("check", "--model", "net.py:fails", "--data", D), f"fails in line {LINE}: ValueError: no weights here"),
    (("check", "--model", "net.py:needs", "--data", D), "cannot be called"),
    (("check", "--model", "net.py:classes", "--data", D), "leave out argmax"),
    (("check", "--model", "net.py:build", "--data", D), "does not fit these images"),
    (("check", "--model", "w.pth", "--data", D), "--model FILE.py:FUNCTION --weights w.pth"),
    (("check", "--model", "google/vit-base", "--data", D), "write hf:google/vit-base"),
    (("check", "--model", "huggingface:google/vit", "--data", D), "unknown model source 'huggingface'"),
    (("check", "--model", "resnet-tinny", "--data", D), "did you mean 'resnet-tiny'"),
    # Its weights.
    (("check", "--model", "net.py:build", "--weights", "w.pth", "--data", D), "is not a weight file"),
    (("check", "--model", "net.py:build", "--weights", "other.pth", "--data", D), "does not fit the model"),
    (("check", "--model", "net.py:build", "--weights", "checkpoint.pth", "--data", D), "holds no state dict"),
    (("check", "--model", "net.py:build", "--weights", "other.pth", "--data", D), "does not fit the model"),
    (("check", "--model", "net.py:build", "--weights", "whole.pth", "--data", D), "would run code"),
    (("check", "--model", "net.py:build", "--weights", "absent.pth", "--data", D), "there is no file"),
    (("check", "--model", "net.py:build", "--weights", "full", "--data", D), "no saved network in 'full'"),
    # Its images.
    (("check", "--model", S, "--data", "absent"), "unknown dataset 'absent'"),
    (("check", "--model", S, "--data", "images"), "write folder:images"),
    (("check", "--model", S, "--data", "folder:absent"), "there is no folder 'absent'"),
    (("check", "--model", S, "--data", "folder:empty"), "has no sub-folders"),
    (("check", "--model", S, "--data", "folder:flat"), "has no sub-folders"),
    (("check", "--model", S, "--data", "folder:mixed"), "--resize 8"),
    (("check", "--model", S, "--data", "npz:floats.npz"), "must be one-dimensional integers"),
    ((*CHECK, "--resize", "big"), "invalid --resize big"),
    ((*CHECK, "--mean", "0.5"), "must be given together"),
    (("check", "--model", "resnet-tiny", "--data", D, "--mean", "1,1,1", "--std", "1,1,1"), "3 values"),
    ((*CHECK, "--classes", "3"), "into 10 classes"),
    # How much is removed; all of it before anything is attacked.
    ((*CHECK, "--sparsity", "50"), "sparsity must be in [0, 1)"),
    ((*CHECK, "--sparsity", "1"), "sparsity must be in [0, 1)"),
    ((*CHECK, "--sparsity", "0"), "no channel can be removed"),
    ((*CHECK, "--sparsity", "half"), "valid number"),
    ((*CHECK, "--macs", "50%"), "invalid --macs 50%"),
    ((*CHECK, "--macs", "10"), "cannot be reached"),
    ((*CHECK, "--latency", "fast"), "latency must be"),
    ((*CHECK, "--latency", "5"), "latency must be"),
    ((*CHECK, "--keep", "conv9"), "conv9"),
    ((*CHECK, "--criterion", "taylr"), "did you mean 'taylor'"),
    ((*CHECK, "--logits", "scores"), "has no output 'scores'"),
    # Limits, budgets, fine-tuning.
    ((*CHECK, "--max-drop", "1"), "write 1% for one point"),
    ((*CHECK, "--max-drop", "-1%"), "invalid max_drop -1%"),
    ((*CHECK, "--min-accuracy", "95"), "for example 0.9 or 90%"),
    ((*CHECK, "--min-robust", "40%@linf:8"), "8 grey levels of 256 are 8/255"),
    ((*CHECK, "--min-robust", "0.4@l3:8/255"), "expected SHARE@NORM:SIZE"),
    ((*CHECK, "--max-latency", "5"), "for example 5ms"),
    ((*CHECK, "--adversarial", "eight"), "invalid --adversarial eight"),
    ((*CHECK, "--plugin", "absent.py"), "there is no file 'absent.py'"),
    # The other commands.
    (("init", "study.yaml"), "exists already"),
    (("init", "new/study.yaml"), "cannot write"),
    (("init", "s.yaml", "--model", S), "needs --data"),
    (("init", "s.yaml", "--preset", "imagenet"), "there is no preset"),
    (("init", "s.yaml", "--model", "resnet-tinny", "--data", D), "resnet-tinny"),
    (("init", "s.yaml", "--model", "net.py", "--data", D), "write net.py:FUNCTION"),
    (("init", "s.yaml", "--model", "net.py:bild", "--data", D), "has no function 'bild'"),
    (("init", "s.yaml", "--model", "broken.py:build", "--data", D), "cannot be read as Python"),
    (("init", "s.yaml", "--model", "net.py:build", "--data", "folder:absent"), "there is no folder"),
    (("evaluate", "--model", S), "--data"),
    (("evaluate", "--model", S, "--data", D, "--out", "new/x.json"), "cannot be written"),
    (("evaluate", "--model", S, "--data", D, "--weights", "full"), "no saved network"),
    (("evaluate", "--model", "absent.pt2", "--data", D), "there is no file"),
    (("finetune", "--model", S, "--data", D), "--out"),
    (("finetune", "--model", S, "--data", D, "--out", "notes.txt"), "exists and holds something else"),
    (("finetune", "--model", S, "--data", D, "--out", "ft", "--teacher", "absent.pt"), "there is no file"),
    (("finetune", "--model", "net.py:frozen", "--data", D, "--out", "ft"), "no parameters to train"),
    (("compare", "a.json", "bad.json"), "there is no file or folder 'a.json'"),
    (("compare", "bad.json", "bad.json"), "is not a JSON of attack or evaluate"),
    (("compare", "empty", "full"), "is not a run folder"),
    (("compare", "study.yaml", "study.yaml"), "is not a JSON of attack or evaluate"),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"), MISTAKES, ids=[" ".join(arguments)[:70] for arguments, _ in MISTAKES]
)
def test_a_mistake_is_one_sentence_and_writes_nothing(secateur, things, monkeypatch, arguments, words):
    monkeypatch.chdir(things)
    before = files(things)
    said = secateur(*arguments)
    assert said.code == ExitCode.BAD_INPUT, said.err
    told = " ".join(said.err.replace("│", " ").split())
    assert words in told
    assert "Traceback" not in said.err
    assert said.err.count("error:") + said.err.count("─ Error ─") == 1
    assert {path for path in files(things) - before if "__pycache__" not in path.parts} == set()


@pytest.mark.slow
def test_a_check_that_was_refused_leaves_its_folder_to_the_next_one(secateur, things, tmp_path, monkeypatch):
    monkeypatch.chdir(things)
    first = secateur("check", "--model", "net.py:build", "--data", D, "--out", tmp_path / "out")
    assert "does not fit these images" in first.err
    quick = ("--images", 8, "--steps", 2, "--epochs", 1, "--budgets", "linf:0.05", "--sparsity", 0.2)
    assert secateur(*CHECK, *quick, "--out", tmp_path / "out").code == 0


@pytest.mark.slow
def test_a_fine_tuning_that_diverges_saves_nothing(secateur, tmp_path):
    options = ("--learning-rate", "1e9", "--epochs", 1, "--out", tmp_path / "out")
    said = secateur("finetune", "--model", S, "--data", D, *options)
    assert said.code == ExitCode.BAD_INPUT
    assert "the fine-tuning diverged" in said.err
    assert not (tmp_path / "out" / "plan.json").exists()


def test_images_of_its_training_are_told(secateur):
    said = secateur("evaluate", "--model", S, "--data", "digits", "--json")
    assert said.code == 0
    assert "was trained on part of digits" in " ".join(said.err.split())
