"""The public ``attack``: what its summary says, and that it says it as plain, finite numbers."""

import json

import pytest
import torch
from torch import nn

from secateur.data import Dataset
from secateur.errors import UserError
from secateur.evaluate import attack


class Ruler(nn.Module):
    """Class 1 beyond a mean grey of 0.5, by a known distance."""

    def forward(self, x):
        mean = 20 * (x.flatten(1).mean(1) - 0.5)
        return torch.stack([-mean, mean], 1)


@pytest.fixture
def images():
    x = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.9]).view(5, 1, 1, 1).expand(5, 1, 2, 2).contiguous()
    return Dataset("ruler", x, torch.zeros(5, dtype=torch.int64), ("dark", "bright"), None)


def test_the_summary_counts_outcomes_and_takes_medians_over_stated_images(images):
    seen = attack(Ruler(), images, "ddn", steps=200).summary()
    assert (seen["n"], seen["attacked"], seen["found"], seen["asr"]) == (5, 4, 4, 1.0)
    assert seen["clean_accuracy"] == pytest.approx(0.8)
    assert seen["median_correct"]["l2"] == pytest.approx(0.5, rel=5e-3)
    assert seen["median_all"]["l2"] == pytest.approx(0.4, rel=5e-3)
    assert seen["mean_found"]["l2"] == pytest.approx(0.5, rel=5e-3)
    assert seen["forwards"] == 201
    assert seen["grade"] == "C"
    assert "F22: too few images: 4 were attacked, at least 30 are needed" in seen["reasons"]


def test_the_security_curve_starts_at_the_clean_accuracy_and_falls(images):
    curve = attack(Ruler(), images, "fmn", norm=2, steps=200, budgets=(0, 0.3, 0.7, 2)).summary()[
        "security_curve"
    ]
    assert curve["robust_accuracy"] == [0.8, 0.6, 0.2, 0.0]
    assert all(
        low <= share <= high
        for low, share, high in zip(curve["low"], curve["robust_accuracy"], curve["high"], strict=True)
    )


def test_what_cannot_be_fooled_is_null_and_never_zero(images):
    class Stubborn(nn.Module):
        def forward(self, x):
            return Ruler()(0.4 * x)

    seen = attack(Stubborn(), images.take([0, 1]), "ddn", steps=50)
    assert seen.summary()["median_correct"]["l2"] is None
    assert seen.grade.letter == "C"
    assert any("failed on 2 of 2" in reason for reason in seen.summary()["reasons"])


def test_the_record_without_timings_is_the_same_bytes_every_time(images):
    first, second = (
        json.dumps(attack(Ruler(), images, "fmn", norm=1, steps=20).to_json(timings=False), allow_nan=False)
        for _ in range(2)
    )
    assert first == second
    assert "times" not in json.loads(first)
    assert "seconds" not in json.loads(first)["summary"]


def test_an_unknown_attack_is_one_sentence(images):
    with pytest.raises(UserError, match="did you mean 'fmn'"):
        attack(Ruler(), images, "fnm")


def test_the_size_of_a_fixed_size_attack_is_a_setting_like_any_other(images):
    seen = attack(Ruler(), images, "pgd", norm=2, eps=0.5, steps=10)
    assert seen.result.settings["eps"] == 0.5
    assert seen.summary()["found"] == 2
