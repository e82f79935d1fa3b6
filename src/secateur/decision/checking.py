"""From a trained network to a decision: the public ``secateur.check``."""

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

from torch import nn

from secateur.attacks.runner.outputs import Logits
from secateur.decision.images import network_and_images
from secateur.decision.job import attacks_of, set_up
from secateur.decision.limits import limits_of
from secateur.decision.page import write_results
from secateur.decision.progress import Tell
from secateur.decision.search import ROUNDS, smallest
from secateur.decision.trial import Trial, attempt, measure_control, measure_dense
from secateur.decision.verdict import Verdict
from secateur.errors import UserError
from secateur.models import eval_mode
from secateur.pruning.planning import SelectionOptions
from secateur.recipes import Recipe

IMAGES = 200
"""Test images that are attacked, unless the caller says otherwise."""


def check(
    model: nn.Module,
    train: Any,
    test: Any,
    *,
    validation: Any | None = None,
    min_accuracy: float | str | None = None,
    max_drop: float | str | None = None,
    min_robust: str | Sequence[str] = (),
    max_latency: float | str | None = None,
    find: bool = False,
    rounds: int = ROUNDS,
    control: bool = False,
    recipe: Recipe | None = None,
    adversarial: float | None = None,
    attack: str = "steep",
    steps: int | None = None,
    budgets: Mapping[str, Sequence[float]] | None = None,
    images: int = IMAGES,
    name: str = "",
    out: str | Path | None = None,
    origin: Mapping[str, Any] | None = None,
    on_progress: Tell | None = None,
    seed: int = 0,
    logits: Logits = None,
    sparsity: float | None = None,
    macs: float | int | None = None,
    parameters: float | int | None = None,
    latency: float | str | None = None,
    **options: Unpack[SelectionOptions],
) -> Verdict:
    """Prune a trained network, fine-tune it, attack both, and say what is lost and whether limits are kept.

    The dense network is pruned with proof, the statistics of its batch normalisation are estimated anew, and
    it is fine-tuned for a few epochs with the dense network as teacher. Both networks classify all test
    images, and the same sample of them is attacked by a minimum-norm attack in L∞ and L2.

    Args:
        model: from images to logits, or to a dictionary, a tuple or a record that holds them, or to one
            number, in any precision; left unchanged.
        train: images to fine-tune on: a ``Dataset``, or whatever ``secateur.data.of`` reads, such as a
            DataLoader or a pair (x, y). Of more than 4 GiB a random sample is taken, and the verdict says so.
        test: images that no training has seen. More than 4 GiB of a loader are read part by part, once for
            every network: all of them count for the accuracy.
        validation: chooses the best epoch; a tenth of ``train`` is held out if there is none.
        min_accuracy: a limit, as ``0.9`` or ``"90%"``: the least accuracy on the test images.
        max_drop: the largest fall of that accuracy, as ``0.01`` or ``"1%"``.
        min_robust: least robust accuracies, as ``"0.4@linf:8/255"``; one or several.
        max_latency: the largest median time of one image on this machine: seconds, or ``"5ms"``.
        find: search the highest sparsity that keeps the limits, by bisection, instead of pruning once.
        rounds: networks that the search prunes, fine-tunes and attacks.
        control: also fine-tune and attack a copy of the dense network that is not pruned, so that a change
            by the fine-tuning is not taken for one by the pruning; about as long again.
        recipe: of the fine-tuning; by default :func:`usual_recipe`.
        adversarial: L∞ budget ε of adversarial fine-tuning, for a dense network that is robust.
        attack: a registered minimum-norm attack.
        steps: of the attack; its own number by default.
        budgets: by norm (``l1``, ``l2``, ``linf``) the ε at which robust accuracy is stated.
        images: test images that are attacked, a stratified sample.
        name: of the network, for titles; its class by default.
        out: folder for the network, the page and the JSON. An interrupted check called again with the same
            folder goes on where it was.
        origin: how the command line named the network (``model``, ``classes``, ``input``); see ``save``.
        on_progress: called as ``on_progress(part, done, total)``, in passes of one image.
        seed: of all random choices.
        logits: which part of the answer counts, as in ``secateur.attack``.
        sparsity: fraction of each group's channels to remove; 0.5 if no other amount is given.
        macs: instead of it, an upper limit on multiply-adds: a count, or a fraction of the dense network's.
        parameters: the same for parameters.
        latency: the same for the measured latency, or a time such as ``5ms``.
        options: the others of ``secateur.plan``: ``criterion``, ``keep``, ``round_to``, ``batch``, ...

    Raises:
        UserError: a network and images that do not fit, a network that recognises nothing, a limit that
            cannot be read, a pruning that cannot be proved, or a folder of another check.

    >>> import secateur
    >>> model = secateur.models.resolve("shipped:digits-plain")
    >>> train, test = (secateur.data.load("digits:split", split=part) for part in ("train", "test"))
    >>> recipe = Recipe(epochs=1, learning_rate=0.01, recalibrate=True)
    >>> verdict = check(model, train, test, sparsity=0.3, recipe=recipe, images=40, steps=20, max_drop="20%")
    >>> verdict.kept, verdict.line("parameters").change < 0.7
    (True, True)
    """
    limits = limits_of(
        min_accuracy=min_accuracy, max_drop=max_drop, min_robust=min_robust, max_latency=max_latency
    )
    given = {"sparsity": sparsity, "macs": macs, "parameters": parameters, "latency": latency}
    amount = {key: value for key, value in given.items() if value is not None}
    if len(amount) > 1:
        raise UserError(f"{' and '.join(amount)} exclude each other", hint="give one of them")
    if find and (not limits.stated or rounds < 1 or amount):
        raise UserError(
            "a search needs at least one limit and chooses the sparsity itself",
            hint="for example max_drop='1%', without sparsity or a budget",
        )
    chosen = dict(options) | ({"logits": logits} if isinstance(logits, str | int) else {})
    network, data = network_and_images(model, train, validation, test, logits=logits, seed=seed)
    attacks = attacks_of(
        attack, steps=steps, budgets=budgets, limits=limits, bounds=data.test.bounds, seed=seed
    )
    with ExitStack() as stack:
        folder = Path(out) if out is not None else Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(eval_mode(model))
        job = set_up(
            network,
            name or type(model).__name__,
            data,
            attacks,
            limits,
            recipe=recipe,
            adversarial=adversarial,
            images=images,
            options=chosen | amount,
            folder=folder,
            rounds=rounds if find else 1,
            control=control,
            logits=logits,
            tell=on_progress,
        )
        dense, tuned = measure_dense(job), measure_control(job) if control else None
        if find:

            def measured(sparsity: float, number: int) -> Trial:
                part = f"pruned {number}" if rounds > 1 else "pruned"
                return attempt(job, dense, {**chosen, "sparsity": sparsity}, part=part, control=tuned)

            trial, points = smallest(measured, rounds=rounds)
            trial = replace(trial, verdict=replace(trial.verdict, points=tuple(points)))
        else:
            trial = attempt(job, dense, chosen | amount, control=tuned)
        if out is None:
            return trial.verdict
        return write_results(trial, job, folder, origin=origin)
