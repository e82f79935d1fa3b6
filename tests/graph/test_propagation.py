"""Labels through whole models: relative positions, auxiliary heads, tables of coordinates, recurrence."""

import pytest
import torch
from torch import Tensor, nn

import secateur
from graph.attention import Recurrent
from graph.networks import Body, images, pruned
from secateur.graph.rules import RULES


class Relative(nn.Module):
    """Window attention with a table of relative positions, one column per head."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.head = nn.Conv2d(3, 24, 4, 4), nn.Linear(24, 4)
        self.qkv, self.proj, self.heads = nn.Linear(24, 72), nn.Linear(24, 24), 3
        self.table = nn.Parameter(torch.randn(25, 3))
        place = torch.stack(torch.meshgrid(torch.arange(3), torch.arange(3), indexing="ij")).flatten(1)
        apart = (place[:, :, None] - place[:, None, :] + 2).permute(1, 2, 0)
        self.register_buffer("index", apart[..., 0] * 5 + apart[..., 1])

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        batch, tokens, width = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        bias = self.table[self.index.view(-1)].view(tokens, tokens, -1).permute(2, 0, 1)
        x = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5 + bias).softmax(-1) @ v
        return self.head((self.proj(x.transpose(1, 2).reshape(batch, tokens, width))).mean(1))


def test_relative_positions_stay_and_heads_lose_width():
    net = Relative()
    pruned(net)
    assert net.table.shape == (25, 3)
    assert (net.qkv.out_features, net.proj.out_features) == (36, 12)


class Auxiliary(nn.Module):
    """A second head that runs in training alone, as in GoogLeNet and Inception."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.stem, self.body = nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(12, 12, 3, padding=1)
        self.form, self.head = form, nn.Linear(12, 4)
        self.aux = nn.Sequential(nn.Conv2d(12, 8, 1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 144, 4))

    def forward(self, x: Tensor):
        x = self.stem(x).relu()
        aux = self.aux(x) if self.training else None
        logits = self.head(self.body(x).relu().mean((2, 3)))
        if aux is None:
            return logits
        return (logits, aux) if self.form == "tuple" else {"logits": logits, "aux": aux}


@pytest.mark.parametrize("form", ["tuple", "dict"])
@pytest.mark.parametrize("training", [True, False])
def test_auxiliary_heads_that_run_in_training_are_pruned_along(form, training):
    net = Auxiliary(form).train(training)
    pruned(net)
    assert (net.aux[0].in_channels, net.aux[0].out_channels, net.aux[3].in_features) == (6, 4, 4 * 144)
    found = net.train()(images())
    outputs = found if form == "tuple" else (found["logits"], found["aux"])
    assert [output.shape for output in outputs] == [(2, 4), (2, 4)]


class Coordinates(Body):
    """Positions are a table of coordinates, turned into a number per channel by a small network."""

    def __init__(self) -> None:
        super().__init__(24, turn=nn.Sequential(nn.Linear(4, 10), nn.ReLU(), nn.Linear(10, 24)))
        self.register_buffer("places", torch.arange(12.0)[:, None] ** torch.arange(1, 5) / 1000)

    def middle(self, x: Tensor) -> Tensor:
        return x + self.turn(self.places).t()[:, None, :]


def test_tables_that_layers_read_are_masked_too():
    net = Coordinates()
    pruned(net)
    assert net.places.shape == (12, 2)
    assert (net.turn[0].in_features, net.turn[2].out_features) == (2, 12)


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


class Masked(nn.Module):
    """Three ways to use a mask as an index, all of several dimensions."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.a, self.b, self.f, self.form = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 12, 3), nn.Linear(12, 4), form

    def forward(self, x: Tensor) -> Tensor:
        h = self.b(self.a(x).relu())
        if self.form == "pick":
            h = h * h[h > 0].mean()
        elif self.form == "pick channels":
            h = h[h.mean((2, 3)) > -1e9].view(h.shape)
        elif self.form == "write":
            h = h.clone()
            h[h < 0] = 0
        else:
            h = h.clone()
            h[:, :, torch.ones(h.shape[2:], dtype=torch.bool)] = h.flatten(2).exp()
        return self.f(h.relu().mean((2, 3)))


@pytest.mark.parametrize("form", ["pick", "pick channels", "write"])
def test_what_a_mask_picks_or_overwrites_is_pruned(form):
    model = Masked(form).eval()
    report = secateur.prune(model, torch.rand(2, 3, 8, 8), sparsity=0.5)
    assert report.verified
    assert (model.a.out_channels, model.b.out_channels) == (4, 6)


def test_a_mask_inside_writes_rows_by_position():
    model = Masked("inside").eval()
    secateur.prune(model, torch.rand(2, 3, 8, 8), sparsity=0.5)
    assert (model.a.out_channels, model.b.out_channels) == (4, 6)


def test_an_error_inside_a_rule_freezes_what_reaches_it_and_is_named(monkeypatch):
    def broken(context, call):
        raise IndexError("list index out of range")

    monkeypatch.setitem(RULES, "aten::softmax", broken)
    monkeypatch.setitem(RULES, "aten::_softmax", broken)
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 6), nn.Softmax(1), nn.Linear(6, 2)).eval()
    report = secateur.prune(model, torch.rand(2, 3), sparsity=0.5)
    assert (model[0].out_features, model[2].out_features) == (4, 6)
    (note,) = report.notes
    assert "rule failed (IndexError: list index out of range)" in note
    assert "_softmax, in 3" in note


class Written(nn.Module):
    """Values written through a view, and read from the tensor that owns the memory."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.a, self.b, self.f, self.form = nn.Linear(5, 8), nn.Linear(8, 6), nn.Linear(6, 3), form

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x).relu()
        memory = torch.zeros_like(h)
        view = {"alias": memory[:], "detach": memory.detach(), "view": memory.view(h.shape)}[self.form]
        view.copy_(h)
        return self.f(self.b(memory).relu())


@pytest.mark.parametrize("form", ["alias", "detach", "view"])
def test_what_is_written_through_a_view_is_seen_by_its_owner(form):
    model = Written(form).eval()
    report = secateur.prune(model, torch.rand(2, 5), sparsity=0.5)
    assert (report.verified, report.notes) == (True, ())
    assert (model.b.in_features, model.b.out_features) == (4, 3)
