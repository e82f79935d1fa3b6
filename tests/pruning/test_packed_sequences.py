"""Packed sequences are pruned, from the embedding before them to what reads them."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import (
    PackedSequence,
    pack_padded_sequence,
    pack_sequence,
    pad_packed_sequence,
    unpad_sequence,
)

import secateur
from secateur.graph import ops
from secateur.graph.trace import recorder
from secateur.graph.trace.decisions import deciding_calls
from secateur.graph.trace.recorder import record

IDS = torch.randint(1, 50, (3, 7), generator=torch.Generator().manual_seed(0))
LENGTHS = torch.tensor([4, 7, 5])
INPUTS = (IDS, LENGTHS)


class Tagger(nn.Module):
    """Embedding, dropout, packing, a recurrent layer, and ``head`` of its answer and state."""

    def __init__(self, head, kind=nn.LSTM, *, out=16, **settings):
        super().__init__()
        self.embed, self.drop = nn.Embedding(50, 12, padding_idx=0), nn.Dropout(0.1)
        self.rnn, self.attend = kind(12, 16, batch_first=True, **settings), nn.Linear(16, 1)
        self.second, self.fc, self.head = nn.GRU(16, 16, batch_first=True), nn.Linear(out, 5), head

    def forward(self, ids, lengths):
        x = self.drop(self.embed(ids))
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        return self.head(self, *self.rnn(packed))


def padded(packed, **settings):
    return pad_packed_sequence(packed, batch_first=True, **settings)


def tags(net, packed, state):
    return net.fc(padded(packed, total_length=9)[0])


def largest(net, packed, state):
    return net.fc(padded(packed, padding_value=-torch.inf)[0].max(1)[0])


def average(net, packed, state):
    h, lengths = padded(packed)
    return net.fc(h.sum(1) / lengths.unsqueeze(1))


def last(net, packed, state):
    h, lengths = padded(packed)
    return net.fc(h[torch.arange(len(h)), lengths - 1])


def last_gathered(net, packed, state):
    h, lengths = padded(packed)
    return net.fc(h.gather(1, (lengths - 1).view(-1, 1, 1).expand(-1, 1, h.shape[2])).squeeze(1))


def ends(net, packed, state):
    state = state[0] if isinstance(state, tuple) else state
    return net.fc(torch.cat([state[-2], state[-1]], 1))


def attention(net, packed, state):
    h, lengths = padded(packed)
    beyond = torch.arange(h.shape[1]) >= lengths[:, None]
    weights = net.attend(h).squeeze(2).masked_fill(beyond, -torch.inf).softmax(1)
    return net.fc((weights[:, :, None] * h).sum(1))


def still_packed(net, packed, state):
    return padded(packed._replace(data=net.fc(packed.data)))[0]


def unpadded(net, packed, state):
    return net.fc(unpad_sequence(*padded(net.second(packed)[0]), batch_first=True)[0])


def with_lengths(net, packed, state):
    h, lengths = padded(packed)
    return net.fc(h), lengths


CASES = {
    "LSTM": (tags, {}),
    "GRU": (tags, {"kind": nn.GRU}),
    "plain": (tags, {"kind": nn.RNN}),
    "two layers": (tags, {"num_layers": 2}),
    "both ways": (tags, {"bidirectional": True, "out": 32}),
    "both ways, two layers": (ends, {"bidirectional": True, "num_layers": 2, "out": 32, "kind": nn.GRU}),
    "projected": (tags, {"proj_size": 8, "out": 8}),
    "largest": (largest, {}),
    "average": (average, {}),
    "last": (last, {}),
    "last, gathered": (last_gathered, {}),
    "attention": (attention, {}),
    "still packed": (still_packed, {}),
    "unpadded": (unpadded, {}),
    "lengths returned": (with_lengths, {}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_packed_sequences_are_pruned_on_both_sides(name):
    head, settings = CASES[name]
    torch.manual_seed(0)
    model = Tagger(head, **settings).eval()
    model.embed.weight.data.normal_()
    report = secateur.prune(model, INPUTS, sparsity=0.5)
    assert report.verified
    assert (model.embed.embedding_dim, model.rnn.input_size, model.rnn.hidden_size) == (6, 6, 8)
    assert model.fc.in_features == settings.get("out", 16) // 2
    model(IDS[:2], torch.tensor([2, 6]))


class ByHand(Tagger):
    """Ids are packed, and only what a packed sequence holds is looked up."""

    def forward(self, ids, lengths):
        packed = pack_padded_sequence(ids, lengths, batch_first=True, enforce_sorted=False)
        packed = PackedSequence(self.embed(packed.data), *packed[1:])
        return self.head(self, *self.rnn(packed))


class Listed(Tagger):
    def forward(self, ids, lengths):
        found = [self.embed(row[: int(length)]) for row, length in zip(ids, lengths, strict=True)]
        return self.head(self, *self.rnn(pack_sequence(found, enforce_sorted=False)))


class Started(Tagger):
    """The first state is put in the order of the lengths."""

    def forward(self, ids, lengths):
        packed = pack_padded_sequence(self.embed(ids), lengths, batch_first=True, enforce_sorted=False)
        first = torch.zeros(self.rnn.num_layers, len(ids), self.rnn.hidden_size)
        return self.head(self, *self.rnn(packed, (first, torch.zeros_like(first))))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [ByHand, Listed, Started])
def test_other_ways_to_pack(kind):
    torch.manual_seed(0)
    model = kind(tags, num_layers=2).eval()
    assert secateur.prune(model, INPUTS, sparsity=0.5).verified
    assert (model.embed.embedding_dim, model.rnn.hidden_size, model.fc.in_features) == (6, 8, 8)


def test_lengths_decide_nothing_by_the_numbers_that_are_packed():
    tape, _ = record(Tagger(last).eval(), INPUTS)
    assert not deciding_calls(tape, tape.inputs)


def test_memory_that_torch_fills_itself_is_read_as_it_was(monkeypatch):
    """Lengths are written where no operation shows it: a proof that allocates them anew reads anything."""
    monkeypatch.setattr(recorder, "_BLANK", frozenset())
    torch.manual_seed(0)
    tape, _ = record(Tagger(last).eval(), INPUTS)
    assert not any(tape.values[ref].kind == "constant" for call in tape.calls[-8:] for ref in call.refs)
    monkeypatch.setattr(recorder, "_BLANK", ops.operations(ops.Does.BLANK))
    tape, _ = record(Tagger(last).eval(), INPUTS)
    held = [tensor.tolist() for tensor in tape.constants.values() if tensor.dtype == torch.int64]
    assert sorted(LENGTHS.tolist(), reverse=True) in held


class Blank(nn.Module):
    """Writes to memory in ways that show: nothing of it is a constant."""

    def forward(self, x):
        out, order = torch.empty_like(x), torch.empty(3, dtype=torch.int64)
        order.copy_(torch.arange(3))
        torch.mul(x, 2, out=out)
        rows = x.new_empty(3, 4)
        for row in order.flip(0).tolist():
            rows[row] = x[row]
        return out + rows + torch.empty(0).sum()


def test_memory_that_is_written_is_no_constant():
    tape, found = record(Blank(), torch.ones(3, 4))
    assert not [tensor for tensor in tape.constants.values() if tensor.ndim]
    assert torch.equal(found[0], torch.full((3, 4), 3.0))
