"""How each tool prunes, and what its result is worth: verdicts (word, text) of `compatibility.py`.

The oracle looks at the two networks alone, never at what a tool says of its success.
"""

import contextlib
import copy
import importlib
import linecache
import re
import sys
import types
from collections.abc import Mapping

import torch
from compatibility_networks import written
from torch import nn

SAME = 1e-4
"""Outputs are the same if they differ by less than this share of the largest; a live channel changes more."""


def import_peers():
    """Import what is installed, before the cells are forked; what is not is left out of the page."""
    import peers

    sys.modules.setdefault("visdom", types.ModuleType("visdom"))  # adv-lib imports it, for pictures alone
    with contextlib.suppress(ImportError):
        peers.import_torchvision()
    for name in MODULES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


MODULES = (
    "secateur.attacks",
    "torch_pruning",
    "foolbox",
    "torchattacks",
    "adv_lib.attacks",
    "art.attacks.evasion",
    "art.estimators.classification",
)


def invoke(model, inputs):
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def tensors(output):
    """The tensors of an output, whatever holds them."""
    if isinstance(output, torch.Tensor):
        return [output]
    if isinstance(output, Mapping):
        output = list(output.values())
    return [t for part in output for t in tensors(part)] if isinstance(output, (list, tuple)) else []


def sentence(error):
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return re.sub(r"(/[\w.+-]+){2,}/", "…/", (lines[0] if lines else "")[:160])


def failed(error, tool):
    """``refused`` if the tool itself raised, on purpose; ``stops`` if something broke inside of it."""
    if tool == "secateur":
        from secateur import UserError

        if isinstance(error, UserError):
            return "refused", sentence(error)
    else:
        frame = error.__traceback__
        while frame.tb_next:
            frame = frame.tb_next
        home = frame.tb_frame.f_globals.get("__name__", "").partition(".")[0]
        line = linecache.getline(frame.tb_frame.f_code.co_filename, frame.tb_lineno).strip()
        if home in PACKAGES[tool].split() and line.startswith(("raise", "assert")) and sentence(error):
            return "refused", sentence(error)
    return "stops", f"{type(error).__name__}: {sentence(error)}"


PACKAGES = {
    "torch-pruning": "torch_pruning",
    "foolbox": "foolbox eagerpy",
    "torchattacks": "torchattacks",
    "adv-lib": "adv_lib",
    "ART": "art",
}


def secateur_prune(model, task, example):
    import secateur

    report = secateur.prune(model, example, **{"criterion": "l1", "sparsity": 0.5, **task.ours})
    return " ".join((*report.notes, *report.changed_by_design))


def torch_pruning(model, task, example):
    import torch_pruning as tp

    importance = tp.importance.GroupMagnitudeImportance(p=1, group_reduction="first")
    if task.data is not None:
        importance = tp.importance.GroupTaylorImportance()
    settings = {**task.theirs, "ignored_layers": [model.get_submodule(name) for name in task.last]}
    pruner = tp.pruner.MagnitudePruner(model, example, importance=importance, pruning_ratio=0.5, **settings)
    if task.data is not None:
        x, y = task.data
        nn.functional.cross_entropy(model(x)["logits"], y).backward()
    pruner.step()
    return ""


PRUNERS = {"secateur": secateur_prune, "torch-pruning": torch_pruning}


def size(model):
    return sum(p.numel() for p in model.parameters()) + sum(b.numel() for b in model.buffers())


def left_dead(model, address):
    """How many channels are still written by zeros alone."""
    return int(sum(t.abs().flatten(1).sum(1) for t in written(model, address)).eq(0).sum())


def trained(model, task):
    """One training step on a batch of another size."""
    model.train()
    loss = sum(t.sum() for t in tensors(invoke(model, task.inputs(task.example_size + 1))) if t.requires_grad)
    if task.trains:
        loss.backward()
    model.eval()


def mask_others(dense, pruned):
    """Zero what ``dense`` answers in the rows that ``pruned`` no longer has."""
    kept = torch.cdist(pruned.weight, dense.weight).min(1)
    if kept.values.max() > SAME:
        raise AssertionError("its rows are none of those it had")
    mask = torch.zeros(len(dense.weight)).scatter(0, kept.indices, 1)
    dense.register_forward_hook(lambda module, given, answer: answer * mask)


def outputs(model, task):
    torch.manual_seed(5)
    inputs = (task.fresh or task.inputs)(3)
    with torch.no_grad():
        return [t.double() for t in tensors(invoke(model, inputs))]


def apart(dense, pruned):
    """The largest difference of two lists of outputs, as a share of the largest output, or in words."""
    if [t.shape for t in dense] != [t.shape for t in pruned]:
        return (
            f"outputs of other shapes: {[list(t.shape) for t in dense]} → {[list(t.shape) for t in pruned]}"
        )
    worst = max(
        float((a - b).abs().max() / a.abs().max().clamp(min=1e-9)) for a, b in zip(dense, pruned, strict=True)
    )
    return worst if worst <= SAME else f"outputs differ by {100 * worst:.2g} % of the largest"


def judge_pruned(task, tool, prune):
    """Prune by ``prune(model, task, example)``, and compare with the dense network that was given."""
    model = task.model
    dense = copy.deepcopy(model)
    trained(copy.deepcopy(dense), task)
    if not all(t.isfinite().all() for t in outputs(copy.deepcopy(dense), task)):
        raise AssertionError("the dense network answers with what is no number")
    torch.manual_seed(1)
    example = task.inputs(task.example_size) if task.example is None else task.example
    invoke(copy.deepcopy(dense), example)
    try:
        told = prune(model, task, example)
    except Exception as error:
        return failed(error, tool)
    if task.unmoved and not torch.equal(dense.get_buffer(task.unmoved), model.get_buffer(task.unmoved)):
        old, new = (m.get_buffer(task.unmoved).tolist() for m in (dense, model))
        return "wrong", f"the buffer `{task.unmoved}` went from {old} to {new}"
    if size(model) == size(dense):
        return "whole", "nothing was removed"
    model.eval()
    try:
        if task.rows:
            mask_others(dense.get_submodule(task.rows), model.get_submodule(task.rows))
        if task.prepare:
            task.prepare(dense), task.prepare(model)
        difference = apart(outputs(dense, task), outputs(model, task))
        if isinstance(difference, str):
            if task.told and task.told in told:
                return "told", f"{difference}, and the report names {task.told}"
            return "wrong", difference
        where = "in training"
        trained(model, task)
    except Exception as error:
        where = locals().get("where", "afterwards")
        if task.told and task.told in told:
            return "told", f"the other branch no longer fits, and a note names `{task.told}`"
        return "wrong", f"{where}, {type(error).__name__}: {sentence(error)}"
    whole = [group[0] for group in task.groups if any(left_dead(model, address) for address in group)]
    if whole:
        done = len(task.groups) - len(whole)
        return "part", f"{done} of {len(task.groups)} layers; left whole: {', '.join(whole)}"
    return "works", ""
