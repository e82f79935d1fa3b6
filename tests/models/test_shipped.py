"""The trained networks that come with the package."""

import pytest
import torch

import secateur
from secateur import data, models
from secateur.config import parse_study
from secateur.errors import UserError
from secateur.registry import CHECKPOINTS
from secateur.study import plan
from whole import run_here

NAMES = ["shipped:digits-plain", "shipped:digits-robust"]


@pytest.fixture(scope="module")
def held_out():
    return data.load("digits:split")


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_network_has_the_accuracy_that_the_registry_states(name, held_out):
    model = models.resolve(name).eval()
    stated = CHECKPOINTS.entry(name).facts["clean_accuracy"] / 100
    assert models.accuracy(model, held_out.x, held_out.y) == pytest.approx(stated, abs=1.5 / held_out.n)


@pytest.mark.slow
def test_only_the_robust_one_withstands_pgd(held_out):
    images = held_out.take(range(0, 540, 5))
    left = []
    for name in NAMES:
        result = secateur.attack(
            models.resolve(name).eval(), images, "pgd", norm=torch.inf, eps=0.1, steps=10
        )
        left.append(1 - result.result.adv_success.double().mean().item())
    assert left[0] < 0.65 < 0.85 < left[1]


def test_the_parts_of_the_digits_are_disjoint_and_complete():
    parts = data.open_dataset("digits:split")
    train, test = parts["train"](), parts["test"]()
    assert (train.n, test.n) == (1257, 540)
    both = torch.cat([train.x, test.x]).flatten(1)
    whole = data.load("digits").x.flatten(1)
    assert sorted(map(tuple, both.tolist())) == sorted(map(tuple, whole.tolist()))
    counts = [torch.bincount(part.y).double() / part.n for part in (train, test)]
    assert (counts[0] - counts[1]).abs().max() < 0.003


def test_another_word_after_the_digits_is_refused():
    with pytest.raises(UserError, match="have no 'heldout'") as caught:
        data.load("digits:heldout")
    assert "digits:split" in (caught.value.hint or "")


def test_a_shipped_network_of_other_data_is_refused():
    with pytest.raises(UserError, match="1 channel into 10 classes"):
        models.resolve(NAMES[0], in_channels=3)
    with pytest.raises(UserError, match="digits-plane"):
        models.resolve("shipped:digits-plane")


@pytest.mark.slow
def test_a_study_starts_from_the_shipped_weights(tmp_path):
    _, records = run_here(
        "name: shipped\nseeds: [0]\ndata: digits:split\n"
        "models: {robust: {arch: 'shipped:digits-robust'}}\n"
        "criteria: [l1]\nsparsities: [0]\nfinetune: {}\nimages: 50\n"
        "attacks: {fmn: {attack: fmn, norm: inf, steps: 5}}\n",
        tmp_path / "run",
    )
    dense = next(record for record in records if record["stage"] == "train")
    assert dense["science"]["accuracy"]["test"] > 0.98
    assert dense["science"]["robust"]
    assert dense["settings"]["weights"]


@pytest.mark.parametrize(("data", "sound"), [("digits", False), ("digits:split", True)])
def test_no_study_attacks_the_images_that_a_shipped_network_was_trained_on(data, sound):
    text = (
        f"name: s\ndata: {data}\nmodels: {{m: {{arch: 'shipped:digits-plain'}}}}\n"
        "attacks: {fmn: {attack: fmn, norm: inf, steps: 5}}\n"
    )
    if sound:
        assert plan(parse_study(text)).cells
        return
    with pytest.raises(UserError) as caught:
        plan(parse_study(text))
    assert "study.yaml:3: models.m.arch: 'shipped:digits-plain' was trained on" in str(caught.value)
    assert "write spec: digits:split under data" in str(caught.value)
