"""The public ``attack``: what its summary says, and that it says it as plain, finite numbers."""

import json

import pytest
import torch
from torch import nn

from secateur import budgets, models
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


# Robust accuracy at a budget: the headline.


@pytest.fixture
def pixels():
    """A linear network on 8-bit images, all of which it classifies correctly."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 10)).eval()
        x = (torch.rand(60, 3, 8, 8) * 255).round() / 255
    return net, Dataset("grid", x, net(x).argmax(1), tuple("0123456789"), 256)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fgsm", "pgd", "apgd", "square", "noise"])
@pytest.mark.parametrize("eps", [8 / 255, 0.031, 0.1])
def test_at_its_own_size_the_outcome_decides_and_no_rounded_distance(pixels, name, eps):
    seen = attack(*pixels, name, eps=eps, **({} if name == "fgsm" else {"steps": 20})).summary()
    (stated,) = seen["robust_accuracy"]
    assert stated["value"] == (seen["attacked"] - seen["found"]) / seen["n"] < 1
    assert seen["security_curve"]["eps"] == [stated["eps"]] == [eps]
    assert seen["security_curve"]["robust_accuracy"] == [stated["value"]]
    assert stated["low"] <= stated["value"] <= stated["high"]
    assert stated["n"] == 60
    assert stated["written"] == {8 / 255: "8/255", 0.031: "7.905/255", 0.1: "25.5/255"}[eps]


def test_images_that_are_wrong_are_not_robust_at_any_size(images):
    seen = attack(Ruler(), images, "pgd", norm=2, eps=[0, 0.3, 0.7, 2], steps=10).summary()
    assert [row["value"] for row in seen["robust_accuracy"]] == [0.8, 0.6, 0.2, 0.0]
    assert seen["security_curve"]["robust_accuracy"] == [0.8, 0.6, 0.2, 0.0]
    assert seen["robust_accuracy"][0]["value"] == seen["clean_accuracy"]


def test_a_minimum_norm_attack_states_the_budgets_it_is_asked_for_and_the_usual_ones_else(pixels):
    asked = attack(*pixels, "fmn", norm=float("inf"), steps=10, budgets=[0.5 / 255, 1 / 255]).summary()
    assert [row["written"] for row in asked["robust_accuracy"]] == ["0.5/255", "1/255"]
    assert asked["security_curve"]["eps"] == [0.5 / 255, 1 / 255]
    usual = attack(*pixels, "fmn", norm=float("inf"), steps=10).summary()
    assert [row["written"] for row in usual["robust_accuracy"]] == ["1/255", "2/255", "4/255", "8/255"]
    assert usual["security_curve"]["eps"] == list(budgets.CURVE["linf"])
    at = dict(zip(usual["security_curve"]["eps"], usual["security_curve"]["robust_accuracy"], strict=True))
    assert all(row["value"] == at[row["eps"]] for row in usual["robust_accuracy"])


@pytest.mark.slow
def test_the_usual_budgets_follow_the_bounds_but_for_l0(images):
    class Wide(nn.Module):
        def forward(self, x):
            return Ruler()(x / 255)

    wide = Dataset("wide", 255 * images.x, images.y, images.classes, None, (0.0, 255.0))
    for norm, key in ((2, "l2"), (0, "l0")):
        here = attack(Ruler(), images, "fmn", norm=norm, steps=50).summary()
        there = attack(Wide(), wide, "fmn", norm=norm, steps=50).summary()
        scale = 255 if norm else 1
        shares, same = ([row["value"] for row in seen["robust_accuracy"]] for seen in (here, there))
        assert shares == same
        assert there["security_curve"]["eps"] == [scale * eps for eps in budgets.CURVE[key]]
        assert there["security_curve"]["robust_accuracy"] == here["security_curve"]["robust_accuracy"]


@pytest.mark.parametrize(
    "settings", [{"name": "fmn", "norm": 2, "budgets": [0, 0.01]}, {"name": "pgd", "eps": 0.01}]
)
def test_a_targeted_attack_never_speaks_of_robust_accuracy(images, settings):
    seen = attack(Ruler(), images, **settings, steps=10, targets=torch.ones(5, dtype=torch.int64))
    text = json.dumps(seen.to_json()["summary"], allow_nan=False)
    summary = seen.summary()
    assert '"robust_accuracy"' not in text
    assert "robust accuracy" in summary["targeted"]
    # One image is of the wanted class already: the target is reached at every budget.
    assert all(row["value"] == 0.8 for row in summary["target_not_reached"])
    assert set(summary["security_curve"]) == {"eps", "target_not_reached", "low", "high"}


@pytest.mark.parametrize("name", ["pgd", "fgsm"])
def test_budgets_of_an_attack_of_fixed_size_are_refused_and_sizes_named(images, name):
    with pytest.raises(UserError) as refused:
        attack(Ruler(), images, name, eps=0.1, budgets=[0, 0.1])
    assert "eps=[...]" in refused.value.hint


@pytest.mark.parametrize(
    "given", [["8/255"], "0.1", [], [0.1, float("inf")], [0.1, float("nan")], [-1.0], [0.2, 0.1], [None]]
)
def test_budgets_that_are_no_numbers_in_rising_order_are_refused_in_words(images, given):
    with pytest.raises(UserError, match="budgets"):
        attack(Ruler(), images, "fmn", norm=2, steps=2, budgets=given)


def test_the_record_says_what_was_attacked(images):
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    plain = attack(net, images, "fmn", norm=2, steps=2).to_json()
    assert plain["labels"] == [0] * 5
    assert (plain["bounds"], plain["levels"]) == ([0.0, 1.0], None)
    assert plain["fingerprint"] == images.fingerprint
    assert plain["weights_hash"] == models.weights_hash(net)
    assert "date" not in plain
    assert "sizes" not in plain


def test_the_record_of_several_sizes_is_the_same_bytes_every_time(images):
    first, second = (
        json.dumps(
            attack(Ruler(), images, "pgd", eps=[0, 0.1, 0.3], steps=5).to_json(timings=False), allow_nan=False
        )
        for _ in range(2)
    )
    assert first == second
    assert [size["eps"] for size in json.loads(first)["sizes"]] == [0, 0.1, 0.3]


@pytest.mark.slow
def test_the_checks_of_several_sizes_run_with_an_audit(images):
    seen = attack(Ruler(), images, "pgd", norm=2, eps=[0.1, 0.5], steps=5, audit=True)
    assert {"F13", "F17", "F23"} <= {check.id for check in seen.grade.checks}


class Linear(nn.Module):
    """Class 1 beyond a mean grey of 0.5, by weights in a precision of their own."""

    def __init__(self, dtype):
        super().__init__()
        self.layer = nn.Linear(4, 2, dtype=dtype)
        with torch.no_grad():
            self.layer.weight.copy_(torch.tensor([[-5.0], [5.0]]).expand(2, 4))
            self.layer.bias.copy_(torch.tensor([10.0, -10.0]))

    def forward(self, x):
        return self.layer(x.flatten(1))


@pytest.mark.slow
@pytest.mark.parametrize("targets", [None, torch.ones(5, dtype=torch.int64)])
def test_a_network_in_double_precision_is_attacked_in_it(images, targets):
    seen = attack(Linear(torch.float64), images, "ddn", steps=200, targets=targets).summary()
    assert seen["clean_accuracy"] == pytest.approx(0.8)
    assert seen["median_correct"]["l2"] == pytest.approx(0.5, rel=5e-3)
    assert not any("could not run" in reason for reason in seen["reasons"])


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_network_in_half_precision_is_attacked_in_float32_and_says_so(images, dtype):
    seen = attack(Linear(dtype), images, "ddn", steps=200)
    assert seen.summary()["clean_accuracy"] == pytest.approx(0.8)
    # The network rounds images and logits to its precision, and so moves the boundary.
    assert seen.summary()["median_correct"]["l2"] == pytest.approx(0.5, rel=4 * torch.finfo(dtype).eps)
    assert seen.result.adv.dtype == torch.float32
    assert "images are rounded to it" in seen.result.search["network"][0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "settings"),
    [("pgd", {"eps": 8}), ("fgsm", {"eps": [0, 4, 8]}), ("fmn", {"norm": float("inf"), "budgets": [4, 8]})],
)
def test_sizes_in_grey_levels_are_refused_before_anything_is_attacked(images, name, settings):
    with pytest.raises(UserError, match=r"is 8, but images lie in \[0, 1\]") as caught:
        attack(Ruler(), images, name, **settings)
    assert "8/255" in caught.value.hint
    wide = Dataset("ruler", 255 * images.x, images.y, images.classes, None, (0.0, 255.0))
    assert attack(nn.Sequential(Scaled(), Ruler()), wide, name, **settings).summary()["n"] == 5


def test_the_whole_width_is_a_size(images):
    assert attack(Ruler(), images, "pgd", eps=1, steps=3).summary()["robust_accuracy"][0]["value"] == 0


class Scaled(nn.Module):
    def forward(self, x):
        return x / 255


@pytest.mark.slow
@pytest.mark.parametrize(("name", "at"), [("fmn", {"budgets": (0, 0.3, 2)}), ("fgsm", {"eps": [0, 0.15, 1]})])
def test_accuracy_is_stated_class_by_class_and_adds_up(images, name, at):
    mixed = Dataset("ruler", images.x, torch.tensor([0, 0, 2, 0, 1]), ("dark", "bright", "none"), None)

    class Three(nn.Module):
        def forward(self, x):
            return torch.cat([Ruler()(x), torch.full((len(x), 1), -50.0)], 1)

    seen = attack(Three(), mixed, name, norm=2 if name == "fmn" else float("inf"), **at).summary()
    assert [(row["class"], row["n"], row["clean_accuracy"]) for row in seen["classes"]] == [
        (0, 3, 1.0),
        (1, 1, 1.0),
        (2, 1, 0.0),
    ]
    assert [row["robust_accuracy"] for row in seen["classes"]] == [[1, 2 / 3, 0], [1, 1, 0], [0, 0, 0]]
    for place, stated in enumerate(seen["robust_accuracy"]):
        robust = sum(row["n"] * row["robust_accuracy"][place] for row in seen["classes"])
        assert robust == pytest.approx(stated["value"] * seen["n"])
    assert json.loads(json.dumps(seen["classes"])) == seen["classes"]


def test_a_targeted_attack_states_by_class_what_it_states_over_all(images):
    seen = attack(Ruler(), images, "fgsm", eps=1.0, targets=torch.ones(5, dtype=torch.int64)).summary()
    assert seen["classes"][0]["target_not_reached"] == [0.0]
    assert "robust_accuracy" not in seen["classes"][0]
