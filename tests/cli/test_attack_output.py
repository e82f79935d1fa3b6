"""What `secateur attack` says first: clean and robust accuracy at stated sizes, with intervals."""

import json

import numpy as np
import pytest
import torch

from secateur import data, models

FGSM = ("attack", "-m", "resnet-tiny", "-d", "digits", "-a", "fgsm")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    digits = data.load("digits")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = models.build("resnet-tiny", in_channels=1)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for start in range(0, 640, 64):
        optimiser.zero_grad()
        part = slice(start, start + 64)
        torch.nn.functional.cross_entropy(model(digits.x[part]), digits.y[part]).backward()
        optimiser.step()
    path = tmp_path_factory.mktemp("weights") / "w.pt"
    torch.save(model.state_dict(), path)
    return path


def rows(said):
    return [line for line in said.splitlines() if "accuracy" in line or "reached," in line]


@pytest.mark.slow
def test_clean_accuracy_comes_first_then_robust_accuracy_at_every_size_with_its_interval(secateur, weights):
    options = (*FGSM, "-w", weights, "--limit", "200", "--eps", "0.3,0,1/10")
    said, plain = secateur(*options), secateur(*options, "--json").json
    assert said.code == 0, said.err
    shown = rows(said.out)
    assert shown[0].startswith("clean accuracy")
    assert [line.split("≤")[1].split()[0] for line in shown[1:]] == ["0", "0.1", "0.3"]
    assert shown[0].split()[2:] == shown[1].split()[5:]
    for line, row in zip(shown[1:], plain["robust_accuracy"], strict=True):
        assert f"{row['value']:.1%}" in line
        assert f"{row['low']:.1%} to {row['high']:.1%}" in line
    assert said.out.index("clean accuracy") < said.out.index("median, correct")
    assert plain["kind"] == "fixed-eps"
    assert "as large as the attack makes them: no distances to the nearest" in " ".join(said.out.split())


def test_of_fewer_than_thirty_attacked_images_no_percentage_is_printed(secateur, weights):
    options = (*FGSM, "-w", weights, "--limit", "20", "--eps", "0.1")
    said, plain = secateur(*options), secateur(*options, "--json").json
    head = said.out.split("distances of")[0]
    assert "too few images" in head
    assert "%" not in head.replace("95 % interval", "")
    assert f"{round(plain['robust_accuracy'][0]['value'] * 20)} of 20" in head


def test_a_targeted_attack_prints_what_it_is_about(secateur, weights):
    said = secateur(*FGSM, "-w", weights, "--limit", "40", "--eps", "0.1", "--target", "next")
    assert said.code == 0, said.err
    assert len(rows(said.out)[1:]) >= 1
    assert "target not reached, L∞ ≤ 0.1" in said.out
    assert "robust accuracy, L∞" not in said.out
    assert "of the untargeted attack" in " ".join(said.out.split())


@pytest.mark.slow
def test_a_list_of_sizes_may_be_a_setting_like_any_other(secateur, weights):
    options = (*FGSM, "-w", weights, "--limit", "20", "--json")
    one, other = (
        secateur(*options, *way).json for way in (("--eps", "1/10,1/5"), ("--set", "eps=[1/10, 1/5]"))
    )
    assert one["robust_accuracy"] == other["robust_accuracy"]
    assert secateur(*options, "--eps", "1/10").json["robust_accuracy"] == one["robust_accuracy"][:1]


@pytest.mark.slow
def test_budgets_of_8_bit_images_are_written_in_grey_levels(secateur, weights, tmp_path):
    x = (np.arange(32 * 64) * 37 % 256).astype(np.uint8).reshape(32, 1, 8, 8)
    np.savez(tmp_path / "few.npz", x=x, y=np.arange(32) % 10, classes=np.array(list("abcdefghij")))
    npz = ("attack", "-m", "resnet-tiny", "-w", weights, "-d", f"npz:{tmp_path / 'few.npz'}")
    said = secateur(*npz, "-a", "fgsm", "--eps", "1/255,8/255")
    assert [line.split("≤")[1].split()[0] for line in rows(said.out)[1:]] == ["1/255", "8/255"]
    usual = secateur(*npz, "-a", "fmn", "--norm", "inf", "--steps", "2", "--json").json
    assert [row["written"] for row in usual["robust_accuracy"]] == ["1/255", "2/255", "4/255", "8/255"]


def test_the_record_names_what_was_attacked_by_what_and_when(secateur, weights, tmp_path):
    out = tmp_path / "r.json"
    said = secateur(*FGSM, "-w", weights, "--limit", "12", "--eps", "0.1,0.3", "-o", out)
    assert said.code == 0, said.err
    record = json.loads(out.read_text())
    digits = data.load("digits")
    assert record["labels"] == digits.y[record["index"]].tolist()
    assert (record["model"], record["weights"], record["data"]) == ("resnet-tiny", str(weights), "digits")
    assert record["fingerprint"] == digits.take(record["index"]).fingerprint
    assert (record["bounds"], record["levels"], record["schema_version"]) == ([0.0, 1.0], 17, 2)
    assert len(record["weights_hash"]) == 64
    assert record["date"].startswith("20")
    assert record["secateur"]
    for size in record["sizes"]:
        withstood = [
            not hit and outcome != "already_wrong"
            for hit, outcome in zip(size["found"], record["outcome"], strict=True)
        ]
        (row,) = [row for row in record["summary"]["robust_accuracy"] if row["eps"] == size["eps"]]
        assert row["value"] == sum(withstood) / 12


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("-a", "pgd", "--eps", "0.1,-0.1"), "eps lists -0.1"),
        (("-a", "pgd", "--eps", "1/0"), "invalid --eps 1/0: expected a list of numbers"),
        (("-a", "pgd", "--eps", "nan"), "invalid --eps nan"),
        (("-a", "pgd", "--eps", ""), "--eps"),
        (("-a", "pgd", "--eps", "0.1,1/10"), "twice"),
        (("-a", "pgd", "--eps", "0"), "eps is 0"),
        (("-a", "pgd", "--eps", "0.1", "--set", "eps=0.2"), "both --eps and --set eps"),
        (("--steps", "5", "--set", "steps=5"), "both --steps and --set steps"),
        (("-a", "fmn", "--norm", "2", "--set", "norm=1"), "both --norm and --set norm"),
        (("--set", "gamma=0.1", "--set", "gamma=0.2"), "--set gamma is given twice"),
        (("-a", "pgd", "--budgets", "0.1"), "--eps"),
        (("-a", "fmn", "--norm", "2", "--eps", "0.1,0.2"), "--budgets"),
        (("-a", "fgsm", "--norm", "0"), "in L0"),
    ],
)
def test_sizes_and_budgets_in_the_wrong_place_are_one_sentence(secateur, weights, options, word):
    said = secateur("attack", "-m", "resnet-tiny", "-d", "digits", "-w", weights, "--limit", "5", *options)
    assert said.code == 2, said.err
    assert word in said.err
    assert "Traceback" not in said.err
