"""More networks to prune for `compatibility.py`: inputs that mean something, and less usual operations."""

import numpy as np
import torch
from compatibility_networks import Net, built, convs, pooled, situation
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence


def attended(self, h, **options):
    return self.m(h, h, h, need_weights=False, **options)[0]


def attention(width, *, alike=False):
    """Two heads; ``alike``: no queries, so that every position that is not masked weighs the same."""
    module = nn.MultiheadAttention(width, 2, batch_first=True)
    nn.init.normal_(module.in_proj_bias, std=0.1)
    if alike:
        module.in_proj_weight.data[:width] = module.in_proj_bias.data[:width] = 0
    return module


HEADS = ("m.in_proj_weight@3", "m.in_proj_bias@3")


@situation("activation: bare", "criterion `activation`, a bare parameter", kind="bare")
@situation("activation: norm", "criterion `activation`, weight norm", kind="norm")
@situation("activation: attention", "criterion `activation`, `nn.MultiheadAttention`", kind="attention")
@situation("activation: gru", "criterion `activation`, a GRU", kind="gru")
def listened(kind):
    def run(s, x):
        h = (x @ s.w.t() if kind == "bare" else s.c(x)).relu()
        h = {"attention": lambda: attended(s, h), "gru": lambda: s.g(h)[0]}.get(kind, lambda: h)()
        return s.f(h.mean(1))

    parts = {
        "bare": {"w": nn.Parameter(torch.randn(16, 16))},
        "attention": {"m": attention(16, alike=True)},
        "gru": {"g": nn.GRU(16, 16, batch_first=True)},
    }.get(kind, {})
    net = Net(run, **parts, **({} if kind == "bare" else {"c": nn.Linear(16, 16)}), f=nn.Linear(16, 3))
    gates = tuple(f"g.{part}_l0@3" for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    groups = {
        "bare": [("w",)],
        "norm": [("c",)],
        "gru": [("c",), gates],
        "attention": [("c", "m.out_proj"), HEADS],
    }
    inputs = lambda n: torch.randn(n, 5, 16)  # noqa: E731
    data = (torch.randn(32, 5, 16), torch.randint(0, 3, (32,)))
    task = built(
        net, groups[kind], inputs, even=True, theirs=None, ours={"criterion": "activation", "batch": data}
    )
    if kind == "norm":
        nn.utils.parametrizations.weight_norm(net.c)
        # A direction of length 0 is none.
        net.c.parametrizations.weight.original1.data[::2] = torch.rand(8, 16)
    return task


@situation("packed", "token ids and lengths, packed for an LSTM", kind="packed")
@situation("bags", "ids and offsets of an `EmbeddingBag`, beside dense features", kind="bags")
@situation("attention", "an attention whose scale 1/√d follows the width of its heads", kind="scale")
@situation("causal", "an attention mask of flags", kind="causal")
@situation("causal inf", "an attention mask of minus infinities", kind="inf")
@situation("durations", "a length regulator (`repeat_interleave` by given durations)", kind="durations")
def integers(kind):
    def run(s, x, more, *rest):
        if kind == "packed":
            packed = pack_padded_sequence(s.e(x), more, batch_first=True, enforce_sorted=False)
            return s.f(s.g(packed)[1][0][-1])
        if kind == "bags":
            return s.f((s.d(x) + s.bag(more, *rest)).relu())
        if kind == "durations":
            return s.f(s.a(s.l(x).relu().repeat_interleave(more, 1).movedim(1, 2)).relu().mean(2))
        h = s.e(x)
        return s.f(s.l(h + attended(s, h, attn_mask=more)).relu().mean(1))

    def inputs(n):
        ids, later = torch.randint(0, 50, (n, 8)), torch.ones(8, 8).triu(1).bool()
        filled = torch.zeros(8, 8).masked_fill(later, -torch.inf)
        bags = (torch.randn(n, 4), torch.randint(0, 50, (3 * n,)), torch.arange(0, 3 * n, 3))
        return {
            "packed": (ids, torch.arange(n) % 8 + 1),
            "bags": bags,
            "causal": (ids, later),
            "inf": (ids, filled),
            "scale": (ids, later & False),
            "durations": (torch.randn(n, 4, 24), torch.tensor([1, 3, 2, 4])),
        }[kind]

    parts = {
        "packed": {"e": nn.Embedding(50, 24), "g": nn.LSTM(24, 20, batch_first=True)},
        "bags": {"d": nn.Linear(4, 20), "bag": nn.EmbeddingBag(50, 20)},
        "durations": {"l": nn.Linear(24, 20), "a": nn.Conv1d(20, 20, 3)},
    }.get(
        kind, {"e": nn.Embedding(50, 24), "m": attention(24, alike=kind != "scale"), "l": nn.Linear(24, 20)}
    )
    net = Net(run, **parts, f=nn.Linear(20, 5))
    gates = tuple(f"g.{part}_l0@4" for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    groups = {"packed": [("e",), gates], "bags": [("d", "bag")], "durations": [("l",), ("a",)]}
    plain = [("e", "m.out_proj"), HEADS, ("l",)]
    heads = {"theirs": {"num_heads": {net.m: 2}}} if "m" in parts else {}
    told = {"told": "a number that follows a width"} if kind == "scale" else {}
    return built(net, groups.get(kind, plain), inputs, even=True, **heads, **told)


@situation("mean of positives", "a boolean mask over all dimensions, `h[h > 0].mean()`", kind="mean")
@situation("mask of channels", "a boolean mask over batch and channels", kind="rows")
@situation("assignment", "an assignment through a mask, `h[h < 0] = 0`", kind="assign")
@situation(
    "channel selection", "channels chosen by an index that NumPy reads from a parameter", kind="select"
)
@situation("searched cell", "an operation chosen by `int(alpha.argmax())` of a parameter", kind="cell")
def indices(kind):
    def run(s, x):
        h = s.a(x).relu()
        if kind == "select":
            h = h[:, np.flatnonzero(s.index.data.cpu().numpy())]
        if kind == "cell":
            h = (torch.relu, F.silu, torch.tanh)[int(s.alpha.argmax())](h)
        h = s.b(h)
        if kind == "mean":
            h = h * h[h > 0].mean()
        if kind == "rows":
            h = h[h.mean((2, 3)) > -1e9].view(h.shape)
        if kind == "assign":
            h = h.clone()
            h[h < 0] = 0
        return pooled(s, h.relu())

    own = {"index": nn.Parameter(torch.ones(16)), "alpha": nn.Parameter(torch.tensor([0.1, 0.9, 0.3]))}
    return convs(run, parts=own, groups=[("b",)] if kind == "select" else [("a",), ("b",)])


@situation("adjacency", "a graph network: an adjacency matrix by `index_put`", kind="index_put")
@situation("index_add", "a graph network: messages summed by `index_add_`", kind="index_add")
@situation("scatter_add", "a graph network: messages summed by `scatter_add_`", kind="scatter_add")
@situation("scatter_reduce", "a graph network: messages averaged by `scatter_reduce`", kind="scatter_reduce")
@situation(
    "graph attention", "a graph network: attention over edges (softmax of `scatter_add`)", kind="attention"
)
def graphs(kind):
    def gather(s, h, edges):
        source, target = edges
        zeros, at = torch.zeros_like(h), target[:, None].expand(-1, h.shape[1])
        if kind == "index_add":
            return zeros.index_add_(0, target, h[source])
        if kind == "scatter_add":
            return zeros.scatter_add_(0, at, h[source])
        if kind == "scatter_reduce":
            return zeros.scatter_reduce(0, at, h[source], "mean")
        if kind == "attention":
            weight = (s.left(h)[source] + s.right(h)[target]).exp()
            total = torch.zeros(len(h), 1, dtype=h.dtype).index_add_(0, target, weight)
            return zeros.index_add_(0, target, weight / total[target] * h[source])
        ones = torch.ones((), dtype=h.dtype)
        return torch.zeros(len(h), len(h), dtype=h.dtype).index_put((target, source), ones) @ h

    def run(s, x, edges):
        return s.f(gather(s, s.b(gather(s, s.a(x), edges).relu()).relu(), edges))

    edge = {"left": nn.Linear(24, 1), "right": nn.Linear(24, 1)} if kind == "attention" else {}
    net = Net(run, a=nn.Linear(16, 24), b=nn.Linear(24, 24), f=nn.Linear(24, 5), **edge)
    groups = [("a", "b")] if kind == "attention" else [("a",), ("b",)]
    return built(net, groups, lambda n: (torch.randn(9 * n, 16), torch.randint(0, 9 * n, (2, 40 * n))))


@situation("generator", "a generator: linear, `view(B, -1, 4, 4)`, transposed convolution", kind="view")
@situation("generator, width", "a generator: linear, `view(B, conv.in_channels, 4, 4)`", kind="width")
@situation("generator, last", "a generator: linear, a view with the channels last, `permute`", kind="last")
def generators(kind):
    def run(s, z):
        h = s.l(z)
        if kind == "last":
            h = h.view(len(z), 4, 4, -1).permute(0, 3, 1, 2)
        else:
            h = h.view(len(z), s.up.in_channels if kind == "width" else -1, 4, 4)
        return s.f(s.up(h.relu()).relu()).tanh()

    net = Net(run, l=nn.Linear(20, 512), up=nn.ConvTranspose2d(32, 16, 4, 2, 1), f=nn.Conv2d(16, 3, 3))
    return built(net, [("l@16" if kind == "last" else "l/16",), ("up",)], lambda n: torch.randn(n, 20))
