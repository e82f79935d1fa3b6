"""Whether the pruned model runs in training mode, where its code may read widths that eval mode does not.

Only models whose own classes read ``training`` are run: torch's layers are the same in both modes but for
normalisation and dropout, which fit any width.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from secateur.graph.dependency import DependencyGraph
from secateur.graph.trace.example_inputs import random_inputs
from secateur.graph.trace.named_tensors import named_tensors
from secateur.graph.trace.recorder import Recorder, record
from secateur.proof.smaller_inputs import on_smaller_inputs
from secateur.repair.candidates import numbers_in, owners, with_number
from secateur.repair.stated_widths import codes_of, names_of
from secateur.surgery.cut import temporarily_cut, without_indices
from secateur.surgery.plan import Plan, Repair
from secateur.text import first_line

_TRIES = 40


@dataclass(frozen=True)
class Trouble:
    """Where a run in training mode failed: after how many operations, in which module, and why."""

    progress: int
    module: str
    why: str


def fit_training(graph: DependencyGraph, plan: Plan) -> tuple[Plan, dict[str, str]]:
    """The plan with the attributes that training needs, or groups to leave whole instead, with the reason."""
    kinds = {type(module) for module in graph.model.modules() if _is_own(module)}
    codes = [codes_of(kind) for kind in kinds]
    # A constructor may copy the mode of another module; it does not run again.
    reading = (names_of(code) for own in codes for name, code in own.items() if name != "__init__")
    if not any("training" in names for names in reading):
        return plan, {}
    trouble = _run(graph, plan)
    # A model that fails before surgery as well needs other inputs in training, such as labels.
    if trouble is None or _run(graph, replace(plan, cuts=(), repairs=())) is not None:
        return plan, {}
    while trouble is not None:
        for repair in _candidates(graph, plan, trouble.module):
            better = _with(plan, repair)
            after = _run(graph, better)
            if after is None or after.progress > trouble.progress:
                plan, trouble = better, after
                break
        else:
            return plan, _blocked(graph, plan, trouble)
    return plan, {}


def _run(graph: DependencyGraph, plan: Plan) -> Trouble | None:
    """How a run of the model's own code in training mode ends; the model is left as it was."""
    model = graph.model
    own = [module for module in model.modules() if _is_own(module)]

    def train(module: nn.Module, inputs: Any) -> None:
        # Layers of torch stay as in eval mode: normalisation refuses single samples in training.
        for part in own:
            part.training = True

    dense = {name: tensor.data.clone() for name, tensor in named_tensors(model).items()}
    # Searched on the whole model: the one that is cut runs other shapes, and the answer is kept.
    inputs = on_smaller_inputs(graph).inputs
    recorder: Recorder | None = None
    with temporarily_cut(model, plan, without_indices(dense, plan.removed())):
        recorder = Recorder(model, sources=False)
        start = model.register_forward_pre_hook(train)
        try:
            device = next(iter(dense.values())).device
            record(model, random_inputs(inputs, torch.Generator().manual_seed(0), device), recorder)
        except Exception as error:
            # The model's code may raise anything on smaller shapes; that is the finding.
            why = f"{type(error).__name__}: {first_line(error)}"
            return Trouble(len(recorder.tape.calls), recorder.stack[-1], why)
        finally:
            start.remove()
    return None


def _is_own(module: nn.Module) -> bool:
    return not type(module).__module__.startswith("torch.")


def _with(plan: Plan, repair: Repair) -> Plan:
    key = repair.module, repair.attribute
    kept = [old for old in plan.repairs if (old.module, old.attribute) != key]
    return replace(plan, repairs=(*kept, repair))


def _candidates(graph: DependencyGraph, plan: Plan, module: str) -> Iterator[Repair]:
    """Attributes of the module that failed, and of its owners, that equal a size which changes inside."""
    modules = dict(graph.model.named_modules())
    tries = 0
    for owner in owners(module):
        # A module without parameters works on those of the modules around it.
        sizes = next((found for around in owners(owner) if (found := _changes(plan, around))), {})
        for attribute, index, value in numbers_in(modules[owner]):
            for new in sizes.get(value, []):
                tries += 1
                if tries > _TRIES:
                    return
                before = modules[owner].__dict__[attribute]
                yield Repair(owner, attribute, before, with_number(before, index, new))


def _changes(plan: Plan, module: str) -> dict[int, list[int]]:
    """What each size of the parameters and buffers inside a module becomes, where it changes."""
    start, after = f"{module}." if module else "", plan.shapes_after()
    sizes: dict[int, list[int]] = {}
    for name, shape in plan.shapes.items():
        for old, new in zip(shape, after[name], strict=True) if name.startswith(start) else ():
            if old != new and new not in sizes.setdefault(old, []):
                sizes[old].append(new)
    return {old: new for old, new in sizes.items() if new}


def _blocked(graph: DependencyGraph, plan: Plan, trouble: Trouble) -> dict[str, str]:
    """The group to leave whole; all with parameters in the failing module, or around it, if no single one."""
    planned = {cut.group for cut in plan.cuts}
    why = f"{trouble.module or 'the model'} fails in training mode after surgery: {trouble.why}"
    found: list[str] = []
    for owner in owners(trouble.module):
        start = f"{owner}." if owner else ""
        found = [
            group.name
            for group in graph.groups
            if group.name in planned and any(member.tensor.startswith(start) for member in group.members)
        ]
        if found:
            break
    for name in found if len(found) > 1 else ():
        after = _run(graph, plan.without({name}, why))
        if after is None or after.progress > trouble.progress:
            return {name: why}
    return dict.fromkeys(found or sorted(planned), why)
