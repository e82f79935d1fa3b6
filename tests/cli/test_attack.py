"""What `secateur attack` leaves behind, and every mistake one can make with it."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from secateur import data, models

TINY = ("attack", "-m", "resnet-tiny", "-d", "digits", "--limit", "12", "--steps", "8")


@pytest.fixture
def weights(tmp_path):
    """A network that knows its digits a little, so that there is something to attack."""
    digits = data.load("digits")
    model = models.build("resnet-tiny", in_channels=1)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for start in range(0, 640, 64):
        optimiser.zero_grad()
        part = slice(start, start + 64)
        torch.nn.functional.cross_entropy(model(digits.x[part]), digits.y[part]).backward()
        optimiser.step()
    torch.save(model.state_dict(), tmp_path / "w.pt")
    return tmp_path / "w.pt"


@pytest.mark.slow
def test_examples_pictures_and_record_agree(secateur, weights, tmp_path):
    said = secateur(
        *TINY, "-w", weights, "-o", tmp_path / "r.json", "--examples", tmp_path / "e.safetensors",
        *("--pictures", tmp_path / "p", "--budgets", "0,1/10,2", "--json"),
    )  # fmt: skip
    assert said.code == 0, said.err
    record = json.loads((tmp_path / "r.json").read_text())
    stored = load_file(tmp_path / "e.safetensors")
    places = [place for place, outcome in enumerate(record["outcome"]) if outcome == "found"]
    found = [record["index"][place] for place in places]
    assert stored["index"].tolist() == found
    assert len(found) == said.json["found"] > 0
    clean = data.load("digits").x[stored["index"]]
    sizes = torch.linalg.vector_norm((stored["adv"] - clean).double().flatten(1), dim=1)
    expected = torch.tensor([record["distances"]["l2"][i] for i in places], dtype=torch.float64)
    torch.testing.assert_close(sizes, expected)
    codes = {"found": 0, "already_wrong": 1, "not_found": 2}
    assert stored["outcome"].tolist() == [codes[outcome] for outcome in record["outcome"]]
    with safe_open(tmp_path / "e.safetensors", "pt") as file:
        facts = json.loads(file.metadata()["secateur"])
    assert (facts["attack"], facts["settings"]["steps"]) == ("ddn", 8)
    assert {path.name for path in (tmp_path / "p").iterdir()} >= {"curve.svg", "curve.png", "examples.png"}
    assert said.json["security_curve"]["eps"] == [0.0, 0.1, 2.0]
    assert record["index"] == sorted(record["index"])
    assert (said.json["part"], said.json["images"], said.json["resize"]) == ("all", 1797, None)


@pytest.mark.slow
def test_a_target_leaves_out_its_own_images_and_is_reached(secateur, weights, tmp_path):
    said = secateur(
        *TINY, "-w", weights, "--target", "3", "--steps", "60", "-o", tmp_path / "r.json",
        *("--examples", tmp_path / "e.safetensors", "--json"),
    )  # fmt: skip
    assert said.code == 0, said.err
    record = json.loads((tmp_path / "r.json").read_text())
    assert record["targeted"]
    digits = data.load("digits")
    drawn = data.random_stratified_indices(digits.y, 12, generator=torch.Generator().manual_seed(0)).tolist()
    assert record["index"] == [i for i in drawn if digits.y[i] != 3]
    reached = {
        c for c, outcome in zip(record["adv_preds"], record["outcome"], strict=True) if outcome == "found"
    }
    assert reached == {3}
    assert set(load_file(tmp_path / "e.safetensors")["index"].tolist()) <= set(record["index"])
    assert secateur(*TINY, "-w", weights, "--target", "next", "--json").json["n"] == 12


@pytest.mark.slow
def test_a_later_attack_begins_at_the_examples_of_an_earlier_one(secateur, weights, tmp_path):
    fmn = (*TINY, "-w", weights, "-a", "fmn", "--norm", "2", "--json")
    dense = secateur(*fmn, "--examples", tmp_path / "dense.safetensors")
    warm = secateur(*fmn, "--start", tmp_path / "dense.safetensors", "-o", tmp_path / "r.json")
    assert warm.code == 0, warm.err
    assert warm.json["median_correct"]["l2"] < dense.json["median_correct"]["l2"]
    assert warm.json["forwards"] == dense.json["forwards"] + 12
    assert json.loads((tmp_path / "r.json").read_text())["attempts"] == 1
    several = secateur(*fmn, "--start", "another-class", "--restarts", "2")
    assert several.code == 0, several.err
    assert several.json["forwards"] == 2 * warm.json["forwards"]


def test_the_table_says_what_the_grade_means(secateur, weights):
    said = secateur(*TINY, "-w", weights)
    assert said.code == 0, said.err
    assert "grade " in said.out
    assert any(words in said.out for words in ("read the reasons", "not robustness", "every check passed"))


@pytest.mark.slow
def test_an_audit_tells_the_minimum_over_the_attack_and_its_rivals(secateur, weights, tmp_path):
    call = (*TINY, "-w", weights, "--steps", "3", "--audit", "-o", tmp_path / "r.json")
    said = secateur(*call)
    assert said.code == 0, said.err
    assert "minimum over ddn, fmn and steep on " in said.out
    assert "robust accuracy at ε = 0.5: " in said.out
    record = json.loads((tmp_path / "r.json").read_text())
    assert record["joint"]["attacks"] == ["ddn", "fmn", "steep"]
    assert len(record["joint"]["distances"]) == len(record["joint"]["index"])
    assert record["summary"]["joint"]["median"] == record["joint"]["median"]
    assert record["checks_cost"] > 0


@pytest.mark.slow
def test_ways_to_search_are_options(secateur, weights):
    plain = secateur(*TINY, "-w", weights, "--steps", "40", "--json").json
    early = secateur(
        *TINY, "-w", weights, "--steps", "40", "--early-stop", "--search-precision", "bfloat16", "--json"
    )
    assert early.code == 0, early.err
    assert early.json["found"] == plain["found"]
    assert early.json["backwards"] <= plain["backwards"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "code", "word"),
    [
        (("--steps", "0"), 2, "steps is 0"),
        (("--steps", "-3"), 2, "steps is -3"),
        (("--set", "gamma=1.0"), 2, "gamma is 1.0"),
        (("--set", "gamma=1"), 2, "gamma is 1"),
        (("--set", "alpha=0"), 2, "alpha is 0"),
        (("--set", "alpha=-1e-3"), 2, "alpha is -0.001"),
        (("--set", "alpha=nan"), 2, "alpha is nan"),
        (("--set", "gamma=fast"), 2, "gamma"),
        (("--set", "alpha=[1, 2]"), 2, "alpha"),
        (("--set", "alpha={"), 2, "alpha={"),
        (("--set", "x=1"), 2, "no setting 'x'"),
        (("--set", "model=1"), 2, "'model' is no setting"),
        (("-a", "pgd", "--set", "eps=-1"), 2, "eps is -1"),
        (("-a", "pgd", "--set", "eps=inf"), 2, "eps is inf"),
        (("-a", "pgd", "--set", "eps=big"), 2, "eps"),
        (("--budgets", "0.5,0.1"), 2, "not a rising list"),
        (("--budgets", "-1,0"), 2, "not a rising list"),
        (("--budgets", "nan"), 2, "expected a list of numbers"),
        (("--budgets", "a,b"), 2, "expected a list of numbers"),
        (("--budgets", ""), 2, "expected a list of numbers"),
        (("--batch-size", "0"), 2, "batch size is 0"),
        (("--batch-size", "-5"), 2, "batch size is -5"),
        (("--target", "bird"), 2, "is not a class of digits"),
        (("--target", "10"), 2, "is not a class of digits"),
        (("--target", "3", "-a", "untargeted"), 2, "unknown attack"),
        (("--search-precision", "half"), 2, "no search precision 'half'"),
        (("--limit", "0"), 2, "--limit 0"),
        (("--limit", "100000"), 2, "--limit 100000"),
        (("--seed", "-1"), 2, "--seed"),
        (("--start", "another-class"), 2, "'ddn' does not begin at given points"),
        (("-a", "fmn", "--start", "somewhere"), 2, "invalid --start somewhere"),
        (("-a", "fmn", "--start", "absent.safetensors"), 2, "absent.safetensors does not exist"),
        (("-a", "fmn", "--start", "another-class", "--restarts", "13"), 2, "13 starting points"),
        (("--restarts", "2"), 2, "draws no random numbers"),
        (("-a", "pgd", "--restarts", "0"), 2, "restarts is 0"),
        (("--examples", "e.npz"), 2, "must end in .safetensors"),
        (("--examples", "absent/e.safetensors"), 2, "cannot be written"),
        (("--out", "absent/r.json"), 2, "cannot be written"),
        (("--out", "."), 2, "cannot be written"),
        (("--pictures", "a_file"), 2, "is a file"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence_and_writes_nothing(secateur, tmp_path, monkeypatch, options, code, word):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a_file").write_text("")
    said = secateur(*TINY, *options)
    assert said.code == code, said.err
    assert word in said.err
    assert "Traceback" not in said.err
    assert [path.name for path in tmp_path.iterdir()] == ["a_file"]
    assert said.out == ""


@pytest.mark.parametrize(("off", "said"), [(0.0, False), (0.3, True)])
def test_a_published_network_off_its_published_accuracy_is_flagged(off, said):
    sentence = models.accuracy_mismatch("robustbench:Sehwag2021Proxy_R18", 0.8459 - off / 100, n=10_000)
    assert ("84.59 % is published" in (sentence or "")) == said


@pytest.mark.slow
def test_published_weights_that_are_not_the_published_ones_are_flagged(secateur, tmp_path):
    wrong = models.build("resnet18")
    save_file(wrong.state_dict(), tmp_path / "w.safetensors")
    x = (np.arange(4 * 3 * 32 * 32) % 256).astype(np.uint8).reshape(4, 3, 32, 32)
    np.savez(tmp_path / "few.npz", x=x, y=np.full(4, 9), classes=np.array(list("abcdefghij")))
    words = ("-m", "robustbench:Sehwag2021Proxy_R18", "-w", tmp_path / "w.safetensors")
    said = secateur(
        "attack", *words, "-d", f"npz:{tmp_path / 'few.npz'}", "--attack", "fgsm", "--set", "eps=0.01"
    )
    assert said.code == 0, said.err
    assert "other weights, other data or another normalisation" in said.err
