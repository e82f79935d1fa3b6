"""``trace``: from a model that runs to its dependency graph."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from secateur.errors import UserError
from secateur.graph.atoms import Reason
from secateur.graph.dependency import DependencyGraph
from secateur.graph.groups import build_groups, lone_channels
from secateur.graph.heads import attention_heads, check_heads
from secateur.graph.propagation import Tracer, propagate
from secateur.graph.reading import (
    freeze_buffers_alone,
    freeze_numbers,
    freeze_unread,
    idle_parts,
)
from secateur.graph.trace.decisions import Decisions, deciding_calls
from secateur.graph.trace.example_inputs import input_specs, is_given
from secateur.graph.trace.input_tree import tensors_in
from secateur.graph.trace.recorder import Recorder, record
from secateur.graph.trace.tape import Tape
from secateur.graph.trace.validation import check_inputs, check_model, refuse_randomness
from secateur.text import first_line


def trace(
    model: nn.Module, example_inputs: Any, *, heads: str = "width", logits: str | int | None = None
) -> DependencyGraph:
    """Find out which channels of a model can only be removed together.

    The model runs once, in eval mode, without gradients. Its parameters, buffers, modes and hooks are as
    before afterwards. Channels that reach an operation without a rule are frozen, never guessed.

    Args:
        model: any module that runs.
        example_inputs: a tensor, a tuple (or list) of positional or a dict (any mapping) of keyword
            arguments. Anything else is one argument: a named tuple, a dataclass, a packed sequence, an
            object that holds tensors; ``({...},)`` is one dict, ``([...],)`` one list. Flags, numbers,
            strings and None keep their places. Proofs draw floating-point tensors anew; integers, flags
            and masks (two values of which one is zero, or minus infinity) stay as given.
        heads: what to prune in attention: ``width``, equally many channels of every head, or ``whole``
            heads.
        logits: which of several outputs proofs compare (a key, a field, an index); it keeps its shape, and
            the other outputs may lose channels. By default every output keeps its shape.

    Raises:
        UserError: the model fails on these inputs, is random in eval mode, returns no tensor (of that name),
            has no heads or no weights, or the inputs are empty or hold NaN.

    >>> import torch
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> graph = trace(model, torch.zeros(1, 4))
    >>> for group in graph.groups:
    ...     print(group)
    0.weight[0]: 3 channels in 0.weight[0], 0.bias[0], 2.weight[1]
    """
    check_model(model)
    check_inputs(example_inputs)
    check_heads(heads)
    try:
        tape, _ = record(model, example_inputs, logits=logits)
        kept = zip(tape.inputs, tensors_in(example_inputs), strict=True)
        if places := deciding_calls(tape, [number for number, tensor in kept if is_given(tensor.detach())]):
            recorder = Recorder(model)
            recorder.decisions = Decisions(places)
            tape, _ = record(model, example_inputs, recorder, logits=logits)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"the model fails on the example inputs: {type(error).__name__}: {first_line(error)}",
            hint=_how_to_pass(example_inputs),
        ) from error
    refuse_randomness(tape)
    tracer = Tracer(tape)
    used = propagate(tracer, model)
    if heads == "whole":
        # Heads are where the channels of attention end up, so labels are carried along twice.
        tracer = Tracer(tape, whole=attention_heads(tape, tracer.marks, tracer.atoms.size))
        propagate(tracer, model)
    tracers = [tracer]
    if not _with_channels(tape) <= used:
        second, in_training = _couple_training(model, example_inputs, tracer, logits)
        used |= in_training
        tracers += second
    _freeze_unused(tracer, used)
    numbers = freeze_numbers(tracer)
    freeze_unread(tracers)
    freeze_buffers_alone(tape, tracer.atoms)
    groups, ties, frozen = build_groups(tracer.atoms)
    return DependencyGraph(
        model=model,
        inputs=input_specs(example_inputs),
        groups=groups,
        ties=ties,
        frozen=(*frozen, *lone_channels(model)),
        tape=tape,
        marks=tracer.marks,
        statistics=frozenset(tracer.statistics),
        atoms=tracer.atoms,
        whole=tracer.whole,
        logits=logits,
        idle=idle_parts(model, used | numbers),
        numbers=numbers,
        example=example_inputs if tape.decides() else None,
    )


def _how_to_pass(example_inputs: Any) -> str:
    """What to try after the model failed on its inputs."""
    hint = "pass inputs of the shape and type the model expects"
    if isinstance(example_inputs, (list, Mapping)):
        form = "([...],) for one argument that is a list"
        if isinstance(example_inputs, Mapping):
            form = "({...},) for one argument that is a dict"
        hint += f"; write {form}"
    return hint


def _with_channels(tape: Tape) -> set[str]:
    """The parameters, and the buffers of numbers that may have channels: averages, prototypes."""
    return {
        value.name
        for value in tape.values
        if value.kind == "parameter"
        or (value.kind == "buffer" and value.dtype.is_floating_point and max(value.shape, default=1) > 1)
    }


def _couple_training(
    model: nn.Module, example_inputs: Any, tracer: Tracer, logits: str | int | None
) -> tuple[list[Tracer], set[str]]:
    """Couple the parts that only run in training (auxiliary heads); the effects of that pass are undone.

    Returns the labels of that pass and the names of the parameters that it used; none if the model cannot
    run in train mode like this.
    """
    # In training a model may return something else, with no output of that name.
    for name in dict.fromkeys((logits, None)):
        try:
            with torch.random.fork_rng():
                tape, _ = record(model, example_inputs, logits=name, training=True)
            break
        except Exception:
            continue
    else:
        # A model that cannot run like this in training has nothing to add; its unused parts stay frozen.
        return [], set()
    second = Tracer(tape, tracer.atoms, whole=tracer.whole)
    return [second], propagate(second, model)


def _freeze_unused(tracer: Tracer, used: set[str]) -> None:
    """Freeze the parameters that did not run: nothing is known about them."""
    tracer.atoms.here = Reason("")
    for number, value in enumerate(tracer.tape.values):
        if value.kind in {"parameter", "buffer"} and value.name not in used:
            for factor in tracer.marks[number].factors:
                tracer.atoms.freeze(factor.atoms, "is not used in the forward pass")
