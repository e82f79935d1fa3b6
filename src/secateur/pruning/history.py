"""Which plans were applied to a model: kept on the model itself, through copies and pickles."""

import json
from dataclasses import replace

from torch import nn

from secateur.surgery.plan import Plan

_PLANS = "_secateur_plans"


class _CarriedOut:
    """An applied plan; copies and pickles hold its JSON text, so that they need no class of this package."""

    def __init__(self, plan: Plan) -> None:
        self.plan = replace(plan, graph=None)

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (json.dumps(self.plan.to_json()),)


def remember(model: nn.Module, plan: Plan) -> None:
    """Append a plan to the history of the model."""
    object.__setattr__(model, _PLANS, (*model.__dict__.get(_PLANS, ()), _CarriedOut(plan)))


def history(model: nn.Module) -> tuple[Plan, ...]:
    """The plans applied to this model, oldest first.

    >>> import secateur, torch
    >>> model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    >>> report = secateur.prune(model, torch.rand(1, 3), sparsity=0.5)
    >>> [plan.sparsity for plan in history(model)]
    [0.5]
    """
    noted = model.__dict__.get(_PLANS, ())
    return tuple(
        item.plan if isinstance(item, _CarriedOut) else Plan.from_json(json.loads(item)) for item in noted
    )
