"""Networks to prune, half of whose channels are dead by construction, for `compatibility.py`.

The weights, offsets and scales that write a dead channel are zero, so that it is zero for every input, and
its L1 score is the lowest of its layer. Layers that may be pruned have as many dead channels as live ones.
"""

import math
import re
from collections import UserDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune
from torch.nn.utils import spectral_norm as old_spectral_norm
from torch.nn.utils import weight_norm as old_weight_norm


class Net(nn.Module):
    """Named parts, and a function of them and the inputs."""

    def __init__(self, run, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, nn.ModuleList(part) if isinstance(part, list) else part)
        self.run = run

    def forward(self, *args, **kwargs):
        return self.run(self, *args, **kwargs)


@dataclass(frozen=True)
class Task:
    """One network to prune; see `judge_pruned` of compatibility_tools.py for what is done with it."""

    model: nn.Module
    inputs: Callable[[int], Any]
    """Inputs of a batch of this size, drawn anew at every call."""
    groups: tuple[tuple[str, ...], ...]
    """Which parts write the dead channels; parts of one group share them."""
    example: Any = None
    example_size: int = 2
    fresh: Callable[[int], Any] | None = None
    """The inputs on which outputs are compared, where they are of another kind than the example."""
    ours: dict[str, Any] = field(default_factory=dict)
    theirs: dict[str, Any] | None = field(default_factory=dict)
    """Options of Torch-Pruning; None where it has no such thing."""
    last: tuple[str, ...] = ("f",)
    """Layers that write the outputs: Torch-Pruning wants to be told."""
    prepare: Callable[[nn.Module], Any] | None = None
    """Done to the dense and to the pruned network before they are compared."""
    unmoved: str = ""
    """A buffer that must hold what it held before the tool looked at the network."""
    told: str = ""
    """A part that the example does not reach; a tool that says so has not failed."""
    rows: str = ""
    """A layer without dead channels: whichever rows are kept, the outputs are those without the others."""
    trains: bool = True
    data: tuple | None = None


SITUATIONS: dict[str, tuple[str, Callable[[], Task]]] = {}


def situation(name, sentence, **settings):
    def enter(make):
        SITUATIONS[name] = (sentence, lambda: make(**settings))
        return make

    return enter


ADDRESS = re.compile(r"(?P<name>[\w.]+)(?P<dim>:\d)?(?P<repeat>@\d+)?(?P<block>/\d+)?")


def written(model, address):
    """Views [channels, repeats, block, ...] of the tensors that an address names, weight and bias.

    ``layer``, ``table:1`` (the dimension), ``gates@4`` (four of each channel, one block after another),
    ``linear/16`` (sixteen rows a channel).
    """
    name, dim, repeat, block = ADDRESS.fullmatch(address).group("name", "dim", "repeat", "block")
    home, _, leaf = name.rpartition(".")
    part = getattr(model.get_submodule(home), leaf)
    across = isinstance(part, (nn.Embedding, nn.EmbeddingBag, nn.ConvTranspose2d))
    tensors = [part] if isinstance(part, torch.Tensor) else [part.weight, getattr(part, "bias", None)]
    dims = [int(dim[1:]) if dim else int(across), 0]
    many, wide = (int(text[1:]) if text else 1 for text in (repeat, block))
    return [
        tensor.data.movedim(at, 0).unflatten(0, (many, -1, wide)).movedim(1, 0)
        for tensor, at in zip(tensors, dims, strict=False)
        if tensor is not None
    ]


def deaden(model, groups, *, even=False):
    """Set to zero what writes half of the channels of every group."""
    for number, group in enumerate(groups):
        size = len(written(model, group[0])[0])
        order = torch.randperm(size, generator=torch.Generator().manual_seed(number))
        dead = torch.arange(0, size, 2) if even else order[: size // 2]
        for address in group:
            for tensor in written(model, address):
                if len(tensor) != size:
                    raise AssertionError(f"{address} has {len(tensor)} channels, {group[0]} {size}")
                tensor[dead] = 0
    return model.eval()


def built(net, groups, inputs, *, even=False, **settings):
    return Task(deaden(net, groups, even=even), inputs, tuple(groups), **settings)


def images(n, size=8):
    return torch.rand(n, 3, size, size)


def pooled(self, h):
    return self.f(h.mean((2, 3)))


def convs(run, *, groups=(("a",), ("b",)), inputs=images, **settings):
    parts = {"a": nn.Conv2d(3, 16, 3), "b": nn.Conv2d(16, 24, 3), "f": nn.Linear(24, 5)}
    parts |= settings.pop("parts", {})
    return built(Net(run, **parts), groups, inputs, **settings)


@situation("plain", "two convolutions and a linear layer")
def plain():
    return convs(lambda s, x: pooled(s, s.b(s.a(x).relu()).relu()))


@situation("labels", "a network that returns confidence and label, not logits")
def labels():
    def run(s, x):
        confidence, label = s.f(s.a(x).relu()).softmax(1).max(1)
        return {"confidence": confidence, "label": label}

    net = Net(run, a=nn.Linear(8, 16), f=nn.Linear(16, 10))
    return built(net, [("a",)], lambda n: torch.rand(n, 8) * 8 - 4)


@situation("experts", "a mixture of experts that asks the best one (`max` of the gates, and its index)")
def experts():
    def run(s, x):
        p, best = s.gate(x).softmax(1).max(1)
        return s.f(sum(e(x) * (p * (best == k))[:, None] for k, e in enumerate(s.each)))

    net = Net(run, gate=nn.Linear(8, 4), each=[nn.Linear(8, 8) for _ in range(4)], f=nn.Linear(8, 3))
    return built(net, [tuple(f"each.{k}" for k in range(4))], lambda n: torch.randn(n, 8))


@situation("codes", "vector quantisation: the nearest row of a code book (`argmin`)")
def codes():
    def run(s, x):
        h = s.b(s.a(x).relu())
        nearest = torch.cdist(h, s.book).argmin(1)
        return s.f(s.book[nearest] + h)

    parts = {"a": nn.Linear(8, 16), "b": nn.Linear(16, 12), "f": nn.Linear(12, 5)}
    net = Net(run, **parts, book=nn.Parameter(torch.randn(6, 12)))
    return built(net, [("a",), ("b", "book:1")], lambda n: torch.randn(n, 8))


@situation("positions", "a table of 64 positions, an example of 10 and a sentence of 40")
def positions():
    def run(s, ids):
        h = s.e(ids) + s.pos[:, : ids.shape[1]]
        return s.f((h + s.down(F.gelu(s.up(h)))).mean(1))

    net = Net(
        run,
        e=nn.Embedding(50, 24),
        pos=nn.Parameter(torch.randn(1, 64, 24)),
        up=nn.Linear(24, 48),
        down=nn.Linear(48, 24),
        f=nn.Linear(24, 5),
    )
    return built(
        net,
        [("e", "pos:2", "down"), ("up",)],
        lambda n: torch.randint(0, 50, (n, 10)),
        fresh=lambda n: torch.randint(0, 50, (n, 40)),
    )


@situation("sinusoids", "a fixed position table in a buffer, longer than the input", kind="table")
@situation("numpy", "a buffer read as a number (`.numpy()`)", kind="numpy")
@situation("front end", "a front end of two buffers that are multiplied in", kind="front")
def buffers(kind):
    def run(s, x):
        if kind == "front":
            x = (x @ s.w1.t()).abs() @ s.w2.t()
        h = s.e(x)
        if kind == "table":
            h = h + s.pe[: x.shape[1]]
        if kind == "numpy":
            h = h.clamp(-1, float(s.limits.cpu().numpy()[2]))
        return s.f(s.m(h).relu().mean(1))

    net = Net(run, e=nn.Linear(4, 24), m=nn.Linear(24, 32), f=nn.Linear(32, 5))
    angle = torch.arange(64)[:, None] * torch.exp(torch.arange(0, 24, 2) * (-math.log(1e4) / 24))
    tables = {"pe": torch.cat([angle.sin(), angle.cos()], 1), "limits": torch.tensor([0.0, 0.2, 0.4])}
    for name, table in {**tables, "w1": torch.randn(16, 4), "w2": torch.randn(4, 16)}.items():
        net.register_buffer(name, table)
    groups = [("e", "pe:1") if kind == "table" else ("e",), ("m",), *([("w2",)] if kind == "front" else [])]
    return built(net, groups, lambda n: torch.randn(n, 10, 4))


@situation("weight norm", "weight norm (torch's parametrisation)", kind="weight norm")
@situation("old weight norm", "weight norm (the older hook)", kind="old weight norm")
@situation("masks", "weights masked by `torch.nn.utils.prune`", kind="masks")
@situation("spectral norm", "spectral norm (torch's parametrisation)", kind="spectral norm")
@situation("old spectral norm", "spectral norm (the older hook)", kind="old spectral norm")
@situation(
    "orthogonal",
    "orthogonal weights (no row can be dead; compared: the rows that are left, and the others zeroed)",
    kind="orthogonal",
)
def computed(kind):
    task = convs(lambda s, x: pooled(s, s.b(F.leaky_relu(s.a(x), 0.2)).relu()))
    a = task.model.a
    live = a.weight.detach().abs().sum((1, 2, 3)) > 0
    if kind == "weight norm":  # the length of the direction means nothing: the dead ones are the longest
        parametrizations.weight_norm(a)
        a.parametrizations.weight.original1.data[~live] = torch.rand(8, 3, 3, 3) * 9
    if kind == "old weight norm":
        old_weight_norm(a)
        a.weight_v.data[~live] = torch.rand(8, 3, 3, 3) * 9
    if kind == "masks":
        prune.custom_from_mask(a, "weight", live.view(-1, 1, 1, 1).expand_as(a.weight).float())
        a.weight_orig.data[~live] = torch.rand(8, 3, 3, 3) * 9
    norm = {"spectral norm": parametrizations.spectral_norm, "old spectral norm": old_spectral_norm}.get(kind)
    if norm:
        norm(a), norm(task.model.b)
        task.model.train()
        with torch.no_grad():
            for _ in range(20):
                task.model(images(2))
    if kind == "orthogonal":
        run = lambda s, x: s.f(s.b(s.a(x)).relu())  # noqa: E731
        net = Net(run, a=nn.Linear(16, 16), b=nn.Linear(16, 24), f=nn.Linear(24, 5))
        parametrizations.orthogonal(net.a)
        return built(net, [("b",)], lambda n: torch.randn(n, 16), rows="a")
    with torch.no_grad():
        task.model.eval()(images(2))
    return task


@situation("list", "one argument that is a list of tensors", kind="list")
@situation("dict", "one argument that is a dict of tensors", kind="dict")
@situation("flag", "a keyword that is a flag; the answer is then a dict", kind="flag")
@situation("number", "a keyword that is a number", kind="number")
@situation("none", "a None between two tensors", kind="none")
@situation("batch encoding", "keywords in a `UserDict`, as a tokeniser gives them", kind="encoding")
def trees(kind):
    def run(s, x, mask=None, e=None, features=False, scale=1.0):
        if isinstance(x, (list, dict)):
            x, e = x.values() if isinstance(x, dict) else x
        h = s.a2(s.a1(x).relu()).relu() + (0 if e is None else s.b(e))
        y = s.f(h) * scale
        return {"y": y, "size": h.abs().sum(1)} if features else y

    def inputs(n):
        x, e = torch.randn(n, 6), torch.randn(n, 6)
        return {
            "list": ([x, e],),
            "dict": ({"x": x, "e": e},),
            "flag": {"x": x, "features": True},
            "number": {"x": x, "scale": 2.0},
            "none": (x, None, e),
            "encoding": UserDict(x=x, e=e),
        }[kind]

    net = Net(run, a1=nn.Linear(6, 16), a2=nn.Linear(16, 12), b=nn.Linear(6, 12), f=nn.Linear(12, 5))
    used = ("a2",) if kind in ("flag", "number") else ("a2", "b")
    return built(net, [("a1",), used], inputs)
