"""Networks on graphs, whose nodes exchange messages by scatter operations, are pruned like any other."""

import pytest
import torch
from torch import nn

import secateur

NODES, EDGES = 12, 40


def scattered(messages, target, nodes, how):
    if how == "index_add":
        return torch.zeros(nodes, messages.shape[1]).to(messages).index_add_(0, target, messages)
    where = target[:, None].expand(-1, messages.shape[1])
    if how == "scatter_add":
        return messages.new_zeros(nodes, messages.shape[1]).scatter_add_(0, where, messages)
    if how == "index_put":
        return messages.new_zeros(nodes, messages.shape[1]).index_put((target,), messages, accumulate=True)
    empty = messages.new_zeros(nodes, messages.shape[1])
    return empty.scatter_reduce(0, where, messages, how, include_self=False)


class Convolution(nn.Module):
    """Kipf and Welling's graph convolution: messages weighted by the degrees of both ends."""

    def __init__(self, inputs, outputs, how):
        super().__init__()
        self.linear, self.how = nn.Linear(inputs, outputs), how

    def forward(self, x, edges):
        source, target = edges
        degree = torch.bincount(target, minlength=len(x)).clamp(min=1).to(x.dtype)
        weight = (degree[source] * degree[target]).rsqrt()
        return scattered(self.linear(x)[source] * weight[:, None], target, len(x), self.how)


class Sample(nn.Module):
    """GraphSAGE: the own features beside the mean or maximum of the neighbours'."""

    def __init__(self, inputs, outputs, how):
        super().__init__()
        self.own, self.others, self.how = nn.Linear(inputs, outputs), nn.Linear(inputs, outputs), how

    def forward(self, x, edges):
        source, target = edges
        return self.own(x) + self.others(scattered(x[source], target, len(x), self.how))


class Attention(nn.Module):
    """GAT: messages weighted by a softmax over the edges that end at one node, for each head."""

    def __init__(self, inputs, outputs, how, heads=2):
        super().__init__()
        self.heads, self.linear, self.how = heads, nn.Linear(inputs, outputs), how
        self.left = nn.Parameter(torch.randn(heads, outputs // heads))
        self.right = nn.Parameter(torch.randn(heads, outputs // heads))

    def forward(self, x, edges):
        source, target = edges
        h = self.linear(x).view(len(x), self.heads, -1)
        score = (h * self.left).sum(-1)[source] + (h * self.right).sum(-1)[target]
        score = nn.functional.leaky_relu(score, 0.2)
        top = scattered(score, target, len(x), "amax")
        weight = (score - top[target]).exp()
        weight = weight / scattered(weight, target, len(x), self.how)[target]
        return scattered((weight[:, :, None] * h[source]).flatten(1), target, len(x), self.how)


class Network(nn.Module):
    def __init__(self, layer, how):
        super().__init__()
        self.first, self.second, self.last = layer(6, 8, how), layer(8, 8, how), nn.Linear(8, 3)

    def forward(self, x, edges):
        return self.last(self.second(self.first(x, edges).relu(), edges).relu())


@pytest.mark.parametrize(
    ("layer", "how"),
    [
        (Convolution, "index_add"),
        (Convolution, "scatter_add"),
        (Convolution, "index_put"),
        (Sample, "mean"),
        (Sample, "amax"),
        (Attention, "index_add"),
        (Attention, "scatter_add"),
    ],
)
def test_message_passing_is_pruned(layer, how):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(NODES, 6, generator=generator)
    edges = torch.randint(0, NODES, (2, EDGES), generator=generator)
    model = Network(layer, how).eval()
    report = secateur.prune(model, (x, edges), sparsity=0.5)
    assert report.verified
    assert (model.last.in_features, report.notes) == (4, ())
    assert model(x, edges).shape == (NODES, 3)


class Adjacency(nn.Module):
    """Graph convolution by a sparse matrix that is a buffer, or made from a list of edges in every run."""

    def __init__(self, layout, product):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.layout, self.product = layout, product
        generator = torch.Generator().manual_seed(0)
        edges, weights = torch.randint(0, NODES, (2, EDGES), generator=generator), torch.rand(EDGES)
        if layout == "made":
            self.register_buffer("edges", edges)
            self.register_buffer("weights", weights)
        else:
            matrix = torch.sparse_coo_tensor(edges, weights, (NODES, NODES), check_invariants=True).coalesce()
            self.register_buffer("matrix", matrix if layout == "coo" else matrix.to_sparse_csr())

    def gathered(self, h):
        if self.layout == "made":
            matrix = torch.sparse_coo_tensor(
                self.edges, self.weights.to(h.dtype), (NODES, NODES), check_invariants=True
            )
        else:
            matrix = self.matrix
        return torch.sparse.mm(matrix, h) if self.product == "sparse.mm" else matrix @ h

    def forward(self, x):
        return self.last(self.gathered(self.second(self.gathered(self.first(x)).relu())).relu())


@pytest.mark.filterwarnings("ignore:Sparse")
@pytest.mark.parametrize("layout", ["coo", "csr", "made"])
@pytest.mark.parametrize("product", ["sparse.mm", "@"])
def test_sparse_matrices_are_traced_and_what_they_multiply_is_pruned(layout, product):
    model = Adjacency(layout, product).eval()
    x = torch.rand(NODES, 6)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    report = secateur.prune(model, x, sparsity=0.5)
    assert (report.verified, report.notes) == (True, ())
    assert (model.first.out_features, model.last.in_features) == (4, 4)
    assert all(torch.equal(own.to_dense(), before[name].to_dense()) for name, own in model.named_buffers())
    assert model(x).shape == (NODES, 3)
