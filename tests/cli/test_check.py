"""`secateur check`: one command from a network to a verdict and an exit code."""

import json

import pytest

from secateur.errors import ExitCode

QUICK = (
    *("--model", "shipped:digits-plain", "--data", "digits:split", "--epochs", 1, "--images", 40),
    *("--steps", 20, "--budgets", "linf:0.05"),
)


@pytest.mark.slow
def test_a_check_answers_on_one_screen_and_leaves_a_folder(secateur, tmp_path):
    said = secateur("check", *QUICK, "--sparsity", 0.3, "--max-drop", "50%", "--out", tmp_path / "out")
    assert said.code == 0
    assert "robust accuracy at L∞ 0.05, 40 images" in said.out
    assert "The limit is kept" in said.out
    assert len(said.out.splitlines()) <= 24
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"check.html", "verdict.json", "network"}
    # The same command again reads what is finished; a broken limit has its own exit code.
    again = secateur(
        "check",
        *QUICK,
        "--sparsity",
        0.3,
        "--min-robust",
        "100%@linf:0.3",
        "--out",
        tmp_path / "out",
        "--json",
    )
    assert again.code == ExitCode.LIMIT_BROKEN
    assert again.json["kept"] is False
    assert again.json["verdict"][0] == "Do not ship: 1 of 1 limits broken."
    # The network in the folder is a starting point for the other commands.
    attacked = secateur(
        "attack", "--model", "shipped:digits-plain", "--weights", tmp_path / "out" / "network", "--data",
        "digits:split", "--steps", 5, "--limit", 20, "--json",
    )  # fmt: skip
    assert attacked.code == 0
    card = (tmp_path / "out" / "network" / "README.md").read_text()
    assert "What was measured" in card
    assert json.loads((tmp_path / "out" / "verdict.json").read_text())["schema_version"] == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--budgets", "8/255"), "expected NORM:SIZES"),
        (("--budgets", "linf:much"), "expected a list of numbers"),
        (("--min-robust", "0.4"), "expected SHARE@NORM:SIZE"),
        (("--sparsity", 0.5, "--macs", 0.5), "exclude each other"),
        (("--find",), "needs at least one limit"),
        (("--attack", "pgd"), "fixed sizes"),
        (("--attack", "stepp"), "did you mean 'steep'"),
        (("--learning-rate", 0), "the fine-tuning is impossible: learning_rate"),
    ],
)
def test_mistakes_are_one_sentence_before_anything_is_written(secateur, tmp_path, options, words):
    said = secateur("check", *QUICK[:4], *options, "--out", tmp_path / "out")
    assert said.code == ExitCode.BAD_INPUT
    assert words in said.err
    assert not (tmp_path / "out").exists()
