"""Carry labels through a tape: each call's rule gives the labels of its results.

Channels that reach an output, an unknown operation, or part of another tensor's memory are frozen.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import nn

from secateur.graph.atoms import Atoms, Reason
from secateur.graph.consumers import channel_dim
from secateur.graph.heads import are_heads, as_wholes
from secateur.graph.labels import Factor, IntArray, Marks, Shape, along_dim, chunks, columns_last, reshape
from secateur.graph.ops import Does, operations
from secateur.graph.outputs import why_compared
from secateur.graph.quantised_scales import couple_scales
from secateur.graph.rules import Flags, Result, find, pointwise, shape_ops
from secateur.graph.rules.broadcasting import PICKS
from secateur.graph.states import States, first_states
from secateur.graph.trace.computed_weights import computed_weights, orthogonal_weights, spectral_vectors
from secateur.graph.trace.decisions import choosing_calls
from secateur.graph.trace.named_tensors import scripted_modules
from secateur.graph.trace.tape import Call, Ref, Tape, mutates
from secateur.graph.written_parts import in_owner, spans
from secateur.text import first_line

ORTHOGONAL = "belongs to an orthogonal weight, whose rows all depend on each other"
FAILED = "reaches an operation whose rule failed"
_QUIET = operations(Does.QUIET)


@dataclass
class Tracer:
    """The labels of every value so far; what rules see of it is ``RuleContext``.

    ``position`` is the number of the call whose rule runs; ``statistics`` are the calls that depend on which
    channels there are; ``whole`` is the head of each atom, where heads go as wholes; ``states`` is what fills
    stand for, found by ``propagate``.
    """

    tape: Tape
    atoms: Atoms = field(default_factory=Atoms)
    marks: dict[int, Marks] = field(default_factory=dict)
    statistics: set[int] = field(default_factory=set)
    position: int = 0
    whole: IntArray | None = None
    states: States | None = None
    orthogonal: tuple[str, ...] = ()

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

    def shape(self, number: int | None) -> Shape:
        """Shape of a value of the dense run."""
        return self.tape.values[number].shape if number is not None else ()

    def is_mask(self, ref: Ref) -> bool:
        """Whether an argument holds true and false, and as an index picks from all of its dimensions."""
        return self.tape.values[ref.id].dtype in {torch.bool, torch.uint8}

    def picked(self, ref: Ref) -> Flags | None:
        """What a mask by which a call picks holds, if the run noted it."""
        found = self.tape.picked.get(ref.id)
        return None if found is None else found.cpu().numpy()

    def is_read(self, number: int | None) -> bool:
        """Whether a later operation, or the caller of the model, reads this result."""
        return number in self._read

    @cached_property
    def _read(self) -> set[int]:
        return self.tape.read()

    def state(self, operand: int) -> IntArray | None:
        """The labels that a fill among the operands of this concatenation stands for, if that is known."""
        return (self.states or {}).get((self.position, operand))

    def channel_dim(self, number: int | None, split: range) -> int | None:
        """Which of the dimensions that one was split into the operations behind take as channels, if any."""
        return None if number is None else channel_dim(self.tape, self._read_by, number, split)

    @cached_property
    def _read_by(self) -> dict[int, list[int]]:
        return self.tape.readers()

    def statistic(self, call: Call) -> None:
        """The values of this call depend on which channels exist, not only on those it computes."""
        self.statistics.add(self.position)

    def freeze_all(self, call: Call, why: str) -> None:
        """Freeze every label that reaches this call."""
        for number in call.refs:
            for factor in self.marks[number].factors:
                self.atoms.freeze(factor.atoms, why)

    def reshaped(self, marks: Marks, shape: Shape) -> Marks:
        """Labels after a row-major reshape; a column that becomes rows and columns keeps equal rows."""
        pieces = chunks(marks.shape, shape)
        factors = []
        for factor in marks.factors:
            factor = self._in_order(factor, [before for before, _ in pieces])
            new = reshape(factor, marks.shape, shape)
            if new is None:
                self.atoms.freeze(factor.atoms, PICKS)
                continue
            # Channels that become heads × width, or heads that are merged, tie the rows' counts.
            if new.rows and len(new.rows) != len(factor.rows):
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
        """Join rows that a merge would put inside the column: all of them choose the same columns."""
        # In channels × positions, a channel's positions lie side by side and stay or go with it.
        for dims in merged:
            if factor.column in dims:
                inner = [dim for dim in factor.rows if dim in dims and dim > factor.column]
                if inner:
                    return Factor(self.atoms.merge(factor.atoms, inner), factor.column)
        return factor


def propagate(tracer: Tracer, model: nn.Module) -> set[str]:
    """Carry labels through the tape, and freeze what reaches the outputs; returns the parameters used."""
    tape = tracer.tape
    if tracer.states is None:
        tracer.states = first_states(tape, lambda: _trial(tracer, model))
    # Positions of a kernel are no channels: a 3×3 kernel stays 3×3.
    kernels = {
        f"{name}.weight" if name else "weight"
        for name, module in model.named_modules()
        if isinstance(module, nn.modules.conv._ConvNd)
    }
    computed = computed_weights(model).values()
    tracer.orthogonal = tuple(one.inside for one in orthogonal_weights(model))
    # Masks and vectors of a norm are parts of a weight: they stay whole where weights do.
    parts = {source for one in computed for source in one.sources}
    vectors = spectral_vectors(model)
    used = {number for call in tape.calls for number in call.refs}
    points = {ref.id for call in tape.calls if isinstance(ref := call.argument("zero_point"), Ref)}
    for number, value in enumerate(tape.values):
        if value.kind in {"parameter", "buffer"}:
            marks = _fresh_labels(tracer, number, value.name in kernels, number in points)
            if value.name in parts:
                marks = replace(marks, weight=True, whole=value.name in vectors)
            tracer.marks[number] = marks
        elif value.kind in {"input", "constant"}:
            tracer.marks[number] = Marks(value.shape)
    _freeze_scripted(tracer, model)
    idle = tape.idle()
    for position, call in enumerate(tape.calls):
        tracer.position = position
        tracer.atoms.here = Reason.at(call)
        known = len(tracer.atoms.frozen)
        step(tracer, call)
        if position in idle:
            # What nobody looks at may lose any channel.
            del tracer.atoms.frozen[known:]
    coupled = couple_scales(tape, tracer.atoms, tracer.marks, model)
    for one in computed:
        tracer.atoms.one_role(one.sources)
    makers = {number: call for call in tape.calls for number in call.outputs}
    compared = tape.outputs
    if tape.decided:
        choosing, calls = choosing_calls(tape), tape.calls
        sources = {ref for place in tape.decided if place not in choosing for ref in calls[place].refs}
        compared = tuple(number for number in compared if number in sources or number in tape.returned)
    for number in compared:
        tracer.atoms.here = Reason.at(makers[number]) if number in makers else Reason("")
        for factor in tracer.marks[number].factors:
            tracer.atoms.freeze(factor.atoms, why_compared(tape, number))
    return coupled | {tape.values[number].name for number in used if tape.values[number].name}


def _trial(tracer: Tracer, model: nn.Module) -> dict[int, Marks]:
    """The labels of all values, with atoms of the same numbers that nobody keeps."""
    trial = Tracer(tracer.tape, whole=tracer.whole, states={})
    propagate(trial, model)
    return trial.marks


def _freeze_scripted(tracer: Tracer, model: nn.Module) -> None:
    """Keep the parameters of TorchScript modules whole: their code and settings cannot be changed."""
    inside = tuple(f"{name}." for name in scripted_modules(model))
    tracer.atoms.here = Reason("")
    for number, value in enumerate(tracer.tape.values):
        if inside and value.kind in {"parameter", "buffer"} and value.name.startswith(inside):
            for factor in tracer.marks[number].factors:
                tracer.atoms.freeze(factor.atoms, "belongs to a TorchScript module")


def _fresh_labels(tracer: Tracer, number: int, kernel: bool, point: bool = False) -> Marks:
    """A label for each index of each dimension of a parameter or buffer, but for positions of a kernel.

    Integers have none, but for the zero points of fake quantisation, which go with its scales.
    """
    value = tracer.tape.values[number]
    factors = [
        along_dim(tracer.atoms.axis(value.name, dim, size), dim, len(value.shape))
        for dim, size in enumerate(value.shape)
        if size > 1 and not (kernel and dim > 1) and (point or value.dtype.is_floating_point)
    ]
    return Marks(value.shape, tuple(factors), (), value.kind == "parameter")


def step(tracer: Tracer, call: Call) -> None:
    """Apply the rule of one call; an operation without a rule freezes the channels that reach it."""
    rule = find(call.name)
    # torch says itself which operations work element by element.
    if rule is None and torch.Tag.pointwise in call.op.tags:
        rule = pointwise.elementwise
    inside = any(f"{call.module}.".startswith(f"{name}.") for name in tracer.orthogonal)
    if inside and rule is shape_ops.triangle:
        # An orthogonal weight is made of a triangle by way of all of its rows.
        rule = None
    results: Result = None
    if rule is not None and call.results:
        try:
            results = rule(tracer, call)
        except Exception as error:
            # What cannot be said about a call is not guessed, whatever went wrong.
            tracer.freeze_all(call, f"{FAILED} ({type(error).__name__}: {first_line(error)})")
    elif call.name not in _QUIET or call.results:
        tracer.freeze_all(call, ORTHOGONAL if inside else "passes through an operation that no rule knows")
    elastic = _elastic(tracer, call)
    whole = any(tracer.marks[number].whole for number in call.refs)
    listed = list(results) if isinstance(results, (tuple, list)) else [results]
    listed += [None] * (len(call.outputs) - len(listed))
    for number, marks in zip(call.outputs, listed, strict=False):
        if number is not None:
            shape = tracer.shape(number)
            tracer.marks[number] = marks if marks is not None and marks.shape == shape else Marks(shape)
            # A rule that misjudges a shape must not be trusted with its labels either.
            if marks is not None and marks.shape != shape:
                tracer.freeze_all(call, "has labels that do not fit its result")
            if elastic or (whole and shape):
                tracer.marks[number] = replace(tracer.marks[number], elastic=elastic, whole=whole)
    if mutates(call.op):
        _mutation(tracer, call)


def _elastic(tracer: Tracer, call: Call) -> bool:
    """Whether sizes of the results depend on the data: what a mask picks, and what is computed from it."""
    if torch.Tag.dynamic_output_shape in call.op.tags and call.name != "aten::index":
        return True
    if call.name == "aten::index" and any(
        ref is not None and tracer.is_mask(ref) for ref in call.tensors("indices")
    ):
        return True
    return any(tracer.marks[number].elastic for number in call.refs)


def _mutation(tracer: Tracer, call: Call) -> None:
    """Carry labels from a view that was written to on to the tensor that owns its memory.

    Labels that the owner cannot show are frozen. Constants written into a table of zeros make its positions
    differ, so that its dimensions are no longer free.
    """
    for number in call.results:
        root = tracer.tape.values[number].root
        target = next((ref for ref in call.refs if tracer.tape.values[ref].root == root), None)
        owner, written = tracer.marks.get(root), tracer.marks[number]
        if target is None or owner is None or tracer.marks[target].factors:
            continue
        if not written.factors:
            same = owner.shape == written.shape
            free = tuple(a and b for a, b in zip(owner.free, written.free, strict=True)) if same else ()
            tracer.marks[root] = Marks(owner.shape, owner.factors, free, owner.weight)
        elif target != root:
            lifted = in_owner(tracer.tape, target, root, written.factors)
            if lifted is not None and spans(lifted, owner.shape):
                tracer.marks[root] = Marks(owner.shape, lifted, (), written.weight)
                continue
            for factor in written.factors:
                tracer.atoms.freeze(factor.atoms, "is written into part of another tensor")
            tracer.marks[root] = Marks(owner.shape, owner.factors, (False,) * len(owner.shape))
