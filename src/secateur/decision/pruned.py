"""The pruned network of a check: pruned with proof, fine-tuned, and kept for a later call."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from secateur import pruning
from secateur.cpu.channels_last import prefers_channels_last
from secateur.decision.folder import remembered
from secateur.decision.handed import Handed
from secateur.decision.images import Images
from secateur.decision.network import Tick
from secateur.errors import UserError
from secateur.graph import trace
from secateur.models import device_of
from secateur.pruning.budget import latency_limit
from secateur.recipes import Adversary, Distillation, Recipe
from secateur.train import Checkpoints, collapsed
from secateur.train import train as fit

if TYPE_CHECKING:
    from secateur.decision.job import Job

# About as many images pass through a fine-tuning, whatever the data set.
IMAGES = 200_000
FEWEST, MOST = 1, 30
FEW = 10
"""Of fewer epochs the learning rate falls in every step: per epoch, that of the last one would be high."""


def usual_recipe(
    n: int, *, adversarial: float | None = None, channels_last: bool = False, epochs: int | None = None
) -> Recipe:
    """A short fine-tuning for ``n`` training images: cosine schedule, distillation from the dense network.

    Args:
        n: number of training images.
        adversarial: L∞ budget ε of adversarial training, for dense networks that are robust; one step of
            1.25 ε from a random start (Wong et al. 2020).
        channels_last: train in that memory format; see :func:`trains_faster_channels_last`.
        epochs: how many; by default about 200,000 images pass.

    >>> usual_recipe(50_000).epochs, usual_recipe(1_000).epochs
    (4, 30)
    """
    if epochs is None:
        epochs = min(MOST, max(FEWEST, round(IMAGES / n)))
    return Recipe(
        epochs=epochs,
        schedule="cosine_per_step" if epochs < FEW else "cosine",
        batch_size=128 if n >= 1280 else max(16, n // 10),
        learning_rate=0.01,
        recalibrate=True,
        distillation=Distillation(),
        checkpoint_every=1,
        adversary=Adversary(adversarial, 1.25 * adversarial, steps=1, fold=True) if adversarial else None,
        select="robust" if adversarial else "clean",
        channels_last=channels_last,
    )


def trains_faster_channels_last(network: nn.Module, x: Tensor) -> bool:
    """Whether ``network`` takes images like ``x`` on a CPU, by convolutions that are narrow.

    Measured for steps of a ResNet-20 on 128 images of CIFAR: 1.29 x, and 1.25 x where 30 % of its channels
    are removed; one thread with AVX2.

    >>> import torch
    >>> trains_faster_channels_last(nn.Conv2d(3, 8, 3), torch.rand(1, 3, 8, 8))
    True
    >>> trains_faster_channels_last(nn.Linear(3, 8), torch.rand(1, 3))
    False
    """
    convolves = any(isinstance(layer, nn.Conv2d) for layer in network.modules())
    on_cpu = device_of(network).type == "cpu"
    return x.ndim == 4 and convolves and on_cpu and prefers_channels_last(network)


def refuse_impossible(dense: Handed, images: Images, options: Mapping[str, Any], *, seed: int) -> None:
    """Plan the pruning once before anything is attacked, so that a mistake is told at once.

    Raises:
        UserError: as for :func:`pruned_network`; whether a latency can be reached is not tried.
    """
    known = {name: value for name, value in options.items() if name not in ("latency", "logits")}
    if options.get("latency") is not None:
        latency_limit(options["latency"])
    example = images.train.x[:1].to(device_of(dense.working))
    graph = trace(dense.working, example, logits=options.get("logits"))
    planned = pruning.plan(graph, seed=seed, **known)
    if not planned.cuts:
        raise _nothing_to_remove(planned.notes)


def _nothing_to_remove(notes: Sequence[str]) -> UserError:
    why = f": {notes[0]}" if notes else ""
    return UserError(f"no channel can be removed{why}", hint="see secateur graph")


def pruned_network(
    job: "Job", options: Mapping[str, Any], folder: Path, *, tick: Tick
) -> tuple[nn.Module, dict[str, Any]]:
    """Prune a copy of the dense network, fine-tune it, and return it with what is known about it, as JSON.

    Args:
        job: its dense network is left unchanged, and in float32 it is the teacher; the fine-tuning fits
            ``train`` and chooses its epoch on ``validation``.
        options: of ``secateur.plan``: the amount, the criterion and others.
        folder: where the finished network is kept, with checkpoints before.
        tick: called with the part, what is done and what is expected.

    Raises:
        UserError: the plan removes nothing, or cannot be proved; a diverged fine-tuning.
    """

    def prune(model: nn.Module) -> dict[str, Any]:
        example = job.images.train.x[:1].to(device_of(model))
        report = pruning.prune(model, example, seed=job.attacks.seed, **options)
        if report.channels == report.channels_before:
            raise _nothing_to_remove(report.notes)
        return {"pruning": report.to_json()}

    return _fine_tuned(job, prune, folder, tick=tick)


def control_network(job: "Job", folder: Path, *, tick: Tick) -> nn.Module:
    """A copy of the dense network that is fine-tuned like the pruned network, and not pruned.

    What differs between it and the pruned network is the pruning alone. Arguments and errors are those of
    :func:`pruned_network`.
    """
    return _fine_tuned(job, lambda _: {}, folder, tick=tick)[0]


def _fine_tuned(
    job: "Job", change: Callable[[nn.Module], dict[str, Any]], folder: Path, *, tick: Tick
) -> tuple[nn.Module, dict[str, Any]]:
    """A changed copy of the dense network after its fine-tuning, and the facts on both; once made, kept."""
    dense, images, final = job.handed, job.images, folder / "network"

    def make() -> dict[str, Any]:
        model = copy.deepcopy(dense.working)
        facts = change(model)
        model.eval()
        history = fit(
            dense.as_taught(model),
            images.train,
            images.validation,
            job.recipe,
            seed=job.attacks.seed,
            checkpoints=Checkpoints(folder / "checkpoints"),
            teacher=dense.taught,
            on_progress=lambda done, total: tick("fine-tuning", done, total),
        )
        if history.outcome == "diverged":
            raise UserError(
                f"the fine-tuning diverged: {history.sentence}",
                hint="choose a recipe with a smaller learning_rate",
                command="choose a smaller --learning-rate",
            )
        pruning.save(dense.converted_back(model).eval(), final, overwrite=True)
        Checkpoints(folder / "checkpoints").clear()
        lost = collapsed(history.epochs)
        told = {"tuning": history.sentence, "collapsed_epochs": list(lost)}
        return facts | told | {"epochs": history.to_json()["epochs"]}

    if not (final / "plan.json").is_file():
        (folder / "made.json").unlink(missing_ok=True)
    facts = remembered(folder / "made.json", make)
    tick("fine-tuning", 1, 1)
    return pruning.load(final, lambda: copy.deepcopy(dense.network)).eval(), facts


def amount_text(options: Mapping[str, Any]) -> str:
    """How much is removed, in words.

    >>> amount_text({"macs": 0.5}), amount_text({"sparsity": 0.25})
    ('at most 50 % of the multiply-adds', 'sparsity 0.25')
    """
    for name, noun in (("macs", "multiply-adds"), ("parameters", "parameters"), ("latency", "latency")):
        if (value := options.get(name)) is not None:
            share = isinstance(value, float) and math.isfinite(value) and value <= 1
            return f"at most {100 * value:g} % of the {noun}" if share else f"{noun} at most {value}"
    return f"sparsity {options.get('sparsity', 0.5):g}"
