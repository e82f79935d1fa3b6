"""The replay computes what the model computes."""

import pytest
import torch
from torch import nn

import secateur
from graph.networks import BLOCKS, build, images
from secateur.cpu.depthwise import applies, convolve
from secateur.graph.trace.recorder import record
from secateur.proof.replay import replay


@pytest.mark.parametrize("block", BLOCKS)
def test_a_replay_gives_the_outputs_and_gradients_of_the_model(block):
    net = build([block], "batch", "hardswish", "flatten").double()
    x = images().double().requires_grad_()
    tape, outputs = record(net, x)
    state = {name: tensor.detach() for name, tensor in [*net.named_parameters(), *net.named_buffers()]}
    (again,) = replay(tape, state, [x])
    assert torch.allclose(again, outputs[0], rtol=0, atol=1e-12)
    assert torch.allclose(again, net(x), rtol=0, atol=1e-12)
    wanted, found = (torch.autograd.grad(y.square().sum(), x)[0] for y in (net(x), again))
    assert torch.allclose(wanted, found, rtol=0, atol=1e-10)


@pytest.mark.parametrize("spatial", [1, 2, 3])
@pytest.mark.parametrize(
    ("stride", "padding", "dilation", "times"), [(1, 1, 1, 1), (2, 0, 1, 2), (1, 2, 2, 1), (3, 1, 2, 3)]
)
def test_a_depthwise_convolution_is_torchs(spatial, stride, padding, dilation, times):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 10, *[9] * spatial, generator=generator, dtype=torch.float64, requires_grad=True)
    w = torch.randn(10 * times, 1, *[3] * spatial, generator=generator, dtype=torch.float64).requires_grad_()
    b = torch.randn(10 * times, generator=generator, dtype=torch.float64)
    settings = [[value] * spatial for value in (stride, padding, dilation)]
    args = (x, w, b, *settings, False, [0] * spatial, 10)
    assert applies(args) == (spatial < 3), "larger kernels are faster in torch"
    wanted, found = torch.ops.aten.convolution.default(*args), convolve(args)
    assert torch.allclose(wanted, found, rtol=0, atol=1e-12)
    grads = [torch.autograd.grad(y.square().sum(), (x, w)) for y in (wanted, found)]
    for ours, theirs in zip(*grads, strict=True):
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-9)


class Experts(nn.Module):
    """A product by experts as libraries have it, which torch computes in float32 alone."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(6, 16), nn.Linear(16, 3)
        self.experts = nn.Parameter(torch.randn(2, 16, 16))

    def forward(self, x):
        ends = torch.tensor([2, 5], dtype=torch.int32)
        h = torch.ops.aten._grouped_mm.default(self.first(x).relu(), self.experts, offs=ends)
        return self.last(h)


@pytest.mark.skipif(not hasattr(torch.ops.aten, "_grouped_mm"), reason="this torch has no such product")
def test_products_of_experts_are_replayed_in_float64():
    torch.manual_seed(0)
    model, x = Experts(), torch.randn(5, 6)
    tape, outputs = record(model, x)
    state = {name: tensor.detach().double() for name, tensor in model.named_parameters()}
    (again,) = replay(tape, state, [x.double()])
    torch.testing.assert_close(again.float(), outputs[0])


class Pooled(nn.Module):
    """Attention by a learned query, one for all images, as pooling heads have it."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(6, 24), nn.Linear(24, 3)
        self.query = nn.Parameter(torch.randn(1, 1, 24))
        self.attention = nn.MultiheadAttention(24, 4, batch_first=True)

    def forward(self, x):
        h = self.first(x)
        return self.last(self.attention(self.query.repeat(len(x), 1, 1), h, h)[0][:, 0])


class Queries(Pooled):
    """The same by hand, with several queries that are expanded."""

    def __init__(self):
        super().__init__()
        del self.attention
        self.queries, self.key = nn.Parameter(torch.randn(5, 24)), nn.Linear(24, 24)
        self.ask = nn.Linear(24, 24)

    def forward(self, x):
        h = self.first(x)
        asked = self.ask(self.queries.expand(len(x), -1, -1)).tanh()
        return self.last((asked @ self.key(h).transpose(1, 2)).softmax(-1) @ h)


@pytest.mark.parametrize("make", [Pooled, Queries])
def test_what_is_asked_by_repeated_weights_is_pruned(make):
    torch.manual_seed(0)
    net = make()
    report = secateur.prune(net, torch.randn(2, 7, 6), sparsity=0.5)
    assert report.verified
    assert not [note for note in report.notes if "not pruned" in note]
    assert (net.first.out_features, net.query.shape[2] if make is Pooled else net.queries.shape[1]) == (
        12,
        12,
    )
