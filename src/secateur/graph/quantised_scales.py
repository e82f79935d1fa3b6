"""Scales of fake quantisation, one per channel, belong to the channels of the values that are quantised."""

from collections.abc import Mapping

from torch import nn

from secateur.graph.atoms import Atoms, Reason
from secateur.graph.labels import Marks
from secateur.graph.trace.quantisers import channel_dim_of, is_quantiser, scales_of, stands_for
from secateur.graph.trace.tape import Tape


def couple_scales(tape: Tape, atoms: Atoms, marks: Mapping[int, Marks], model: nn.Module) -> set[str]:
    """Join the scales of fake quantisation, one per channel, with the channels; the names of its buffers."""
    found = {name: module for name, module in model.named_modules() if is_quantiser(module)}
    names = frozenset(found)
    for call in tape.calls if names else ():
        if not stands_for(call, names):
            continue
        atoms.here = Reason.at(call)
        module, labels = found[call.module], marks[call.refs[0]]
        dim = channel_dim_of(module, len(labels.shape))
        for factor in labels.along(dim) if dim is not None else ():
            for name in scales_of(module, call.module, labels.shape[factor.column]):
                if factor.support == (dim,):
                    size = labels.shape[factor.column]
                    atoms.union(atoms.axis(name, 0, size), factor.atoms.reshape(-1))
                else:
                    atoms.freeze(factor.atoms, "is quantised by scales of other channels")
    return {f"{name}.{own}" for name, module in found.items() for own, _ in module.named_buffers()}
