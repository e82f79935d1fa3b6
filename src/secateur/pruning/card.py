"""The page that lies beside the weights of a saved network, for people."""

from torch import nn

from secateur.surgery.plan import Plan


def card_text(model: nn.Module, plans: tuple[Plan, ...], text: str, front: str) -> str:
    """The page as Markdown: what was removed in every round, and how to load the rest.

    Args:
        model: the pruned network.
        plans: the rounds, in order.
        text: what else there is to say, as Markdown.
        front: front matter of a model card, or "".

    >>> "Class `Linear`, 6 parameters." in card_text(nn.Linear(2, 2), (), "", "")
    True
    """
    parameters = sum(parameter.numel() for parameter in model.parameters())
    lines = [
        *([front, ""] if front else []),
        "# A pruned network",
        "",
        f"Class `{type(model).__name__}`, {parameters:,} parameters.",
        "",
    ]
    for number, plan in enumerate(plans, start=1):
        removed = sum(cut.channels - cut.kept for cut in plan.cuts)
        lines += [
            f"Round {number}: criterion {plan.criterion}, sparsity {plan.sparsity:g} ({plan.scope}), "
            f"seed {plan.seed}; {len(plan.cuts)} groups lost {removed:,} channels.",
            *(f"- {note}" for note in plan.notes),
            "",
        ]
    lines += [
        "Load it with",
        "",
        "```python",
        "import secateur",
        "model = secateur.load(folder, factory)  # factory builds the unpruned class",
        "```",
        "",
        *([text, ""] if text else []),
    ]
    return "\n".join(lines)
