"""What each tool does with one model: ours, Torch-Pruning, torch-kirigami; one plain row each.

Seconds are CPU time: the machine may be busy with something else.
"""

import resource
import time

import torch
from torch import nn


def counted(model):
    """How many parameters a model has."""
    return sum(parameter.numel() for parameter in model.parameters())


def call(model, inputs):
    """Run the model without gradients."""
    with torch.no_grad():
        return model(**inputs) if isinstance(inputs, dict) else model(inputs)


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
    plan = secateur.plan(graph, sparsity=sparsity)
    times.append(time.process_time())
    report = secateur.apply(model, plan)
    times.append(time.process_time())
    left = [note for note in report.notes if note.startswith("left whole")]
    return {
        "status": "verified" if report.verified else "unverified",
        "ratio": counted(model) / before,
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
