"""Networks and images to attack: what `compatibility.py` hands to the tools.

Every network is linear in a monotone function of each pixel, so that its weights say which images can be
fooled within ε: the class that gains most takes, pixel by pixel, one end of what ε and the box allow.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from compatibility_networks import Net
from scipy.optimize import linprog
from torch import nn

IMAGES, CLASSES, CLEARLY = 40, 2, 0.95


def same(x):
    return x


@dataclass(frozen=True)
class Threat:
    """One network and its images; see `judge_attacked` of compatibility_tools.py for what is done with it."""

    model: Any
    x: torch.Tensor
    y: torch.Tensor
    eps: float
    can: torch.Tensor
    """Which images can be fooled clearly: within 0.95 ε."""
    shown: Any = None
    """Data as they are handed over, where that is not (x, y)."""
    read: Callable = same
    """From the network's answer to logits."""
    bounds: tuple[float, float] = (0.0, 1.0)
    targets: torch.Tensor | None = None
    ours: dict[str, Any] = field(default_factory=dict)
    only: tuple[str, ...] = ("secateur", "foolbox", "torchattacks", "adv-lib", "ART")
    context: Callable = contextlib.nullcontext
    judge: Any = None
    """The network that examples are verified on, where the given one answers at random."""
    refuse: str = ""
    """What a tool would claim wrongly if it did not refuse."""
    normal: tuple[float, float] | None = None
    """Mean and deviation that the network wants and the tool is told."""
    mask: torch.Tensor | None = None
    """Where alone pixels may change."""
    average: int = 1  # how many forwards of a random network count as one
    size: Any = None
    """The ε that is handed over, where it is written differently."""


THREATS: dict[str, tuple] = {}
GRADIENT, SEARCH = ("pgd", "fmn"), ("square",)


def threat(name, sentence, attacks=GRADIENT, **settings):
    def enter(make):
        THREATS[name] = (sentence, attacks, lambda: make(**settings))
        return make

    return enter


def weights(reference, shape):
    """A linear network as W [K, D] and b [K], in float64."""
    size = int(np.prod(shape))
    with torch.no_grad():
        basis = torch.cat([torch.zeros(1, size), torch.eye(size)]).view(-1, *shape).double()
        answers = reference.double()(basis)
    reference.float()
    return (answers[1:] - answers[0]).t(), answers[0]


def gains(w, b, y, low, high):
    """The most by which each class can beat the label, with pixels from low to high [N, D]: [N, K]."""
    d = w[None] - w[y][:, None]
    most = torch.maximum(d * low[:, None], d * high[:, None]).sum(2) + b[None] - b[y][:, None]
    return most.scatter(1, y[:, None], -torch.inf)


def reachable(w, b, target, low, high):
    """Whether one class can be put above all others, by linear programming."""
    others = [k for k in range(len(b)) if k != target]
    slope = torch.cat([w[others] - w[target], torch.ones(len(others), 1)], 1).numpy()
    limits = [*zip(low.tolist(), high.tolist(), strict=True), (None, None)]
    cost = np.zeros(len(low) + 1)
    cost[-1] = -1
    return -linprog(cost, slope, (b[target] - b[others]).numpy(), bounds=limits).fun > 0


def made(
    *,
    shape=(1, 8, 8),
    net=None,
    f=same,
    before=None,
    after=None,
    black=False,
    bounds=(0.0, 1.0),
    targeted=False,
    target=None,
    mislabelled=False,
    narrow=False,
    masked=False,
    classes=CLASSES,
    factor=1.0,
    **settings,
):
    """A threat from its linear part ``net``, with what the network does before and after it."""
    low, high = bounds
    size, seed = int(np.prod(shape)), torch.Generator().manual_seed(3)
    net = net or nn.Sequential(nn.Flatten(), nn.Linear(size, classes))
    unit = torch.rand(IMAGES, *shape, generator=seed) * (0.2 if narrow else 1) + (0.4 if narrow else 0)
    if black:
        unit[:, :, : shape[1] // 2] = 0
    x = unit * (high - low) + low
    w, b = weights(net, shape)
    z = f(x).double().flatten(1) @ w.t() + b
    y = z.argmax(1)
    if mislabelled:
        y = torch.where(torch.arange(IMAGES) % 2 == 0, (y + 1) % classes, y)
    targets = (z.argmax(1) + 1) % classes if targeted else None
    if target is not None:
        targets, targeted = torch.full((IMAGES,), target), True

    right = z.argmax(1) == y

    if masked:
        settings["mask"] = torch.arange(8).expand(8, 8) < 4

    def ends(eps):
        eps = eps * settings.get("mask", 1)
        return [
            f(end).double().flatten(1) for end in ((x - eps).clamp(low, high), (x + eps).clamp(low, high))
        ]

    def fooled(eps):
        return (gains(w, b, y, *ends(eps)).amax(1) > 0) & right

    tried = (torch.linspace(0.002, 0.5, 250) * (high - low)).tolist()
    eps = round(next(e for e in tried if fooled(e).sum() > 0.6 * right.sum()) * (1.5 if targeted else 1), 4)
    can = fooled(CLEARLY * eps)
    if targeted:
        rows = zip(targets.tolist(), *ends(CLEARLY * eps), strict=True)
        can = torch.tensor([reachable(w, b, *row) for row in rows]) & (targets != y)
    run = lambda s, images: (after or same)(s.net((before or f)(images)))  # noqa: E731
    model = Net(run, net=net).eval()
    return Threat(model, x, y, eps * factor, can, bounds=bounds, targets=targets, **settings)


def remade(change, **settings):
    """A threat whose fields are changed by what ``change`` makes of it."""
    return replace(base := made(**settings), **change(base))


def wrapped(call, **settings):
    """The network as ``call`` makes it of the plain one."""
    return remade(lambda t: {"model": call(t)}, **settings)


def enter(name, sentence, attacks=GRADIENT, **settings):
    threat(name, sentence, attacks, **settings)(made)


enter("plain", "a linear layer on grey images")
enter(
    "infinite",
    "gradients that are infinite in black pixels (a square root)",
    f=lambda x: x.sqrt(),
    black=True,
)
enter(
    "spiky",
    "gradients that are huge in black pixels, `sqrt(x + 1e-8)`",
    f=lambda x: (x + 1e-8).sqrt(),
    black=True,
)
enter("double logits", "logits in float64", after=lambda z: z.double())
enter("half logits", "logits in float16", after=lambda z: z.half())
enter("squeeze", "a batch of one loses its dimension (`squeeze`)", after=lambda z: z.squeeze())
enter(
    "fixed batch",
    "a batch size that is fixed, as of an exported network",
    before=lambda x: x.reshape(IMAGES, 1, 8, 8),
)
enter("probabilities", "a network that returns probabilities", after=lambda z: z.softmax(1))
enter(
    "dict",
    "a network that returns a dict with `logits`",
    after=lambda z: {"logits": z, "features": z * 2},
    read=lambda out: out["logits"],
    ours={"logits": "logits"},
)
enter(
    "tuple",
    "a network that returns a tuple, logits first",
    after=lambda z: (z, 0.5 * z),
    read=lambda out: out[0],
    ours={"logits": 0},
)


@dataclass
class Answer:
    """As the outputs of Hugging Face's networks: fields, and no tensor."""

    logits: torch.Tensor
    loss: torch.Tensor | None = None


enter(
    "object",
    "a network that returns an object with `logits`",
    after=Answer,
    read=lambda out: out.logits,
    ours={"logits": "logits"},
)


def binary(z):
    """Two logits of one."""
    z = z.reshape(len(z), 1)
    return torch.cat([torch.zeros_like(z), z], 1)


def one(after):
    return made(narrow=True, after=lambda z: after(z[:, 1:] - z[:, :1]), read=binary)


threat("one logit", "one logit of a binary classifier, [N, 1]", after=same)(one)
threat("flat logit", "one logit of a binary classifier, [N]", after=lambda z: z[:, 0])(one)


class Cut(torch.autograd.Function):
    """Passes values, and no gradient."""

    forward = staticmethod(lambda ctx, x: x.clone())
    backward = staticmethod(lambda ctx, gradient: None)


def quantised(**settings):
    def change(t):
        return {"model": torch.ao.quantization.quantize_dynamic(t.model, {nn.Linear}, dtype=torch.qint8)}

    return remade(change, **settings)


NONE = "finds none, and does not say that there is no gradient"
COARSE = {"before": same, "after": lambda z: (1000 * z).round().long()}
threat("int8", "a dynamically quantised network, whose gradient is cut", ("pgd",), refuse=NONE)(quantised)
enter("cut", "a function whose backward returns None", ("pgd",), before=lambda x: Cut.apply(x), refuse=NONE)
enter("whole numbers", "logits that are whole numbers", ("pgd",), **COARSE, refuse=NONE)
threat("int8, search", "a dynamically quantised network", SEARCH, factor=2.0)(quantised)
enter(
    "cut, search", "a function whose backward returns None", SEARCH, before=lambda x: Cut.apply(x), factor=2.0
)
enter("whole numbers, search", "logits that are whole numbers", SEARCH, **COARSE, factor=2.0)
enter("plain, search", "a linear layer on grey images", SEARCH, factor=2.0)


class Mean(nn.Module):
    """Normalises in place, as Normalize(inplace=True)."""

    def forward(self, x):
        return x.sub_(0.3).div_(0.35)


enter("in place", "a network that writes into its input", f=lambda x: (x - 0.3) / 0.35, before=Mean())
enter(
    "in place, search",
    "a network that writes into its input",
    SEARCH,
    f=lambda x: (x - 0.3) / 0.35,
    before=Mean(),
    factor=2.0,
)


def autocast(channels):
    shape = (channels, 8, 8)
    net = nn.Sequential(nn.Conv2d(channels, 8, 3), nn.Flatten(), nn.Linear(288, CLASSES))

    def call(t):
        def run(s, x):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                z = s.net(x)
            return z.float()

        return Net(run, net=net).eval()

    return wrapped(call, shape=shape, net=net)


threat("autocast", "a forward under bfloat16 autocast, grey images", channels=1)(autocast)
threat("autocast, colour", "a forward under bfloat16 autocast, colour images", channels=3)(autocast)
