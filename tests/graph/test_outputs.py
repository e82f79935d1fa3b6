"""Channels that stay because the model returns them say so by name; what is read for its shape keeps none."""

import pytest
import torch
from torch import Tensor, nn

import secateur


class Translator(nn.Module):
    """Encoder and decoder share one table of words, and the model returns what the encoder found."""

    def __init__(self, look=None) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(30, 16), nn.Embedding(12, 16)
        self.encoder, self.decoder = nn.Linear(16, 16), nn.Linear(16, 16)
        self.look = look or (lambda h: h.shape[1])

    def forward(self, ids: Tensor) -> dict[str, object]:
        h = self.words(ids)
        h = self.encoder(h + self.places(torch.arange(self.look(h)))).relu()
        logits = self.decoder(h + self.words(ids)).relu() @ self.words.weight.t()
        return {"logits": logits, "states": [h]}


def translator(look=None):
    torch.manual_seed(0)
    return Translator(look), torch.randint(0, 30, (2, 7))


def test_returned_features_are_named_with_what_lets_them_go():
    net, ids = translator()
    graph = secateur.trace(net, ids)
    assert "is an output of the model, 'states.0'" in graph.explain()
    with pytest.raises(secateur.UserError, match="single channel") as found:
        secateur.plan(graph, sparsity=0.5)
    assert "16 channels are the output 'states.0': name the logits, as in logits='logits'" in found.value.hint
    report = secateur.prune(net, ids, sparsity=0.5, logits="logits")
    assert report.verified
    assert not report.notes
    assert net.words.weight.shape == (30, 8)


class Answers(nn.Module):
    """Two answers, which no layer reads."""

    def __init__(self, kind) -> None:
        super().__init__()
        self.body, self.first, self.second = nn.Linear(6, 16), nn.Linear(16, 4), nn.Linear(16, 3)
        self.kind = kind

    def forward(self, x: Tensor) -> object:
        h = self.body(x).relu()
        return self.kind(self.first(h), self.second(h))


@pytest.mark.parametrize("kind", [lambda a, b: (a, b), lambda a, b: {"labels": a, "boxes": b}])
def test_answers_need_no_word(kind):
    net = Answers(kind)
    report = secateur.prune(net, torch.randn(2, 6), sparsity=0.5)
    assert report.verified
    assert not report.notes
    assert net.body.out_features == 8


def test_an_answer_by_number_is_named_by_number():
    class Pair(Answers):
        def forward(self, x: Tensor) -> object:
            h = self.body(x).relu()
            return h, self.first(h)

    report = secateur.prune(Pair(None), torch.randn(2, 6), sparsity=0.5, logits=1)
    assert report.verified
    with pytest.raises(secateur.UserError) as found:
        secateur.prune(Pair(None), torch.randn(2, 6), sparsity=0.5)
    assert "16 channels are the output '0': name the logits, as in logits=1" in found.value.hint


LOOKS = {
    "last": lambda h: h[:, :, -1].shape[1],
    "first, turned": lambda h: h.transpose(1, 2)[:, 0].unsqueeze(0).shape[2],
    "unbound": lambda h: h.unbind(-1)[3].size(1),
}


@pytest.mark.parametrize("look", LOOKS)
def test_a_channel_of_which_only_the_shape_is_read_keeps_nothing(look):
    net, ids = translator(LOOKS[look])
    report = secateur.prune(net, ids, sparsity=0.5, logits="logits")
    assert report.verified
    assert net.words.weight.shape == (30, 8)


COUNTED = {
    "a number": lambda h: int(h[:, :, -1].shape[1] + 0 * h[0, 0, -1].item()),
    "numpy": lambda h: h[:, :, -1].detach().numpy().shape[1],
    "written": lambda h: h[:, :, -1].mul_(2).shape[1],
}


@pytest.mark.parametrize("look", COUNTED)
def test_a_channel_whose_numbers_are_read_stays(look):
    net, ids = translator(COUNTED[look])
    with pytest.raises(secateur.UserError, match="single channel"):
        secateur.prune(net, ids, sparsity=0.5, logits="logits")
