"""Structures of whole models: relative positions, auxiliary heads, tables of coordinates."""

import pytest
import torch
from torch import Tensor, nn

from graph.networks import images
from graph.test_rules import Body, pruned


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
