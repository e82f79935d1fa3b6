"""What each tool does with one model: ours, Torch-Pruning, torch-kirigami; one plain row each.

``ours-afterwards`` asks what our pruned network can still do.

Seconds are CPU time: the machine may be busy with something else.
"""

import itertools
import sys
import time
from collections import Counter
from math import prod
from pathlib import Path

import torch
import zoo_after
from torch import nn


def counted(model):
    """How many parameters a model has."""
    return sum(parameter.numel() for parameter in model.parameters())


def call(model, inputs):
    """Run the model without gradients."""
    with torch.no_grad():
        return model(**inputs) if isinstance(inputs, dict) else model(inputs)


# Reasons that lie in the network's task: what it is fed, and what it must answer.
GIVEN = ("is an output of the model", "is combined with values that have no channels there")


def floor(shapes, parameters, graph, sparsity):
    """The ratio if every channel could go but those that meet the network's inputs, positions and outputs."""
    fixed = Counter()
    for item in graph.frozen:
        if item.reason.why.startswith(GIVEN):
            fixed.update({axis: len(indices) for axis, indices in item.indices.items()})
    labelled = {str(axis) for axis in graph.atoms.axes}
    left = total = 0
    for name in parameters:
        kept = whole = prod(shapes[name])
        for dim, size in enumerate(shapes[name]):
            axis = f"{name}[{dim}]"
            if axis in labelled:
                kept *= 1 - sparsity * (1 - fixed[axis] / size)
        left, total = left + kept, total + whole
    return left / total


def resident(line):
    """MiB of memory held now (``VmRSS``) or at most since ``forget_peak`` (``VmHWM``)."""
    text = Path("/proc/self/status").read_text()
    return int(next(row for row in text.splitlines() if row.startswith(line)).split()[1]) / 2**10


def forget_peak():
    """Let the highest use of memory count from here."""
    Path("/proc/self/clear_refs").write_text("5")


def ours(model, inputs, sparsity):
    """Trace, plan and apply; the proof, which is a part of apply, is timed by itself."""
    import secateur
    import secateur.pruning.apply

    # The package has a function of this name, which an import from it would give.
    apply = sys.modules["secateur.pruning.apply"]

    proof = []
    honest = apply.proved

    def timed(*arguments):
        start = time.process_time()
        result = honest(*arguments)
        proof.append(time.process_time() - start)
        return result

    apply.proved = timed
    before = counted(model)
    call(model, inputs)
    times = [time.process_time()]
    call(model, inputs)
    times.append(time.process_time())
    forget_peak()
    held = resident("VmRSS")
    graph = secateur.trace(model, inputs)
    times.append(time.process_time())
    plan = secateur.plan(graph, sparsity=sparsity)
    times.append(time.process_time())
    report = secateur.apply(model, plan)
    times.append(time.process_time())
    forward, trace, planning, applying = (b - a for a, b in itertools.pairwise(times))
    left = [note for note in report.notes if note.startswith("left whole")]
    return {
        "status": "verified" if report.verified else "unverified",
        "ratio": counted(model) / before,
        "floor": floor(dict(plan.shapes), set(dict(model.named_parameters())), graph, sparsity),
        "seconds": trace + planning + applying - proof[0],
        "proof": proof[0],
        "total": trace + planning + applying,
        "trace": trace,
        "plan": planning,
        "surgery": applying - proof[0],
        "forward": forward,
        "error": report.max_error,
        "gradient_error": report.gradient_error,
        "changed_by_design": len(report.changed_by_design),
        "left_whole": len(left),
        "reason": left[0] if left else "",
        "model_mib": before * 4 / 2**20,
        "extra_mib": resident("VmHWM") - held,
    }


def classifier(model):
    """The last linear layer: peers must be told to leave it alone."""
    layers = [module for module in model.modules() if isinstance(module, (nn.Linear, nn.Conv2d))]
    wide = [layer for layer in layers if isinstance(layer, nn.Linear)]
    return (wide or layers)[-1]


def torch_pruning(model, inputs, sparsity):
    """MagnitudePruner (L1, mean over the group), the classifier ignored; valid if the network still runs."""
    import torch_pruning as tp

    before = counted(model)
    call(model, inputs)
    start = time.process_time()
    pruner = tp.pruner.MagnitudePruner(
        model,
        inputs,
        importance=tp.importance.GroupMagnitudeImportance(p=1),
        pruning_ratio=sparsity,
        ignored_layers=[classifier(model)],
    )
    pruner.step()
    seconds = time.process_time() - start
    call(model, inputs)
    return {"status": "runs", "ratio": counted(model) / before, "seconds": seconds}


def kirigami(model, inputs, sparsity):
    """Greedy selection by L1 magnitude under a local channel ratio; inputs and outputs protected."""
    from torch_kirigami import DependencyGraph
    from torch_kirigami.pruning import ChannelRatio, Greedy, GroupMagnitude, Pruner

    before = counted(model)
    call(model, inputs)
    start = time.process_time()
    graph = (
        DependencyGraph.build(model, kwargs=inputs)
        if isinstance(inputs, dict)
        else DependencyGraph.build(model, args=(inputs,))
    )
    pruner = Pruner(model, graph=graph)
    pruner.prune(
        pruner.discover_candidates(), budget=ChannelRatio(sparsity), strategy=Greedy(GroupMagnitude(p=1))
    )
    seconds = time.process_time() - start
    call(model, inputs)
    return {"status": "runs", "ratio": counted(model) / before, "seconds": seconds}


TOOLS = {
    "ours": ours,
    "torch-pruning": torch_pruning,
    "torch-kirigami": kirigami,
    "ours-afterwards": zoo_after.afterwards,
}
