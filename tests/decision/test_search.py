"""The search for the smallest network that keeps the limits."""

from types import SimpleNamespace

import pytest

from secateur.decision.search import smallest
from secateur.errors import UserError


def attempts(kept):
    """Trials that keep the limits where ``kept(sparsity)`` says so."""
    tried = []

    def attempt(sparsity, number):
        tried.append((number, sparsity))
        lines = [SimpleNamespace(key="accuracy", kind="share", pruned=1 - sparsity)]
        verdict = SimpleNamespace(
            kept=kept(sparsity), lines=lines, line=lambda _: SimpleNamespace(pruned=10, change=1 - sparsity)
        )
        return SimpleNamespace(verdict=verdict, sparsity=sparsity)

    return attempt, tried


def test_bisection_closes_in_on_the_threshold():
    attempt, tried = attempts(lambda sparsity: sparsity <= 0.6)
    best, points = smallest(attempt, rounds=6)
    assert 0.57 < best.sparsity <= 0.6
    assert [number for number, _ in tried] == [1, 2, 3, 4, 5, 6]
    assert [point["sparsity"] for point in points] == sorted(sparsity for _, sparsity in tried)
    assert {point["kept"] for point in points} == {True, False}


def test_the_best_that_was_tried_is_kept_when_a_later_one_breaks():
    attempt, _ = attempts(lambda sparsity: sparsity == 0.5)
    assert smallest(attempt, rounds=4)[0].sparsity == 0.5


def test_no_network_within_the_limits_is_said():
    attempt, _ = attempts(lambda _: False)
    with pytest.raises(UserError, match="no network keeps the limits"):
        smallest(attempt, rounds=3)
