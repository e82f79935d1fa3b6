"""A replay in pieces gives what one in one piece gives, and so do weights that are built when asked for."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from graph.networks import BLOCKS, build, images
from secateur.graph.trace.named_tensors import named_tensors
from secateur.graph.trace.recorder import record
from secateur.proof import checkpointing
from secateur.proof.checkpointing import with_gradient
from secateur.proof.lifetimes import _possible_boundaries, choose_boundaries, lifetimes, saved_bytes
from secateur.surgery.perturbed import Perturbed, perturbed


class Writes(nn.Module):
    """Adds in place to what it reads later, and asks for its input once more at the end."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x):
        y = self.first(x) * 2
        z = y.exp()
        y[:, 1:] += self.second(z)[:, :-1]
        return (self.second(y.tanh()) * z).sigmoid() * x


def recorded(net, x):
    tape, _ = record(net.eval(), x)
    wide = {name: tensor.detach().double() for name, tensor in named_tensors(net).items()}
    return tape, wide, [x.double()]


@pytest.mark.slow
@pytest.mark.parametrize("block", BLOCKS)
def test_pieces_give_the_same_outputs_and_gradients(block):
    tape, state, inputs = recorded(build([block, block], "batch", "hardswish", "flatten"), images())
    boundaries = _possible_boundaries(tape).allowed
    assert boundaries
    (one, wanted), (several, found) = (
        with_gradient(tape, state, inputs, boundaries=places) for places in ((), boundaries)
    )
    assert torch.equal(one[0], several[0])
    assert torch.allclose(wanted, found, rtol=0, atol=1e-14 * float(wanted.abs().max()))


def test_networks_that_write_in_place_are_cut_where_nothing_written_is_alive():
    tape, state, inputs = recorded(Writes(), torch.rand(3, 6))
    boundaries = _possible_boundaries(tape).allowed
    (one, wanted), (several, found) = (
        with_gradient(tape, state, inputs, boundaries=places) for places in ((), boundaries)
    )
    assert boundaries
    assert torch.equal(one[0], several[0])
    assert torch.allclose(wanted, found, rtol=0, atol=1e-14)


def test_a_cut_where_what_is_written_is_alive_would_be_wrong():
    tape, state, inputs = recorded(Writes(), torch.rand(3, 6))
    written = next(place for place, call in enumerate(tape.calls) if call.name == "aten::add_")
    assert written not in _possible_boundaries(tape).allowed
    _, wanted = with_gradient(tape, state, inputs)
    with pytest.raises(RuntimeError, match="in-place"):
        with_gradient(tape, state, inputs, boundaries=[written])
    assert wanted is not None


def test_a_piece_that_forgets_a_value_still_asked_for_fails(monkeypatch):
    tape, state, inputs = recorded(build(["residual"], "batch", "sigmoid", "linear"), images())
    boundaries = _possible_boundaries(tape).allowed
    crossing = [n for n, (born, last) in lifetimes(tape).items() if 0 <= born < boundaries[0] <= last]

    def forgetful(tape):
        return {number: life for number, life in lifetimes(tape).items() if number != crossing[0]}

    monkeypatch.setattr(checkpointing, "lifetimes", forgetful)
    with pytest.raises(KeyError):
        with_gradient(tape, state, inputs, boundaries=boundaries)


def test_small_tapes_run_in_one_piece():
    tape, _, _ = recorded(build(["residual"], "batch", "sigmoid", "linear"), images())
    assert choose_boundaries(tape) == []


def test_the_less_may_be_kept_the_more_pieces_there_are():
    tape, _, _ = recorded(build(["residual"] * 4, "batch", "sigmoid", "linear"), images())
    whole = sum(saved_bytes(tape))
    counts = [len(choose_boundaries(tape, kept)) for kept in (whole, int(0.7 * whole), 0)]
    assert counts[0] == 0 < counts[1] < counts[2]


@pytest.mark.parametrize("part", [2, 3, 8])
def test_what_is_kept_is_within_what_may_be_or_the_least_there_is(part):
    tape, _, _ = recorded(build(["residual"] * 4, "batch", "sigmoid", "linear"), images())
    whole = sum(saved_bytes(tape))
    least = need(tape, choose_boundaries(tape, 0))
    assert least < whole / 2
    assert need(tape, choose_boundaries(tape, whole // part)) <= max(whole // part, least)


def need(tape, boundaries):
    """Bytes kept by the largest piece, and of what crosses the cuts."""
    sizes = saved_bytes(tape)
    largest = max(sum(sizes[begin:end]) for begin, end in pairwise([0, *boundaries, len(sizes)]))
    return largest + _possible_boundaries(tape).crossing(boundaries)


def test_weights_built_when_asked_for_are_those_built_at_once():
    net = build(["residual"], "batch", "sigmoid", "linear")
    whole, lazy = (
        perturbed(named_tensors(net), torch.Generator().manual_seed(1), whole=size) for size in (10**9, 0)
    )
    assert isinstance(whole, dict)
    assert isinstance(lazy, Perturbed)
    assert list(whole) == list(lazy)
    assert all(torch.equal(whole[name], lazy[name]) and torch.equal(lazy[name], lazy[name]) for name in whole)
    assert any(not torch.equal(whole[name], tensor) for name, tensor in named_tensors(net).items())


def test_weights_built_again_for_the_backward_pass_give_the_same_gradient():
    net = build(["residual", "concat"], "batch", "sigmoid", "linear")
    tape, _, inputs = recorded(net, images())
    built = []

    class Counted(Perturbed):
        def __getitem__(self, name):
            built.append(name)
            return super().__getitem__(name)

    tensors = named_tensors(net)
    lazy = Counted(tensors, torch.Generator().manual_seed(1))
    whole = perturbed(tensors, torch.Generator().manual_seed(1))
    (one, wanted), (other, found) = (with_gradient(tape, state, inputs) for state in (whole, lazy))
    assert torch.equal(one[0], other[0])
    assert torch.equal(wanted, found)
    assert built.count(built[0]) == 2
