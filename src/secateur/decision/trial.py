"""One trial: a pruned network, made and measured, beside the dense one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from secateur.decision import network
from secateur.decision.comparing import collapsed, lines_of, measured_costs, network_lines, remarks
from secateur.decision.folder import remembered
from secateur.decision.job import Job
from secateur.decision.lines import robust
from secateur.decision.network import Measured
from secateur.decision.pruned import amount_text, control_network, pruned_network
from secateur.decision.verdict import Verdict, judge, sentences
from secateur.hashing import json_sha256
from secateur.untrusted import own_folder


@dataclass(frozen=True, eq=False)
class Trial:
    """One pruned network beside the dense one, with the verdict on it."""

    model: nn.Module
    dense: Measured
    pruned: Measured
    verdict: Verdict


def measure_dense(job: Job) -> Measured:
    """Predictions and attacks of the dense network."""
    folder, tick = own_folder(job.work, "dense"), job.meter.of("dense")
    return network.measure(job.handed.asked, job.images, job.sample, job.attacks, folder=folder, tick=tick)


def measure_control(job: Job) -> Measured:
    """Predictions and attacks of the dense network after the fine-tuning that the pruned one gets."""
    folder, tick = own_folder(job.work, "control"), job.meter.of("control")
    asked = job.handed.as_asked(control_network(job, folder, tick=tick))
    return network.measure(asked, job.images, job.sample, job.attacks, folder=folder, tick=tick)


def attempt(
    job: Job,
    dense: Measured,
    options: Mapping[str, Any],
    *,
    part: str = "pruned",
    control: Measured | None = None,
) -> Trial:
    """Prune as the ``options`` of a plan say, fine-tune, attack, and compare with the dense network.

    Args:
        job: what is asked.
        dense: what is known of the dense network.
        options: of the plan.
        part: the name of this trial in the progress.
        control: what is known of the dense network after the same fine-tuning.
    """
    plain = {
        name: value
        for name, value in options.items()
        if name in ("sparsity", "macs", "parameters", "latency")
    }
    folder, tick = own_folder(job.work, f"pruned-{json_sha256(plain)[:8]}"), job.meter.of(part)
    model, facts = pruned_network(job, options, folder, tick=tick)
    asked = job.handed.as_asked(model)
    pruned = network.measure(asked, job.images, job.sample, job.attacks, folder=folder, tick=tick)
    costs = remembered(
        folder / "costs.json", lambda: measured_costs(job.handed.asked, asked, job.images.example)
    )
    lines = lines_of(job, dense, pruned, costs)
    against = () if control is None else network_lines(job, control, pruned)
    time = costs["pruned"]["times"]["1"]
    withstand = {
        (limit.norm, limit.eps): (int(robust(pruned.attacks[limit.norm], limit.eps).sum()), job.sample.n)
        for limit in job.limits.min_robust
    }
    limits = judge(job.limits, lines, robust_of=withstand, seconds=(time["median"], *time["quartiles"]))
    criterion = options.get("criterion", "l1")
    named = criterion if isinstance(criterion, str) else getattr(criterion, "__name__", "own criterion")
    verdict = Verdict(
        title=f"{job.name}, pruned by {named}, {amount_text(options)}; {facts['tuning']}",
        lines=lines,
        limits=limits,
        control=against,
        sentences=sentences(lines, limits, collapsed=collapsed(pruned, job.images.test), control=against),
        notes=remarks(job, {"dense": dense, "fine-tuned dense": control, "pruned": pruned}, facts),
        grades={
            norm: max(each.attacks[norm]["grade"] for each in (dense, control, pruned) if each is not None)
            for norm in pruned.attacks
        },
        model=model,
        epochs=tuple(facts.get("epochs", ())),  # a check of an older version did not keep them
    )
    return Trial(model, dense, pruned, verdict)
