"""The lines of a trial: what the dense and the pruned network do on the same images, and what they cost."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor, nn

from secateur import measure
from secateur.data import Dataset, Parts
from secateur.decision.job import Job
from secateur.decision.lines import Line, cost_line, distance_line, robust, robust_line, share_line
from secateur.decision.network import Measured
from secateur.exports import measure_costs
from secateur.exports.inputs import batch_input_specs
from secateur.models import place_of
from secateur.stats import near_chance
from secateur.text import listed

BATCHES = (1, 32)
SECONDS = 0.5
"""Measurement time per network and batch size."""
# A dense network that keeps this share of its accuracy at an L∞ budget was trained to resist it.
_RESISTS, _BUDGET = 0.3, 3.9 / 255


def measured_costs(dense: nn.Module, pruned: nn.Module, image: Tensor) -> dict[str, Any]:
    """Parameters, multiply-adds, latency and memory of both networks for one ``image``, measured in turns."""
    example = image.to(*place_of(dense, image))
    found = measure_costs(
        {"dense": dense, "pruned": pruned},
        batch_input_specs(example),
        batch_sizes=BATCHES,
        seconds=SECONDS,
    )
    return {
        name: {
            "parameters": measure.parameters(network),
            "macs": measure.macs(network, example),
            "times": {str(cost.batch): cost.latency.to_json() for cost in found if cost.network == name},
            "bytes": {str(cost.batch): cost.peak_bytes for cost in found if cost.network == name},
        }
        for name, network in (("dense", dense), ("pruned", pruned))
    }


def lines_of(job: Job, dense: Measured, pruned: Measured, costs: Mapping[str, Any]) -> tuple[Line, ...]:
    """Accuracy, robust accuracy at every budget, distances, and costs."""
    lines = [*network_lines(job, dense, pruned)]
    both = costs["dense"], costs["pruned"]
    lines.append(cost_line("parameters", "parameters", "count", *(each["parameters"] for each in both)))
    lines.append(cost_line("macs", "multiply-adds", "count", *(each["macs"] for each in both)))
    for size in BATCHES:
        images = "1 image" if size == 1 else f"{size} images"
        times = [each["times"][str(size)]["median"] for each in both]
        lines.append(cost_line(f"latency {size}", f"latency of {images}", "seconds", *times))
    memory = [each["bytes"]["1"] for each in both]
    return (*lines, cost_line("memory", "peak memory of 1 image", "bytes", *memory))


def network_lines(job: Job, dense: Measured, pruned: Measured) -> tuple[Line, ...]:
    """Accuracy, robust accuracy at every budget, and distances of two networks on the same images."""
    labels = job.images.test.y
    right = [(each.predicted == labels).numpy().astype(np.float64) for each in (dense, pruned)]
    lines = [share_line("accuracy", "accuracy", *right)]
    fallen = collapsed(pruned, job.images.test)
    for norm, budgets in job.attacks.budgets.items():
        pair = dense.attacks[norm], pruned.attacks[norm]
        lines += [robust_line(*pair, eps) for eps in budgets]
    for norm in job.attacks.budgets:
        lines.append(distance_line(dense.attacks[norm], pruned.attacks[norm], collapsed=fallen))
    return tuple(lines)


def collapsed(network: Measured, test: Dataset | Parts) -> bool:
    """Whether the accuracy on the test images is near chance, by the rule of every report."""
    right = int((network.predicted == test.y).sum())
    return near_chance(right, test.n, test.num_classes)


def remarks(job: Job, networks: Mapping[str, Measured | None], facts: Mapping[str, Any]) -> tuple[str, ...]:
    """What a reader has to know beside the numbers.

    Args:
        job: what was asked.
        networks: by name; ``fine-tuned dense`` is None where it was not measured.
        facts: what is known of the pruned network.
    """
    said = [*job.images.remarks, *job.handed.said]
    for name, network in networks.items():
        for norm, record in network.attacks.items() if network is not None else ():
            reasons = [each["sentence"] for each in record["checks"] if not each["passed"]]
            if record["grade"] != "A" and reasons:
                said.append(f"attack on the {name} network, {norm}, grade {record['grade']}: {reasons[0]}")
    if facts["collapsed_epochs"]:
        said.append(
            "the adversarial fine-tuning lost its robustness (catastrophic overfitting) in epoch "
            f"{listed([str(epoch) for epoch in facts['collapsed_epochs']])}; those epochs were not kept"
        )
    dense = networks["dense"]
    against = None if dense is None else dense.attacks.get("linf")
    natural = job.sample.levels == 256 and job.sample.shape[0] == 3
    if against is not None and natural and job.recipe.adversary is None:
        kept = float(robust(against, _BUDGET).mean())
        if kept >= _RESISTS * against["accuracy"] > 0:
            said.append(
                f"the dense network is robust ({100 * kept:.0f} % at L∞ 4/255), but the fine-tuning was not "
                "adversarial: try adversarial=4/255 (--adversarial 4/255)"
            )
    if networks["fine-tuned dense"] is None and (job.recipe.epochs or job.recipe.recalibrate):
        said.append(
            "the pruned network was fine-tuned and the dense one was not: what is better may come from the "
            "fine-tuning; --control fine-tunes a copy of the dense network alike and compares with it"
        )
    return (*said, *facts["pruning"]["notes"])
