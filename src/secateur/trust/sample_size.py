"""Whether enough images were attacked for a number to mean something."""

from secateur.attacks.runner.result import AttackResult, Outcome
from secateur.stats import wilson
from secateur.trust.audit_context import Check

LEAST = 30
"""Attacked images below which medians and shares are those of a few pictures, not of a network."""


def enough_attacked(result: AttackResult) -> Check:
    """F22: at least ``LEAST`` images were classified correctly, and so attacked."""
    attacked = result.n - int(result.where(Outcome.ALREADY_WRONG).sum())
    if attacked < LEAST:
        sentence = f"too few images: {attacked} were attacked, at least {LEAST} are needed"
        return Check("F22", False, "fail", sentence)
    return Check("F22", True, "fail", f"{attacked} images were attacked")


def enough_for_shares(result: AttackResult) -> Check:
    """F22 of an audit: a robust accuracy is known to ±10 points."""
    low, high = wilson(result.n // 2, result.n)
    sentence = f"{result.n} images: a robust accuracy is known to ±{(high - low) / 2:.0%} at best"
    return Check("F22", high - low <= 0.2, "warn", sentence)
