"""Recurrent layers and cells keep equal gates, and say how wide they are."""

import pytest
import torch
from torch import nn

import secateur
from graph.attention import Recurrent
from graph.networks import images


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize(("layers", "both"), [(1, False), (2, False), (2, True)])
def test_recurrent_layers_are_pruned(kind, layers, both):
    torch.manual_seed(0)
    net = Recurrent(kind, layers, both).eval()
    report = secateur.prune(net, images(), sparsity=0.5)
    assert report.max_error <= 1e-10
    assert not [note for note in report.notes if note.startswith("not pruned")]
    assert (net.rnn.input_size, net.rnn.hidden_size) == (5, 4)
    assert net.train()(images()).shape == (2, 5)


class Stepping(nn.Module):
    """A cell that is called for every row of an image."""

    def __init__(self, kind):
        super().__init__()
        self.stem, self.cell, self.head = nn.Linear(36, 10), kind(10, 8), nn.Linear(8, 5)

    def forward(self, x):
        state = None
        for row in self.stem(x.permute(2, 0, 1, 3).flatten(2)):
            state = self.cell(row, state)
        return self.head(state[0] if isinstance(state, tuple) else state)


@pytest.mark.parametrize("kind", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_recurrent_cells_are_pruned(kind):
    torch.manual_seed(0)
    net = Stepping(kind).eval()
    report = secateur.prune(net, images(), sparsity=0.5)
    assert report.max_error <= 1e-10
    assert (net.cell.input_size, net.cell.hidden_size, net.head.in_features) == (5, 4, 4)
    assert net.train()(images()).shape == (2, 5)


class Projected(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.LSTM(36, 16, num_layers=2, proj_size=6, batch_first=True), nn.Linear(6, 5)

    def forward(self, x):
        return self.head(self.rnn(x.permute(0, 2, 1, 3).flatten(2))[0][:, -1])


@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")
def test_projected_states_are_pruned_apart_from_hidden_ones():
    torch.manual_seed(0)
    net = Projected().eval()
    report = secateur.prune(net, images(), sparsity=0.5)
    assert report.max_error <= 1e-10
    assert (net.rnn.input_size, net.rnn.hidden_size, net.rnn.proj_size) == (36, 8, 3)
    # Torch's own layers are known: nothing had to be found out about their attributes.
    assert not report.plan.repairs
    assert net.head.in_features == 3
    assert net.train()(images()).shape == (2, 5)
