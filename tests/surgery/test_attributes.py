"""After surgery every layer says of itself what it is: built from its attributes it has the same shapes."""

import copy
import pickle

import pytest
import torch
from torch import nn

import secateur
from graph.attention import Recurrent, Transformer
from graph.networks import build, images
from secateur.surgery import cut

STATED = {
    nn.Conv2d: ("in_channels", "out_channels", "kernel_size", "groups"),
    nn.ConvTranspose2d: ("in_channels", "out_channels", "kernel_size"),
    nn.Linear: ("in_features", "out_features"),
    nn.Bilinear: ("in1_features", "in2_features", "out_features"),
    nn.BatchNorm2d: ("num_features",),
    nn.BatchNorm1d: ("num_features",),
    nn.GroupNorm: ("num_groups", "num_channels"),
    nn.LayerNorm: ("normalized_shape",),
    nn.RMSNorm: ("normalized_shape",),
    nn.Embedding: ("num_embeddings", "embedding_dim"),
    nn.PReLU: ("num_parameters",),
    nn.MultiheadAttention: ("embed_dim", "num_heads"),
    nn.LSTM: ("input_size", "hidden_size", "num_layers", "bidirectional"),
}


class Mixed(nn.Module):
    """Layers that the other networks lack."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, padding=1)
        self.up, self.act = nn.ConvTranspose2d(12, 16, 2, 2), nn.PReLU(16)
        self.left, self.right = nn.Linear(16, 8), nn.Linear(16, 10)
        self.norm, self.batch = nn.RMSNorm(8), nn.BatchNorm1d(10)
        self.both, self.head = nn.Bilinear(8, 10, 6), nn.Linear(6, 5)

    def forward(self, x):
        x = self.act(self.up(self.stem(x).relu())).mean((2, 3))
        return self.head(self.both(self.norm(self.left(x)), self.batch(self.right(x))))


class Words(nn.Module):
    """Embeddings, and an activation with a parameter per channel."""

    def __init__(self):
        super().__init__()
        self.embed, self.layer, self.head = nn.Embedding(20, 12), nn.Linear(12, 8), nn.Linear(8, 5)

    def forward(self, tokens):
        return self.head(self.layer(self.embed(tokens)).relu().mean(1))


CASES = {
    "convolutions": lambda: (build(["grouped", "depthwise", "concat"], "batch", "relu", "flatten"), images()),
    "groups": lambda: (build(["residual", "squeeze"], "group", "gelu", "norm"), images()),
    "layers": lambda: (build(["project"], "layer", "gelu", "norm"), images()),
    "attention": lambda: (Transformer("torch"), images()),
    "recurrent": lambda: (Recurrent(nn.LSTM, 2, True), images()),
    "mixed": lambda: (Mixed(), images()),
    "words": lambda: (Words(), torch.arange(12).reshape(2, 6)),
}


def stated_shapes(layer):
    """Shapes of a fresh layer with the attributes of this one."""
    arguments = {name: getattr(layer, name) for name in STATED[type(layer)]}
    fresh = type(layer)(**arguments)
    own = {name for name, _ in layer.named_parameters()}
    return {name: tuple(p.shape) for name, p in fresh.named_parameters() if name in own}


def disagreements(net):
    return [
        name
        for name, layer in net.named_modules()
        if type(layer) in STATED
        and stated_shapes(layer) != {key: tuple(p.shape) for key, p in layer.named_parameters()}
    ]


@pytest.mark.slow
@pytest.mark.parametrize("case", sorted(CASES))
def test_attributes_are_those_of_the_smaller_layers(case):
    torch.manual_seed(0)
    net, inputs = CASES[case]()
    net.eval()
    assert not disagreements(net)
    report = secateur.prune(net, inputs, sparsity=0.5)
    assert report.max_error <= 1e-10
    assert report.parameters_after < 0.75 * report.parameters_before
    assert not disagreements(net)


@pytest.mark.slow
@pytest.mark.parametrize("case", sorted(CASES))
def test_a_pruned_network_trains_copies_and_pickles(case):
    torch.manual_seed(0)
    net, inputs = CASES[case]()
    secateur.prune(net.eval(), inputs, sparsity=0.5, verify=False)
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(twin(inputs), net(inputs))
        assert not disagreements(twin)
    optimizer = torch.optim.SGD(net.train().parameters(), 0.1)
    before = net(inputs).square().sum()
    before.backward()
    optimizer.step()
    assert all(p.grad is None or p.grad.shape == p.shape for p in net.parameters())


def test_a_forgotten_attribute_is_caught(monkeypatch):
    monkeypatch.setattr(cut, "sync_attributes", lambda model, plan, undo: None)
    net = build(["plain"], "batch", "relu", "linear")
    secateur.prune(net, images(), sparsity=0.5, verify=False)
    assert disagreements(net) == ["body.0.0", "body.0.1", "body.1.0", "body.1.1", "head"]
