"""Schedules: prune once and retrain, or prune and retrain in rounds."""

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, Literal, Unpack

from torch import nn

from secateur.errors import UserError
from secateur.graph import trace
from secateur.kinds import is_whole
from secateur.pruning.apply import PruneReport, apply
from secateur.pruning.keep_counts import check_sparsity
from secateur.pruning.planning import SelectionOptions, plan
from secateur.registry import RATES

Retrain = Callable[[nn.Module, int], None]
Shape = Literal["linear", "geometric"]


def one_shot(
    model: nn.Module,
    example_inputs: Any,
    *,
    sparsity: float = 0.5,
    retrain: Retrain | None = None,
    rates: str | Mapping[Any, float] | None = None,
    seed: int = 0,
    heads: str = "width",
    logits: str | int | None = None,
    **options: Unpack[SelectionOptions],
) -> list[PruneReport]:
    """Prune to ``sparsity`` at once, then call ``retrain(model, 0)``; see ``plan`` for the options.

    >>> import torch
    >>> from secateur.models import build
    >>> (report,) = one_shot(build("resnet-tiny", widths=(4, 8)), torch.rand(1, 1, 8, 8), sparsity=0.5)
    >>> report.channels_before, report.channels
    (24, 12)
    """
    return iterative(
        model,
        example_inputs,
        sparsity=sparsity,
        rounds=1,
        retrain=retrain,
        rates=rates,
        seed=seed,
        heads=heads,
        logits=logits,
        **options,
    )


def iterative(
    model: nn.Module,
    example_inputs: Any,
    *,
    sparsity: float = 0.5,
    rounds: int = 3,
    shape: Shape = "linear",
    retrain: Retrain | None = None,
    rates: str | Mapping[Any, float] | None = None,
    seed: int = 0,
    heads: str = "width",
    logits: str | int | None = None,
    **options: Unpack[SelectionOptions],
) -> list[PruneReport]:
    """Prune and retrain in rounds until ``sparsity`` of the original channels is removed.

    Args:
        model: pruned in place.
        example_inputs: as for ``trace``.
        sparsity: fraction of each group's original channels removed after the last round, in [0, 1).
        rounds: number of rounds, at least 1.
        shape: ``linear`` removes the same number of channels in each round, ``geometric`` the same fraction
            of the remaining ones.
        retrain: called as ``retrain(model, round)`` after each round; rounds count from 0.
        rates: final sparsity of single layers, reached in the same rounds.
        seed: round r uses ``seed + r``.
        heads: ``width`` or ``whole``, see ``trace``.
        logits: which of several outputs to keep, see ``trace``.
        options: how channels are chosen in each round, on the retrained weights: ``criterion``, ``scope``,
            ``keep`` and the others of ``plan``; ``max_sparsity`` counts from the original channels.

    Returns:
        One report per round.

    Raises:
        UserError: an invalid sparsity, number of rounds or shape.

    >>> import torch
    >>> from secateur.models import build
    >>> model = build("resnet-tiny", widths=(4, 8))
    >>> reports = iterative(model, torch.rand(1, 1, 8, 8), sparsity=0.5, rounds=2)
    >>> [report.channels for report in reports]
    [18, 12]
    """
    targets = round_targets(check_sparsity(sparsity), rounds, shape)
    named: Mapping[str, float] = RATES.get(rates)() if isinstance(rates, str) else rates or {}
    fractions = {name: check_sparsity(rate, f"the rate of {name}") for name, rate in named.items()}
    steps = {name: round_targets(fraction, rounds, shape) for name, fraction in fractions.items()}
    reports = []
    dense_sizes: dict[str, int] = {}
    for number, target in enumerate(targets):
        graph = trace(model, example_inputs, heads=heads, logits=logits)
        chosen = plan(
            graph,
            sparsity=target,
            rates={name: step[number] for name, step in steps.items()},
            seed=seed + number,
            dense_sizes=dense_sizes,
            **options,
        )
        # Sizes before the first round: sparsities of later rounds count from these.
        dense_sizes = dense_sizes or {group.name: group.size for group in graph.groups}
        reports.append(apply(model, chosen))
        if retrain is not None:
            retrain(model, number)
    return reports


def round_targets(sparsity: Fraction, rounds: int, shape: str) -> list[float]:
    """The sparsity after each round; the last is exactly ``sparsity``.

    Raises:
        UserError: fewer than one round, or an unknown shape.

    >>> round_targets(check_sparsity(0.9), 2, "geometric")
    [0.683772, 0.9]
    """
    if not is_whole(rounds, least=1):
        raise UserError(f"rounds must be a positive integer, got {rounds!r}", hint="for example rounds=3")
    whole = float(sparsity)
    if shape == "linear":
        return [*(round(whole * number / rounds, 6) for number in range(1, rounds)), whole]
    if shape == "geometric":
        return [*(round(1 - (1 - whole) ** (number / rounds), 6) for number in range(1, rounds)), whole]
    raise UserError(f"unknown shape '{shape}'", hint="known: linear, geometric")
