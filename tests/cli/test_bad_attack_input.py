"""Data and models that cannot be attacked, or whose numbers cannot be believed, on the command line."""

import numpy as np
import pytest

PRELUDE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.line = nn.Linear(64, 10)
    def forward(self, x):
        return self.line(x.flatten(1))
"""


@pytest.fixture
def attack(secateur, tmp_path):
    def call(forward, *options):
        body = f"class Mine(Net):\n    def forward(self, x):\n        {forward}\n"
        code = f"{PRELUDE}\n{body}\ndef net():\n    return Mine()\n"
        (tmp_path / "mine.py").write_text(code)
        return secateur(
            "attack", "-m", f"{tmp_path / 'mine.py'}:net", "-d", "digits", "--limit", "60", "--steps", "5",
            "--json", *options,
        )  # fmt: skip

    return call


@pytest.mark.slow
@pytest.mark.parametrize(
    ("forward", "word"),
    [
        ("return super().forward(x), super().forward(x)", "say which, as in --logits 0"),
        ("return super().forward(x)[:, :1]", "beyond the model's 2 classes"),
        ("return super().forward(x)[:, 0].sigmoid()", "beyond the model's 2 classes"),
        ("return super().forward(x).argmax(1)", "the classes themselves"),
        ("return super().forward(x)[:30]", "answered 60 images with (30, 10)"),
        ("return super().forward(x[:, :, 1:])", "fails on the images of digits, which are 1x8x8"),
        ("return super().forward(torch.cat((x, x), 1))", "mat1 and mat2"),
        ("return super().forward(x) * float('nan')", "logits are not finite"),
        ("return super().forward(x) / 0", "logits are not finite"),
        ("return super().forward(x)[:, :5]", "beyond the model's 5 classes"),
        ("return super().forward(x).detach()", "carry no gradient"),
        ("return super().forward(x.detach())", "carry no gradient"),
    ],
)
def test_a_model_that_breaks_its_contract_is_one_sentence(attack, forward, word):
    said = attack(forward)
    assert said.code == 2, said.err
    assert word in said.err
    assert "Traceback" not in said.err
    assert said.out == ""


@pytest.mark.parametrize(
    ("forward", "options", "said"),
    [
        ("return {'logits': super().forward(x), 'x': x}", (), "'logits' is attacked"),
        ("return x, super().forward(x), 2 * super().forward(x)", ("--logits", "1"), ""),
        ("return super().forward(x.sub_(0.5))", (), "writes into its input"),
    ],
)
def test_logits_inside_another_answer_are_attacked_and_it_is_said(attack, forward, options, said):
    seen = attack(forward, *options, "--norm", "L2", "-a", "fmn")
    assert seen.code == 0, seen.err
    assert seen.json["norm"] == "l2"
    assert said in seen.err


@pytest.mark.slow
def test_an_exported_network_is_attacked_from_its_file(secateur, tmp_path):
    path = str(tmp_path / "net.pt2")
    made = secateur("export", "-m", "shipped:digits-plain", "--out", path, "--no-measure")
    assert made.code == 0, made.err
    options = ("-d", "digits:split", "-a", "fmn", "--norm", "2", "--steps", "5", "--limit", "40", "--json")
    seen = secateur("attack", "-m", path, *options)
    assert seen.code == 0, seen.err
    plain = secateur("attack", "-m", "shipped:digits-plain", *options)
    assert seen.json["median_correct"] == pytest.approx(plain.json["median_correct"], rel=1e-3)
    (tmp_path / "bad.pt2").write_bytes(b"no archive")
    for options, word in (((), "cannot be read"), (("-w", path), "holds its own weights")):
        said = secateur("attack", "-m", str(tmp_path / "bad.pt2"), "-d", "digits", *options)
        assert said.code == 2
        assert word in said.err
        assert "Traceback" not in said.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("forward", "check", "letters"),
    [
        ("return super().forward(x + 0.1 * torch.randn_like(x))", "F03", "C"),
        ("return super().forward(nn.functional.dropout(x, 0.5))", "F03", "C"),
        ("return super().forward(x).softmax(1)", "F04", "BC"),
        ("return super().forward((x * 4).round() / 4 + 0 * x)", "F05", "C"),
        ("return 1e4 * super().forward(x)", "F18", "BC"),
    ],
)
def test_a_model_whose_numbers_cannot_be_believed_gets_a_grade_that_says_so(attack, forward, check, letters):
    said = attack(forward)
    assert said.code == 0, said.err
    assert said.json["grade"] in letters
    assert any(reason.startswith(check) for reason in said.json["reasons"]), said.json["reasons"]


def test_a_model_that_is_always_wrong_leaves_nothing_to_grade(attack):
    # Nine, whatever the image; the first five digits are 0 to 4.
    said = attack("return 0 * super().forward(x) + torch.eye(10)[9]", "--limit", "5")
    assert said.code == 0, said.err
    assert said.json["grade"] == "X"
    assert said.json["asr"] is None
    assert said.json["median_correct"]["l2"] is None
    assert said.json["median_all"]["l2"] == 0.0


def images(path, x, y):
    np.savez(path, x=x, y=y)
    return f"npz:{path}"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda x, y: (x * 255, y), "pixel of value"),
        (lambda x, y: (x - 0.1, y), "image 0 has a pixel of value -0.1"),
        (lambda x, y: (x + 0.2, y), "outside [0, 1]"),
        (lambda x, y: (np.where(np.arange(6)[:, None, None, None] == 3, np.nan, x), y), "image 3"),
        (lambda x, y: (x, y - 1), "label"),
        (lambda x, y: (x, np.where(y == 1, -100, y)), "label"),
        (lambda x, y: (x[:0], y[:0]), "holds no labels"),
    ],
)
def test_images_and_labels_out_of_range_are_one_sentence(secateur, tmp_path, change, word):
    x = np.linspace(0, 1, 6 * 64, dtype=np.float32).reshape(6, 1, 8, 8)
    spec = images(tmp_path / "set.npz", *change(x, np.arange(6) % 2))
    said = secateur("attack", "-m", "resnet-tiny", "-d", spec, "--steps", "2")
    assert said.code == 2, said.err
    assert word in said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("-a", "fmn", "--norm", "Linf"), 0, ""),
        (("--pictures", "drawn"), 2, "--pictures: the data are no images, but rows of shape [20]"),
        (("--mean", "0", "--std", "2"), 2, "--mean and --std: the data are no images"),
        (("--resize", "8"), 2, "cannot be resized"),
        (("-a", "square", "--eps", "0.1"), 2, "squares need [N, C, H, W]"),
        (("-m", "smallcnn"), 2, "which are [20]"),
    ],
)
def test_tables_are_attacked_and_what_needs_images_is_refused(secateur, tmp_path, options, code, said):
    (tmp_path / "m.py").write_text("from torch import nn\ndef net(): return nn.Linear(20, 3)\n")
    x = np.random.default_rng(0).random((30, 20), dtype=np.float32)
    np.savez(tmp_path / "t.npz", x=x, y=np.arange(30) % 3)
    command = ("attack", "-m", f"{tmp_path / 'm.py'}:net", "-d", f"npz:{tmp_path / 't.npz'}", "--steps", "3")
    seen = secateur(*command, *options)
    assert seen.code == code, seen.err
    assert said in seen.err
    assert "Traceback" not in seen.err


def test_data_with_a_single_class_are_refused(secateur, tmp_path):
    x = np.linspace(0, 1, 4 * 64, dtype=np.float32).reshape(4, 1, 8, 8)
    spec = images(tmp_path / "set.npz", x, np.zeros(4, dtype=np.int64))
    said = secateur("attack", "-m", "resnet-tiny", "-d", spec, "--steps", "2", "--json")
    assert said.code == 2
    assert "has a single class" in said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize("device", ["cuda", "cuda:7", "gpu"])
def test_a_device_that_is_not_there_is_the_environment_s_fault_and_never_the_cpu(secateur, device):
    said = secateur("attack", "-m", "resnet-tiny", "-d", "digits", "--limit", "2", "--device", device)
    assert said.code == 5
    assert device in said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--attack", "pgd", "--eps", "1e400"], "invalid --eps 1e400"),
        (["--attack", "fmn", "--budgets", "1e400"], "invalid --budgets 1e400"),
        (["--attack", "fmn", "--bounds", "0..1e400"], "invalid --bounds 0..1e400"),
        (["--attack", "pgd", "--set", f"eps={10**400}"], "eps"),
        (["--attack", "fmn", "--set", f"gamma={10**400}"], "gamma"),
        (["--attack", "fmn", "--device", "meta"], "there is no device meta here"),
    ],
)
def test_numbers_beyond_every_float_are_one_sentence(secateur, options, word):
    said = secateur("attack", "-m", "shipped:digits-plain", "-d", "digits:split", "--limit", "5", *options)
    assert said.code in (2, 5)
    assert "error: " in said.err
    assert word in said.err
