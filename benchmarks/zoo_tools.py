"""What each tool does with one model: ours, Torch-Pruning, torch-kirigami; one plain row each.

Seconds are CPU time: the machine may be busy with something else.
"""

import resource
import time
from collections import Counter

import torch
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


def floor(model, graph, sparsity):
    """The ratio if every channel could go but those that meet the network's inputs, positions and outputs."""
    fixed = Counter()
    for item in graph.frozen:
        if item.reason.why.startswith(GIVEN):
            fixed.update({axis: len(indices) for axis, indices in item.indices.items()})
    labelled = {str(axis) for axis in graph.atoms.axes}
    left = total = 0
    for name, parameter in model.named_parameters():
        kept = parameter.numel()
        for dim, size in enumerate(parameter.shape):
            axis = f"{name}[{dim}]"
            if axis in labelled:
                kept *= 1 - sparsity * (1 - fixed[axis] / size)
        left, total = left + kept, total + parameter.numel()
    return left / total


def ours(model, inputs, sparsity):
    """Trace, plan and apply with proof."""
    import secateur

    before = counted(model)
    call(model, inputs)
    times = [time.process_time()]
    call(model, inputs)
    times.append(time.process_time())
    graph = secateur.trace(model, inputs)
    times.append(time.process_time())
    lowest = floor(model, graph, sparsity)
    plan = secateur.plan(graph, sparsity=sparsity)
    times.append(time.process_time())
    report = secateur.apply(model, plan)
    times.append(time.process_time())
    left = [note for note in report.notes if note.startswith("left whole")]
    return {
        "status": "verified" if report.verified else "unverified",
        "ratio": counted(model) / before,
        "floor": lowest,
        "seconds": times[4] - times[1],
        "trace": times[2] - times[1],
        "plan": times[3] - times[2],
        "apply": times[4] - times[3],
        "forward": times[1] - times[0],
        "error": report.max_error,
        "gradient_error": report.gradient_error,
        "changed_by_design": len(report.changed_by_design),
        "left_whole": len(left),
        "reason": left[0] if left else "",
        "model_mib": before * 4 / 2**20,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10,
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


TOOLS = {"ours": ours, "torch-pruning": torch_pruning, "torch-kirigami": kirigami}
