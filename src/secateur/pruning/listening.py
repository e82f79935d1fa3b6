"""Activations of layers that are no modules of their own: bare parameters, attention, recurrent cells.

The model is traced on the first images, so that labels say which values carry the channels of a group. Then
it runs on all of them, and these values are read on the way.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from secateur.errors import UserError
from secateur.graph import Group
from secateur.graph.groups import Member
from secateur.graph.labels import IntArray
from secateur.graph.ops import Does, operations
from secateur.graph.propagation import Tracer, propagate
from secateur.graph.trace.computed_weights import computed_as
from secateur.graph.trace.dispatch import Watcher
from secateur.graph.trace.input_tree import call_model
from secateur.graph.trace.isolated_forward import isolated_forward
from secateur.graph.trace.recorder import record
from secateur.graph.trace.tape import Tape, name_of
from secateur.proof.matching import computing_calls
from secateur.text import first_line

_RESHAPES, _COPIES = operations(Does.RESHAPE), operations(Does.LAYOUT)
_RECURRENT = (nn.RNNBase, nn.RNNCellBase)


@dataclass(frozen=True, eq=False)
class Place:
    """A result of a call, and the channel of each of its elements along ``dims`` (-1: none of the group)."""

    call: int
    output: int
    dims: tuple[int, ...]
    channels: IntArray


@contextmanager
def said_in_words() -> Iterator[None]:
    """A model that fails on its calibration batch gives one sentence."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"the model fails on the calibration batch: {type(error).__name__}: {first_line(error)}",
            hint="pass batch=(inputs, labels) with inputs as the model takes them",
        ) from error


def labelled(model: nn.Module, x: Any) -> Tracer:
    """The operations of one run, and the labels of their values."""
    with said_in_words():
        tape, _ = record(model, x)
    tracer = Tracer(tape)
    propagate(tracer, model)
    return tracer


def places_of(model: nn.Module, tracer: Tracer, group: Group, member: Member) -> list[Place]:
    """The values that a member's weight makes of activations, one for each time that it is used.

    Of a recurrent layer it is its state, at all steps where one value holds them.
    """
    owner = member.tensor.rpartition(".")[0]
    owned = _channels_of_components(tracer, group)
    if isinstance(model.get_submodule(owner), _RECURRENT):
        return _states(tracer, owned, owner)
    computed = computed_as(model, member.tensor)
    names = set(computed.sources) if computed else {member.tensor}
    values = tracer.tape.values
    weights = {number for number, value in enumerate(values) if value.name in names}
    found = []
    for position, call in enumerate(tracer.tape.calls):
        if not weights.intersection(call.refs):
            continue
        if all(tracer.marks[number].weight for number in call.refs):
            weights.update(call.results)
            continue
        found += _read_at(tracer, owned, _with_bias(tracer, position))
    return found


def _channels_of_components(tracer: Tracer, group: Group) -> IntArray:
    """The channel of each component, -1 for those of other groups."""
    count, component = tracer.atoms.components()
    owned = np.full(count + 1, -1, dtype=np.int64)
    for member in group.members:
        owned[component[tracer.atoms.starts[member.tensor, member.dim] + member.indices]] = member.channels
    # By atom, with one more entry for positions that no channel owns.
    return np.append(owned[component], -1)


def _read_at(tracer: Tracer, owned: IntArray, position: int) -> list[Place]:
    found = []
    call = tracer.tape.calls[position]
    for output, number in enumerate(call.outputs if call.name not in _COPIES else ()):
        marks = None if number is None else tracer.marks[number]
        for factor in marks.factors if marks is not None and not marks.weight else ():
            channels = owned[factor.atoms]
            if (channels >= 0).any():
                found.append(Place(position, output, factor.support, channels.squeeze()))
                break
    return found


def _with_bias(tracer: Tracer, position: int) -> int:
    """The call that adds the bias to this product, if one does; otherwise the product itself."""
    tape, place = tracer.tape, position
    while True:
        readers = [
            number
            for number, call in enumerate(tape.calls)
            if set(call.refs) & set(tape.calls[place].outputs)
        ]
        if len(readers) != 1:
            return position
        (place,) = readers
        call = tape.calls[place]
        if call.name in _RESHAPES:
            continue
        biased = call.name in {"aten::add", "aten::add_"}
        return place if biased and any(tracer.marks[number].weight for number in call.refs) else position


def _states(tracer: Tracer, owned: IntArray, owner: str) -> list[Place]:
    """The largest value of a recurrent layer that holds each channel once per position, the last of those."""
    best: tuple[int, list[Place]] = (0, [])
    for position, call in enumerate(tracer.tape.calls):
        for place in _read_at(tracer, owned, position) if call.module == owner else ():
            channels = place.channels[place.channels >= 0]
            number = call.outputs[place.output]
            size = prod(tracer.tape.values[number].shape) if number is not None else 0
            if np.unique(channels).size == channels.size and size >= best[0]:
                best = size, [place]
    return best[1]


def mean_activations(
    model: nn.Module, tape: Tape, places: Sequence[Place], batches: Iterable[Any], *, size: int
) -> Tensor:
    """The mean absolute value of each of ``size`` channels over places, images and positions; float64 [C].

    Raises:
        UserError: the model runs other operations on some images than on the first ones.
    """
    listener = _Listener(tape, places, size)
    with said_in_words(), isolated_forward(model), torch.inference_mode(False), torch.no_grad():
        for x in batches:
            with listener.one_run():
                call_model(model, x)
    return listener.sums / listener.counts.clamp_min(1)


def _kind(name: str) -> str:
    return "aten::view" if name in _RESHAPES else name


class _Listener(Watcher):  # type: ignore[no-untyped-call]
    """Reads values on the way of a run that must do the operations of the tape."""

    def __init__(self, tape: Tape, places: Sequence[Place], size: int) -> None:
        super().__init__()
        self.sums = torch.zeros(size, dtype=torch.float64)
        self.counts = torch.zeros(size, dtype=torch.float64)
        self._calls = tape.calls
        # Whether memory is copied on the way depends on the number of images.
        self._computing = computing_calls(tape)
        self._position = 0
        self._at = {place.call: place for place in places}

    @contextmanager
    def one_run(self) -> Iterator[None]:
        self._position = 0
        with self:
            yield

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = name_of(func)
        if name in _COPIES:
            return result
        place = self._computing[self._position] if self._position < len(self._computing) else None
        self._position += 1
        if place is None or _kind(self._calls[place].name) != _kind(name):
            raise UserError(
                "the criterion activation cannot follow the model: it runs other operations on some images "
                "than on the first ones",
                hint="use a smaller batch, or another criterion",
            )
        flat = result if isinstance(result, (list, tuple)) else (result,)
        if (wanted := self._at.get(place)) is not None:
            self._read(wanted, flat[wanted.output])
        return result

    def _read(self, place: Place, value: Tensor) -> None:
        if tuple(value.shape[dim] for dim in place.dims) != place.channels.shape:
            call = self._calls[place.call]
            raise UserError(
                f"the criterion activation cannot read {call.short_name} at {call.source}: its channels lie "
                "elsewhere for some images",
                hint="use a smaller batch, or another criterion",
            )
        others = [dim for dim in range(value.ndim) if dim not in place.dims]
        wide = value.detach().double().abs()
        sums = (wide.sum(others) if others else wide).flatten().cpu()
        channels = torch.from_numpy(np.ascontiguousarray(place.channels.reshape(-1)))
        own = channels >= 0
        self.sums.index_add_(0, channels[own], sums[own])
        each = torch.full_like(sums, value.numel() / max(1, sums.numel()))
        self.counts.index_add_(0, channels[own], each[own])
