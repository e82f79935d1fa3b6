"""The smallest network that keeps the limits: bisection over the sparsity, every step measured."""

from collections.abc import Callable
from typing import Any

from secateur.decision.trial import Trial
from secateur.errors import UserError

LOW, HIGH = 0.05, 0.95
ROUNDS = 5
"""Networks that a search prunes, fine-tunes and attacks."""


def smallest(
    attempt: Callable[[float, int], Trial], *, rounds: int = ROUNDS
) -> tuple[Trial, list[dict[str, Any]]]:
    """The trial of the highest sparsity that keeps all limits, and every sparsity that was tried.

    Limits need not break in order, so this is the highest of those tried, not of all.

    Args:
        attempt: prunes by a sparsity, in the round that is given, and measures.
        rounds: sparsities to try, at least 1.

    Raises:
        UserError: no sparsity that was tried keeps the limits.
    """
    low, high, best, tried = LOW, HIGH, None, []
    for number in range(1, rounds + 1):
        sparsity = round((low + high) / 2, 3)
        trial = attempt(sparsity, number)
        tried.append(_point(sparsity, trial))
        if trial.verdict.kept:
            low, best = sparsity, trial
        else:
            high = sparsity
    if best is None:
        raise UserError(
            f"no network keeps the limits: the smallest sparsity tried was {high:g}",
            hint="loosen a limit, fine-tune longer by the epochs of recipe=, or search with other rounds=",
            command="loosen a limit, fine-tune longer with --epochs, or start from a smaller --rounds search",
        )
    return best, sorted(tried, key=lambda point: point["sparsity"])


def _point(sparsity: float, trial: Trial) -> dict[str, Any]:
    """One point of the front between accuracy, robustness and cost."""
    shares = {line.key: line.pruned for line in trial.verdict.lines if line.kind == "share"}
    macs = trial.verdict.line("macs")
    return {
        "sparsity": sparsity,
        "kept": trial.verdict.kept,
        "macs": macs.pruned,
        "macs_share": macs.change,
        **shares,
    }
