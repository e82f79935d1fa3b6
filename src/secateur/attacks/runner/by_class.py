"""Which images withstand a budget, over all of them and class by class."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from secateur.attacks.runner.result import AttackResult, Outcome


def withstands(result: AttackResult, eps: float) -> Tensor:
    """The images that withstand the budget ``eps``, [N] bool; misclassified images withstand none.

    For an attack of fixed size, ``eps`` is a size it ran at, and its finding there decides. Otherwise an
    image withstands every budget below its distance. For a targeted attack these are images whose target is
    not reached.
    """
    if result.kind == "minimum-norm":
        return result.distance > eps
    return ~result.where(Outcome.ALREADY_WRONG) & ~result.found_at(eps)


def by_class(
    result: AttackResult, labels: Sequence[int], budgets: Sequence[float], *, share: str
) -> list[dict[str, Any]]:
    """One row per class that has images: its label, ``n``, ``clean_accuracy``, and ``share`` at each budget.

    Args:
        result: of the attack.
        labels: of its images [N].
        budgets: in its norm.
        share: what the last entry is called: robust accuracy, or of a targeted attack another name.
    """
    classes = torch.tensor(labels, dtype=torch.int64)
    robust = [withstands(result, eps) for eps in budgets]
    rows = []
    for label in sorted(set(labels)):
        members = classes == label
        rows.append(
            {
                "class": label,
                "n": int(members.sum()),
                "clean_accuracy": result.correct[members].double().mean().item(),
                share: [each[members].double().mean().item() for each in robust],
            }
        )
    return rows
