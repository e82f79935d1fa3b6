"""Small networks of every shape that the laws run over."""

from collections.abc import Callable
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

import secateur


class ChannelsLastNorm(nn.Module):
    """LayerNorm over the channels of an image."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


NORMALISATIONS: dict[str, Callable[[int], nn.Module]] = {
    "none": lambda channels: nn.Identity(),
    "batch": nn.BatchNorm2d,
    "group": lambda channels: nn.GroupNorm(2, channels),
    "layer": ChannelsLastNorm,
}
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
    "hardswish": nn.Hardswish,
}


def unit(inside: int, outside: int, norm: str, act: str, **conv: Any) -> nn.Sequential:
    kernel = conv.pop("kernel_size", 3)
    layer = nn.Conv2d(inside, outside, kernel, padding=kernel // 2, **conv)
    return nn.Sequential(layer, NORMALISATIONS[norm](outside), ACTIVATIONS[act]())


class Residual(nn.Module):
    """x + f(x), with a projection where the width changes."""

    def __init__(self, inside: int, outside: int, norm: str, act: str) -> None:
        super().__init__()
        self.first = unit(inside, outside, norm, act)
        self.second = nn.Sequential(nn.Conv2d(outside, outside, 3, padding=1), NORMALISATIONS[norm](outside))
        self.shortcut = nn.Identity() if inside == outside else nn.Conv2d(inside, outside, 1, bias=False)
        self.act = ACTIVATIONS[act]()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.second(self.first(x)) + self.shortcut(x))


class Concat(nn.Module):
    """Two branches side by side, or a dense connection that keeps the input."""

    def __init__(self, inside: int, norm: str, act: str, *, dense: bool) -> None:
        super().__init__()
        self.left = unit(inside, 6, norm, act)
        self.right = nn.Identity() if dense else unit(inside, 4, norm, act, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.left(x), self.right(x)], dim=1)


class Squeeze(nn.Module):
    """Squeeze and excitation: a gate per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(channels, 4, 1), nn.Conv2d(4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.up(torch.relu(self.down(x.mean((2, 3), keepdim=True)))))


class Network(nn.Module):
    """A body of blocks and a head."""

    def __init__(self, body: list[nn.Module], width: int, head: str) -> None:
        super().__init__()
        self.body = nn.Sequential(*body)
        self.head_kind = head
        if head == "flatten":
            self.head: nn.Module = nn.Sequential(
                nn.Flatten(), nn.Linear(width * 16, 8), nn.ReLU(), nn.Linear(8, 5)
            )
        elif head == "norm":
            self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 5))
        else:
            self.head = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        x = nn.functional.adaptive_avg_pool2d(x, 4 if self.head_kind == "flatten" else 1)
        return self.head(x if self.head_kind == "flatten" else x.flatten(1))


BLOCKS = ("plain", "residual", "project", "concat", "dense", "grouped", "depthwise", "squeeze", "pool")


def build(blocks: list[str], norm: str, act: str, head: str, seed: int = 0) -> Network:
    """A network with the given blocks; its weights depend on the seed alone."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        width = 8
        body: list[nn.Module] = [unit(3, width, norm, act)]
        for block in blocks:
            if block == "plain":
                body.append(unit(width, 12, norm, act))
                width = 12
            elif block in {"residual", "project"}:
                outside = width if block == "residual" else width + 4
                body.append(Residual(width, outside, norm, act))
                width = outside
            elif block in {"concat", "dense"}:
                body.append(Concat(width, norm, act, dense=block == "dense"))
                width = 6 + (width if block == "dense" else 4)
            elif block == "grouped":
                body.append(unit(width, 16, norm, act, groups=2))
                width = 16
            elif block == "depthwise":
                body.append(unit(width, width * 2, norm, act, groups=width))
                width *= 2
            elif block == "squeeze":
                body.append(Squeeze(width))
            elif block == "pool":
                body.append(nn.MaxPool2d(3, 2, 1))
        net = Network(body, width, head)
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.running_mean, std=0.3)
                nn.init.uniform_(module.running_var, 0.5, 2)
                nn.init.normal_(module.weight)
                nn.init.normal_(module.bias)
    return net.eval()


architectures = st.builds(
    build,
    st.lists(st.sampled_from(BLOCKS), min_size=1, max_size=4),
    st.sampled_from(sorted(NORMALISATIONS)),
    st.sampled_from(sorted(ACTIVATIONS)),
    st.sampled_from(["flatten", "norm", "linear"]),
    st.integers(0, 3),
)


def images(batch: int = 2, size: int = 12) -> Tensor:
    return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(5))


class Body(nn.Module):
    """A stem of 24 channels, something in between, and a head on its mean."""

    def __init__(self, width: int = 24, **parts: nn.Module) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 24, 3, padding=1), nn.Linear(width, 4)
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.middle(self.stem(x).relu()).mean((2, 3)))

    def middle(self, x: Tensor) -> Tensor:
        raise NotImplementedError


def pruned(net, sparsity=0.5, x=None):
    """The report of pruning a network that must be proved, with nothing left whole."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for parameter in net.parameters():
            nn.init.normal_(parameter, std=0.3)
    report = secateur.prune(net, images() if x is None else x, sparsity=sparsity)
    assert report.max_error <= 1e-10
    assert not [note for note in report.notes if note.startswith("not pruned")]
    return report
