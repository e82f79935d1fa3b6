"""From a recorded forward pass to a dependency graph: rules carry the labels through the tape."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from secateur.errors import UserError
from secateur.graph.atoms import Atoms, Reason
from secateur.graph.dependency import DependencyGraph, InputSpec, input_specs
from secateur.graph.groups import build_groups, lone_channels
from secateur.graph.heads import are_heads, as_wholes, attention_heads, check_heads
from secateur.graph.labels import Factor, IntArray, Marks, chunks, columns_last, reshape
from secateur.graph.ops import Does, operations
from secateur.graph.rules import Result, find, pointwise
from secateur.graph.rules.broadcasting import PICKS
from secateur.graph.trace.recorder import record
from secateur.graph.trace.tape import Call, Ref, Tape, mutates
from secateur.graph.trace.validation import check_inputs, check_model, refuse_randomness
from secateur.text import first_line

_QUIET, _PARTS = operations(Does.QUIET), operations(Does.PART)


@dataclass
class Tracer:
    """The state that rules see: atoms, the labels of every value, and which calls depend on the selection."""

    tape: Tape
    atoms: Atoms = field(default_factory=Atoms)
    marks: dict[int, Marks] = field(default_factory=dict)
    statistics: set[int] = field(default_factory=set)
    position: int = 0
    whole: IntArray | None = None

    def of(self, ref: Ref) -> Marks:
        """Labels of an argument."""
        return self.marks[ref.id]

    def operands(self, call: Call, *names: str) -> list[Marks]:
        """Labels of the tensors among the arguments: of these names, where given, or of all."""
        if not names:
            return [self.marks[number] for number in call.refs]
        found = [call.argument(name) for name in names]
        flat = [item for one in found for item in (one if isinstance(one, (list, tuple)) else [one])]
        return [self.marks[ref.id] for ref in flat if isinstance(ref, Ref)]

    def shape(self, number: int | None) -> tuple[int, ...]:
        """Shape of a value of the dense run."""
        return self.tape.values[number].shape if number is not None else ()

    def statistic(self, call: Call) -> None:
        """The values of this call depend on which channels exist, not only on those it computes."""
        self.statistics.add(self.position)

    def freeze_all(self, call: Call, why: str) -> None:
        """Freeze every label that reaches this call."""
        for number in call.refs:
            for factor in self.marks[number].factors:
                self.atoms.freeze(factor.atoms, why)

    def reshaped(self, marks: Marks, shape: tuple[int, ...]) -> Marks:
        """Labels after a row-major reshape; new joint factors must keep equal rows."""
        pieces = chunks(marks.shape, shape)
        factors = []
        for factor in marks.factors:
            factor = self._in_order(factor, [before for before, _ in pieces])
            new = reshape(factor, marks.shape, shape)
            if new is None:
                self.atoms.freeze(factor.atoms, PICKS)
                continue
            if (new.rows and not factor.rows) or (new.rows and len(new.rows) != len(factor.rows)):
                if self.whole is not None and are_heads(new, self.whole):
                    new = as_wholes(self.atoms, new)
                if new.rows:
                    self.atoms.equal_rows(columns_last(new))
            factors.append(new)
        free = [False] * len(shape)
        for before, after in pieces:
            if all(marks.free[dim] or marks.shape[dim] == 1 for dim in before):
                for dim in after:
                    free[dim] = shape[dim] > 1
        return Marks(shape, tuple(factors), tuple(free), marks.weight)

    def _in_order(self, factor: Factor, merged: list[range]) -> Factor:
        """Rows that a merge would put inside the column must choose the same columns."""
        for dims in merged:
            if factor.column in dims:
                inner = [dim for dim in factor.rows if dim in dims and dim > factor.column]
                if inner:
                    return Factor(self.atoms.merge(factor.atoms, inner), factor.column)
        return factor


def trace(
    model: nn.Module, example_inputs: Any, *, heads: str = "width", logits: str | int | None = None
) -> DependencyGraph:
    """Find out which channels of a model can only be removed together.

    The model runs once, in eval mode, without gradients; its parameters, buffers, modes and hooks are as
    before afterwards.

    Args:
        model: any module that runs.
        example_inputs: a tensor, a tuple of positional or a dict of keyword arguments.
        heads: what goes of attention: ``width``, equally many channels of every head, or ``whole`` heads.
        logits: the name or place of one of several outputs (a key, a field, an index): it keeps its shape
            and is what proofs compare; the others may lose channels. By default every output keeps its shape.

    Raises:
        UserError: the model fails on these inputs, is random in eval mode, gives no tensor (of that name),
            has no heads or no weights, or the inputs hold no numbers or NaN.
    """
    check_model(model)
    check_inputs(example_inputs)
    check_heads(heads)
    try:
        tape, _ = record(model, example_inputs, logits=logits)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"the model fails on the example inputs: {type(error).__name__}: {first_line(error)}",
            hint="pass inputs of the shape and type the model expects",
        ) from error
    refuse_randomness(tape)
    tracer = Tracer(tape)
    used = propagate(tracer, model)
    if heads == "whole":
        tracer = Tracer(tape, whole=attention_heads(tape, tracer.marks, tracer.atoms.size))
        propagate(tracer, model)
    if not parameter_names(tape) <= used:
        used |= _couple_training(model, example_inputs, tracer)
    freeze_unused(tracer, used)
    return build_graph(model, tracer, input_specs(example_inputs), logits)


def build_graph(
    model: nn.Module, tracer: Tracer, spec: tuple[InputSpec, ...], logits: str | int | None = None
) -> DependencyGraph:
    """Collect components into groups."""
    groups, ties, frozen = build_groups(tracer.atoms)
    return DependencyGraph(
        model=model,
        inputs=spec,
        groups=groups,
        ties=ties,
        frozen=(*frozen, *lone_channels(model)),
        tape=tracer.tape,
        marks=tracer.marks,
        statistics=frozenset(tracer.statistics),
        atoms=tracer.atoms,
        whole=tracer.whole,
        logits=logits,
    )


def parameter_names(tape: Tape) -> set[str]:
    """Names of all parameters."""
    return {value.name for value in tape.values if value.kind == "parameter"}


def _couple_training(model: nn.Module, example_inputs: Any, tracer: Tracer) -> set[str]:
    """Couple what only runs in training (auxiliary heads): one pass in train mode, its effects undone.

    Returns the names of the parameters that it used; none if the model cannot run in train mode like this.
    """
    try:
        with torch.random.fork_rng():
            tape, _ = record(model, example_inputs, training=True)
    except Exception:
        # A model that cannot run like this in training has nothing to add; its unused parts stay frozen.
        return set()
    return propagate(Tracer(tape, tracer.atoms, whole=tracer.whole), model)


def freeze_unused(tracer: Tracer, used: set[str]) -> None:
    """Freeze the parameters that did not run."""
    tracer.atoms.here = Reason("")
    for number, value in enumerate(tracer.tape.values):
        if value.kind in {"parameter", "buffer"} and value.name not in used:
            for factor in tracer.marks[number].factors:
                tracer.atoms.freeze(factor.atoms, "is not used in the forward pass")


def propagate(tracer: Tracer, model: nn.Module) -> set[str]:
    """Carry labels through the tape, and freeze what reaches the outputs; returns the parameters used."""
    tape = tracer.tape
    kernels = {
        f"{name}.weight" if name else "weight"
        for name, module in model.named_modules()
        if isinstance(module, nn.modules.conv._ConvNd)
    }
    used = {number for call in tape.calls for number in call.refs}
    for number, value in enumerate(tape.values):
        if value.kind in {"parameter", "buffer"}:
            tracer.marks[number] = _leaf(tracer, number, value.name in kernels)
        elif value.kind in {"input", "constant"}:
            tracer.marks[number] = Marks(value.shape)
    for position, call in enumerate(tape.calls):
        tracer.position = position
        tracer.atoms.here = _place(call)
        step(tracer, call)
    makers = {number: call for call in tape.calls for number in call.outputs}
    for number in tape.outputs:
        tracer.atoms.here = _place(makers[number]) if number in makers else Reason("")
        for factor in tracer.marks[number].factors:
            tracer.atoms.freeze(factor.atoms, "is an output of the model")
    return {tape.values[number].name for number in used if tape.values[number].name}


def _place(call: Call) -> Reason:
    return Reason("", call.name.removeprefix("aten::"), call.module, call.source)


def _leaf(tracer: Tracer, number: int, kernel: bool) -> Marks:
    value = tracer.tape.values[number]
    factors = []
    if value.dtype.is_floating_point:
        for dim, size in enumerate(value.shape):
            if size > 1 and not (kernel and dim > 1):
                shape = [1] * len(value.shape)
                shape[dim] = size
                factors.append(Factor(tracer.atoms.axis(value.name, dim, size).reshape(shape), dim))
    return Marks(value.shape, tuple(factors), (), value.kind == "parameter")


def step(tracer: Tracer, call: Call) -> None:
    """Apply the rule of one call; unknown operations freeze what reaches them."""
    numbers = [number for number in call.outputs if number is not None]
    rule = find(call.name)
    if rule is None and torch.Tag.pointwise in call.op.tags:
        rule = pointwise.elementwise
    results: Result = None
    if rule is not None and numbers:
        results = rule(tracer, call)
    elif call.name not in _QUIET or numbers:
        tracer.freeze_all(call, "passes through an operation that no rule knows")
    listed = list(results) if isinstance(results, tuple) else [results]
    listed += [None] * (len(call.outputs) - len(listed))
    for number, marks in zip(call.outputs, listed, strict=False):
        if number is not None:
            shape = tracer.shape(number)
            tracer.marks[number] = marks if marks is not None and marks.shape == shape else Marks(shape)
            if marks is not None and marks.shape != shape:
                tracer.freeze_all(call, "has labels that do not fit its result")
    if mutates(call.op):
        _mutation(tracer, call)


def _mutation(tracer: Tracer, call: Call) -> None:
    """Writing labelled values into a view of unlabelled memory hides them from the owner: freeze them.

    What has no labels gives the positions of its owner a meaning.
    """
    for number in [number for number in call.outputs if number is not None]:
        root = tracer.tape.values[number].root
        target = next((ref for ref in call.refs if tracer.tape.values[ref].root == root), None)
        owner, written = tracer.marks.get(root), tracer.marks[number]
        if target is None or owner is None or tracer.marks[target].factors:
            continue
        if not written.factors:
            same = owner.shape == written.shape
            free = tuple(a and b for a, b in zip(owner.free, written.free, strict=True)) if same else ()
            tracer.marks[root] = Marks(owner.shape, owner.factors, free, owner.weight)
        elif owner.shape != written.shape:
            if _is_slice(tracer.tape, target, root) and _spans(written, owner.shape):
                tracer.marks[root] = Marks(owner.shape, written.factors, (), written.weight)
                continue
            for factor in written.factors:
                tracer.atoms.freeze(factor.atoms, "is written into part of another tensor")
            tracer.marks[root] = Marks(owner.shape, owner.factors, (False,) * len(owner.shape))


def _is_slice(tape: Tape, number: int, root: int) -> bool:
    """Whether a view is a part of its owner whose dimensions are the owner's."""
    makers = {out: call for call in tape.calls for out in call.outputs}
    while number != root:
        call = makers.get(number)
        if call is None or call.name not in _PARTS:
            return False
        number = call.refs[0]
    return True


def _spans(written: Marks, shape: tuple[int, ...]) -> bool:
    """Whether what was written holds all channels along the dimensions that have them."""
    return all(written.shape[dim] == shape[dim] for factor in written.factors for dim in factor.support)
