"""Recurrent cells whose first state is made in the forward pass are pruned, state and all."""

import pytest
import torch
from torch import nn

import secateur

STARTS = {
    "zeros": lambda net, x: torch.zeros(len(x), net.hidden, dtype=x.dtype),
    "new_zeros": lambda net, x: x.new_zeros(len(x), net.hidden),
    "expanded": lambda net, x: torch.zeros(1, net.hidden, dtype=x.dtype).expand(len(x), -1),
    "moved": lambda net, x: torch.zeros(len(x), net.hidden).to(x),
}


def joined(net, z, h):
    return net.c(torch.cat([z, h], 1)).tanh()


def added(net, z, h):
    return (net.w(z) + net.u(h)).tanh()


def gated(net, z, h):
    gate = net.w(z).sigmoid()
    return gate * h + (1 - gate) * net.u(h).tanh()


def library(net, z, h):
    return net.g(z, h)


class Cell(nn.Module):
    def __init__(self, start, step):
        super().__init__()
        self.start, self.step, self.hidden = start, step, 16
        self.x, self.f = nn.Linear(6, 12), nn.Linear(16, 5)
        self.w, self.u, self.c, self.g = nn.Linear(12, 16), nn.Linear(16, 16), nn.Linear(28, 16), None
        if step is library:
            self.g = nn.GRUCell(12, 16)

    def forward(self, video):
        h = self.start(self, video)
        for x in video.unbind(1):
            h = self.step(self, self.x(x), h)
        return self.f(h)


@pytest.mark.slow
@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("step", [joined, added, gated, library])
def test_the_first_state_follows(start, step):
    torch.manual_seed(0)
    model = Cell(STARTS[start], step).eval()
    report = secateur.prune(model, torch.rand(2, 3, 6), sparsity=0.5)
    assert report.verified
    assert (model.hidden, model.f.in_features, model.x.out_features) == (8, 8, 6)
    assert model(torch.rand(4, 2, 6)).shape == (4, 5)


def test_a_first_state_need_not_be_zero_where_it_is_joined():
    model = Cell(lambda net, x: torch.full((len(x), net.hidden), 0.5, dtype=x.dtype), joined).eval()
    report = secateur.prune(model, torch.rand(2, 3, 6), sparsity=0.5)
    assert report.verified
    assert model.hidden == 8


def test_a_width_that_stands_in_the_code_keeps_the_state_alone():
    model = Cell(lambda net, x: torch.zeros(len(x), 16, dtype=x.dtype), joined).eval()
    model.hidden = None
    report = secateur.prune(model, torch.rand(2, 3, 6), sparsity=0.5)
    assert report.verified
    assert (model.f.in_features, model.x.out_features) == (16, 6)
    (note,) = [note for note in report.notes if "is a number in the code" in note]
    assert "the width 16 of zeros at repair/test_first_states.py:" in note
    assert note.endswith("write self.c.out_features there")


class Started(nn.Module):
    """The first state of torch's own layer, as wide as a number in the code."""

    def __init__(self, kind, constant=True):
        super().__init__()
        self.e, self.lstm, self.f = nn.Linear(6, 12), kind(12, 16, batch_first=True), nn.Linear(16, 5)
        self.kind, self.constant = kind, constant

    def forward(self, x):
        first = torch.zeros(1, len(x), 16 if self.constant else self.lstm.hidden_size)
        state = (first, first.clone()) if self.kind is nn.LSTM else first
        return self.f(self.lstm(self.e(x), state)[0])


@pytest.mark.slow
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_a_first_state_of_a_constant_width_is_named_and_what_to_write(kind):
    torch.manual_seed(0)
    model = Started(kind).eval()
    report = secateur.prune(model, torch.rand(3, 4, 6), sparsity=0.5)
    assert report.verified
    assert (model.e.out_features, model.lstm.hidden_size) == (6, 16)
    (note,) = [note for note in report.notes if "is a number in the code" in note]
    assert "the width 16 of zeros at repair/test_first_states.py:" in note
    assert note.endswith("write self.lstm.hidden_size there")
    model = Started(kind, constant=False).eval()
    report = secateur.prune(model, torch.rand(3, 4, 6), sparsity=0.5)
    assert model.lstm.hidden_size == 8
    assert not any("is a number in the code" in note for note in report.notes)


class Stepped(nn.Module):
    """A cell of torch in a loop, inside of another module."""

    def __init__(self):
        super().__init__()
        self.cell, self.f = nn.GRUCell(6, 16), nn.Linear(16, 5)

    def forward(self, x):
        h = torch.zeros(len(x), 16)
        for one in x.unbind(1):
            h = self.cell(one, h)
        return self.f(h)


def test_a_state_made_inside_of_a_module_is_named_as_that_module_writes_it():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 6), Stepped()).eval()
    report = secateur.prune(model, torch.rand(3, 4, 6), sparsity=0.5)
    assert model[1].cell.hidden_size == 16
    assert any(note.endswith("write self.cell.hidden_size there") for note in report.notes)


class ConvLstm(nn.Module):
    """As it is usually written: four gates split by the stated width, both states begin with zeros."""

    def __init__(self):
        super().__init__()
        self.hidden_dim, self.conv = 12, nn.Conv2d(3 + 12, 48, 3, padding=1)
        self.f = nn.Linear(12, 5)

    def init_hidden(self, batch, size):
        weight = self.conv.weight
        return tuple(weight.new_zeros(batch, self.hidden_dim, *size) for _ in range(2))

    def forward(self, video):
        h, c = self.init_hidden(len(video), video.shape[-2:])
        for x in video.unbind(1):
            gates = torch.split(self.conv(torch.cat([x, h], 1)), self.hidden_dim, dim=1)
            i, f, o, g = (gate.sigmoid() if number < 3 else gate.tanh() for number, gate in enumerate(gates))
            c = f * c + i * g
            h = o * c.tanh()
        return self.f(h.mean((2, 3)))


def test_a_convolutional_lstm_is_pruned():
    torch.manual_seed(0)
    model = ConvLstm().eval()
    report = secateur.prune(model, torch.rand(2, 3, 3, 6, 6), sparsity=0.5)
    assert report.verified
    assert (model.hidden_dim, model.conv.weight.shape, model.f.in_features) == (6, (24, 9, 3, 3), 6)
