"""Curves and changes in a notebook: they show the numbers of the results, and name those to doubt."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from torch import nn

import secateur
from secateur import models
from secateur.decision import Compared, calibration, compare, evaluate, plot
from secateur.decision.figures import budget_axes, front
from secateur.decision.limits import RobustLimit
from secateur.decision.lines import Line, robust, share_line
from secateur.decision.page import _shares
from secateur.errors import UserError
from secateur.report.theme import WIDTH, themed


@pytest.fixture(scope="module")
def results(digits):
    networks = [models.resolve(f"shipped:digits-{name}") for name in ("plain", "robust")]
    images = digits[1].take(range(60))
    return [secateur.attack(network, images, "fmn", norm="linf", steps=10) for network in networks]


@pytest.mark.parametrize("top", [0.0015, 0.0063, 0.0118, 0.02, 0.047, 0.1, 0.35])
def test_budgets_in_255ths_stand_at_round_numbers_and_apart(top):
    with themed():
        figure = Figure(figsize=(WIDTH, 2.6))
        axes = figure.subplots(1, 2)[0]
        budget_axes(axes, {"norm": "linf", "levels": 256, "bounds": (0.0, 1.0)}, top)
        figure.draw_without_rendering()
    shown = [
        tick.label1
        for tick in axes.xaxis.get_major_ticks()
        if 0 <= tick.get_loc() <= top and tick.label1.get_text()
    ]
    assert len(shown) >= 3
    for text in shown:
        assert len(text.get_text().removesuffix("/255")) <= 5, text
    boxes = [text.get_window_extent() for text in shown]
    assert all(one.x1 < two.x0 for one, two in itertools.pairwise(boxes)), [t.get_text() for t in shown]


@pytest.mark.slow
def test_the_curves_are_the_robust_accuracies_of_the_results(results):
    axes = plot(*results, names=["plain", "robust"]).axes[0]
    for line, result in zip(axes.get_lines(), results, strict=True):
        record = result.to_json()
        expected = [robust(record, eps).mean() for eps in line.get_xdata()]
        assert np.array_equal(line.get_ydata(), expected)
        assert line.get_ydata()[0] == record["accuracy"]
    assert axes.get_ylabel() == "robust accuracy"
    # JSON is as good as the result.
    again = plot(*(result.to_json() for result in results)).axes[0]
    assert all(text.get_text().startswith("fmn") for text in again.get_legend().get_texts())


@pytest.mark.slow
def test_an_attack_of_fixed_size_has_points_and_no_curve(digits):
    images = digits[1].take(range(40))
    network = models.resolve("shipped:digits-plain")
    result = secateur.attack(network, images, "fgsm", norm="linf", eps=[0.05, 0.1])
    axes = plot(result).axes[0]
    (points,) = axes.containers
    stated = result.summary()["robust_accuracy"]
    assert list(points.lines[0].get_xdata()) == [row["eps"] for row in stated]
    assert list(points.lines[0].get_ydata()) == [row["value"] for row in stated]
    assert points.lines[0].get_linestyle() == "None"


def test_a_network_near_chance_and_an_unreliable_attack_say_so_in_the_legend(digits, results):
    class Constant(nn.Module):
        def forward(self, x):
            return torch.eye(10)[0] + 0 * x.flatten(1)[:, :10]

    images = digits[1]
    chance = secateur.attack(Constant().eval(), images, "fmn", norm="linf", steps=2)
    legend = plot(chance, results[0].to_json() | {"grade": "C"}).axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["fmn (near chance)", "fmn (unreliable)"]


def test_changes_are_drawn_with_their_intervals_and_only_clear_ones_are_filled():
    zeros, ones = np.zeros(100), np.ones(100)
    lines = (
        share_line("accuracy", "accuracy", ones, ones),
        share_line("robust linf 0.1", "robust accuracy at L∞ 0.1", ones, zeros),
    )
    axes = Compared(lines, 100).plot().axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == [line.label for line in reversed(lines)]
    signs = [line for line in axes.get_lines() if line.get_marker() == "o"]
    assert [sign.get_xdata()[0] for sign in signs] == [-100, 0]
    assert [to_rgba(sign.get_markerfacecolor())[3] for sign in signs] == [1, 0]
    assert [text.get_text() for text in axes.texts] == [line.finding for line in reversed(lines)]
    assert axes.get_xlabel().startswith("points, second minus first")


@pytest.mark.slow
def test_a_verdict_draws_itself(quick):
    verdict = quick(sparsity=0.3)
    shares = [line for line in verdict.lines if line.kind == "share"]
    axes = plot(verdict).axes[0]
    assert len(axes.get_yticklabels()) == len(shares)
    assert axes.get_xlabel().startswith("points, pruned minus dense")


def test_what_cannot_be_drawn_together_is_one_sentence(digits, results):
    images = digits[1].take(range(20))
    network = models.resolve("shipped:digits-plain")
    other = secateur.attack(network, images, "ddn", steps=2)
    with pytest.raises(UserError, match="the results differ in norm"):
        plot(results[0], other)
    with pytest.raises(UserError, match="0 results"):
        plot()
    with pytest.raises(UserError, match="1 name for 2 results"):
        plot(*results, names=["one"])
    with pytest.raises(UserError, match="only results of attacks"):
        plot(evaluate(network, images))
    with pytest.raises(UserError, match="no accuracy to draw"):
        Compared((), 0).plot()
    assert compare(*results).plot().axes


def test_a_result_of_an_attack_draws_itself(results):
    record = results[0].to_json()
    (line,) = results[0].plot().axes[0].get_lines()
    assert list(line.get_ydata()) == [robust(record, eps).mean() for eps in line.get_xdata()]


def test_an_evaluation_draws_its_calibration_and_its_classes(digits):
    found = evaluate(models.resolve("shipped:digits-plain"), digits[1])
    left, right = found.plot().axes
    (points,) = left.collections[1:]
    assert points.get_offsets().tolist() == [[each.confidence, each.accuracy] for each in found.bins]
    assert sum(each.n for each in found.bins) == found.n
    assert sum(each.right for each in found.bins) == int(found.correct.sum())
    assert left.get_title() == f"calibration error {100 * found.calibration_error:.1f} %"
    signs = [line.get_xdata()[0] for line in right.get_lines() if line.get_marker() == "o"]
    assert signs == [each.share for each in reversed(found.classes)]
    names = [text.get_text() for text in right.get_yticklabels()]
    assert names == [f"{each.name}, {each.n}" for each in reversed(found.classes)]


def test_of_many_classes_the_least_accurate_are_drawn():
    classes = [calibration.ClassAccuracy(f"class {i}", 100, i) for i in range(50)] + [
        calibration.ClassAccuracy("none", 0, 0)
    ]
    right = calibration.draw([calibration.Bin(10, 5, 0.5)], classes, error=0.0).axes[1]
    names = [text.get_text() for text in right.get_yticklabels()]
    assert names == [f"class {i}, 100" for i in reversed(range(20))]
    assert right.get_title() == "the 20 least accurate of 50 classes"


LINES = [
    Line("accuracy", "accuracy, 60 images", "share", 0.9, 0.8),
    Line("robust linf 0.1", "robust accuracy at L∞ 0.1, 60 images", "share", 0.8, 0.3),
    Line("robust linf 0.2", "robust accuracy at L∞ 0.2, 60 images", "share", 0.4, 0.2),
]


def test_the_front_shows_every_network_beside_the_dense_one():
    shares = {"accuracy": 0.8, "robust linf 0.2": 0.2}
    tried = [{"macs_share": macs, "kept": macs > 0.05, **shares} for macs in (0.25, 0.02, 0.07)]
    axes = front(tried, [LINES[0], LINES[2]]).figure.axes[0]
    signs = [each for each in axes.collections if len(each.get_offsets()) == 1]
    assert [each.get_offsets()[0].tolist() for each in signs[:3]] == [[0.02, 0.8], [0.07, 0.8], [0.25, 0.8]]
    filled = [to_rgba(each.get_facecolor()[0])[:3] != (1.0, 1.0, 1.0) for each in signs]
    assert filled == [False, True, True] * 2
    dense = [
        line.get_ydata()[0] for line in axes.get_lines() if line.get_ls() == ":" and len(line.get_xdata())
    ]
    assert dense == [0.9, 0.4]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "accuracy",
        "robust accuracy at L∞ 0.2",
        "dense network",
    ]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["3 %", "10 %", "30 %", "100 %"]


def test_the_front_shows_the_budget_of_a_limit_or_the_one_that_says_most():
    verdict = SimpleNamespace(lines=LINES, line=lambda key: LINES[0])
    for limits, expected in (((), "robust linf 0.2"), ((RobustLimit(0.3, "linf", 0.1),), "robust linf 0.1")):
        job = SimpleNamespace(limits=SimpleNamespace(min_robust=limits))
        assert [line.key for line in _shares(SimpleNamespace(verdict=verdict), job)] == ["accuracy", expected]
