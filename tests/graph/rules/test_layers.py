"""Every kind of layer is pruned with proof: the smallest network that has it, and what is left of it."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import secateur
from graph.networks import Body, images, pruned


class FrozenNorm(nn.Module):
    """Batch norm whose four vectors are buffers, as detection backbones have it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, torch.rand(channels) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight * (self.running_var + 1e-5).rsqrt()
        shift = self.bias - self.running_mean * scale
        return x * scale.reshape(1, -1, 1, 1) + shift.reshape(1, -1, 1, 1)


class Layered(Body):
    """One layer on 24 channels."""

    def __init__(self, layer: nn.Module, width: int = 24) -> None:
        super().__init__(width, layer=layer)

    def middle(self, x: Tensor) -> Tensor:
        return self.layer(x)


LAYERS = {
    "synchronised batch norm": (nn.SyncBatchNorm(24), "num_features", 12),
    "instance norm": (nn.InstanceNorm2d(24, affine=True, track_running_stats=True), "num_features", 12),
    "instance norm of the image": (nn.InstanceNorm2d(24, affine=True), "num_features", 12),
    "group norm": (nn.GroupNorm(4, 24), "num_channels", 12),
    "prelu": (nn.PReLU(24), "num_parameters", 12),
    "transposed": (nn.ConvTranspose2d(24, 24, 3, 2), "out_channels", 12),
    "grouped": (nn.Conv2d(24, 24, 3, groups=4), "in_channels", 12),
    "grouped transposed": (nn.ConvTranspose2d(24, 24, 3, groups=4), "in_channels", 12),
    "depthwise transposed": (nn.ConvTranspose2d(24, 24, 3, groups=24), "groups", 12),
}


@pytest.mark.parametrize("kind", sorted(LAYERS))
def test_layers_are_pruned_and_say_so(kind):
    layer, attribute, left = LAYERS[kind]
    net = Layered(layer)
    pruned(net)
    assert getattr(net.layer, attribute) == left
    assert (net.stem.out_channels, net.head.in_features) == (12, 12)
    assert net(images()).shape == (2, 4)


def test_a_frozen_batch_norm_goes_with_its_channels():
    net = Layered(FrozenNorm(24))
    pruned(net)
    assert {name: len(buffer) for name, buffer in net.layer.named_buffers()} == {
        "weight": 12,
        "bias": 12,
        "running_mean": 12,
        "running_var": 12,
    }


@pytest.mark.parametrize("spatial", [1, 3])
def test_convolutions_of_other_dimensions_are_followed(spatial):
    conv, norm = {1: (nn.Conv1d, nn.BatchNorm1d), 3: (nn.Conv3d, nn.BatchNorm3d)}[spatial]
    net = nn.Sequential(conv(3, 8, 3), norm(8), nn.PReLU(8), conv(8, 6, 3), nn.Flatten(), nn.LazyLinear(4))
    x = torch.rand(2, 3, *[7] * spatial, generator=torch.Generator().manual_seed(0))
    net.eval()(x)
    pruned(net, x=x)
    assert (net[0].out_channels, net[3].in_channels, net[3].out_channels) == (4, 4, 3)


class Rms(nn.Module):
    def __init__(self, written: bool) -> None:
        super().__init__()
        self.norm, self.written = nn.RMSNorm(24), written

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        if self.written:
            x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.norm.weight
        else:
            x = self.norm(x)
        return x.permute(0, 3, 1, 2)


@pytest.mark.parametrize("written", [True, False])
def test_rms_norms_take_their_statistics_over_what_is_left(written):
    net = Layered(Rms(written))
    report = pruned(net)
    assert net.layer.norm.normalized_shape == (12,)
    assert report.changed_by_design


class Pairs(Body):
    """Bilinear: two views of the channels, multiplied by a matrix for each output."""

    def __init__(self) -> None:
        super().__init__(8, left=nn.Linear(24, 6), right=nn.Linear(24, 10), pair=nn.Bilinear(6, 10, 8))

    def middle(self, x: Tensor) -> Tensor:
        x = x.mean((2, 3))
        return self.pair(self.left(x), self.right(x)).relu()[..., None, None]


def test_bilinear_layers_lose_all_three_dimensions():
    net = Pairs()
    pruned(net)
    pair = net.pair
    assert (pair.in1_features, pair.in2_features, pair.out_features) == (3, 5, 4)
    assert pair.weight.shape == (4, 3, 5)


class Einsum(Body):
    """Attention over positions in index notation, with one matrix per head as a bare parameter."""

    def __init__(self) -> None:
        super().__init__(24)
        self.q, self.k, self.v = (nn.Parameter(torch.randn(24, 4, 6)) for _ in range(3))
        self.out = nn.Parameter(torch.randn(4, 6, 24))

    def middle(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2)
        q, k, v = (torch.einsum("bcn,chd->bhnd", tokens, w) for w in (self.q, self.k, self.v))
        weights = torch.einsum("bhnd,bhmd->bhnm", q, k).softmax(-1)
        mixed = torch.einsum("bhnm,bhmd->bhnd", weights, v)
        return torch.einsum("bhnd,hdc->bcn", mixed, self.out)[..., None]


def test_einsum_is_followed_letter_by_letter():
    net = Einsum()
    graph = secateur.trace(net, images())
    coupled = {frozenset(str(member) for member in group.members) for group in graph.groups}
    assert frozenset({"q[2]", "k[2]"}) in coupled
    assert frozenset({"v[2]", "out[1]"}) in coupled
    pruned(net)
    assert net.q.shape == (12, 2, 3)
    assert net.v.shape == (12, 2, 3)
    assert net.out.shape == (2, 3, 12)


class Words(nn.Module):
    """Embedded words with a class token and positions, mean or sum of a bag, and a shared output matrix."""

    def __init__(self, bag: bool = False) -> None:
        super().__init__()
        self.words = nn.EmbeddingBag(20, 16) if bag else nn.Embedding(20, 16)
        self.bag, self.position, self.head = bag, nn.Embedding(8, 16), nn.Linear(16, 4)
        self.token, self.mix = nn.Parameter(torch.randn(1, 1, 16)), nn.Linear(16, 16)

    def forward(self, words: Tensor) -> Tensor:
        if self.bag:
            return self.head(self.words(words).relu())
        x = self.words(words) + self.position(torch.arange(words.shape[1]))
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
        x = x + self.mix(x).relu()
        return self.head(x[:, 0] + x.mean(1))


@pytest.mark.parametrize("bag", [False, True])
def test_embeddings_lose_width_and_keep_their_words(bag):
    net = Words(bag)
    words = torch.randint(0, 20, (2, 8), generator=torch.Generator().manual_seed(0))
    pruned(net, x=words)
    assert net.words.weight.shape == (20, 8)
    assert net.words.embedding_dim == net.head.in_features == 8


class Moves(Body):
    """Data movement that lets channels pass."""

    def __init__(self, kind: str) -> None:
        super().__init__(24)
        self.kind = kind
        self.table = nn.Parameter(torch.randn(24, 5))
        self.register_buffer("pick", torch.arange(144).reshape(1, 1, 12, 12) * 5 % 12)

    def middle(self, x: Tensor) -> Tensor:
        scale = self.table.mean(1)
        if self.kind == "roll":
            return torch.roll(x, (2, 3), (2, 3)) * scale[:, None, None]
        if self.kind == "flip":
            return x.flip(3) + scale[None, :, None, None]
        if self.kind == "gather":
            return x.gather(2, self.pick.expand_as(x))
        if self.kind == "take":
            return torch.take_along_dim(x, self.pick, 3)
        if self.kind == "expand":
            return x + scale[:, None, None].expand(24 if scale is None else len(scale), 1, x.shape[-1])
        if self.kind == "stack":
            return torch.stack([x, x.square(), x.sin()], 0).amax(0)
        if self.kind == "index":
            return x[:, :, [3, 1, 2]][:, :, :, torch.tensor([0, 5])]
        return x.repeat(1, 1, 2, 1).unfold(2, 2, 2).sum(-1)


@pytest.mark.parametrize("kind", ["roll", "flip", "gather", "take", "expand", "stack", "index", "repeat"])
def test_data_movement_lets_channels_pass(kind):
    net = Moves(kind)
    pruned(net)
    assert (net.stem.out_channels, net.head.in_features) == (12, 12)


class Shuffled(Body):
    """Grouped convolutions with a channel shuffle in between, written out or torch's."""

    def __init__(self, written: bool) -> None:
        super().__init__(24, first=nn.Conv2d(24, 24, 1, groups=2), second=nn.Conv2d(24, 24, 3, groups=2))
        self.groups, self.written = 2, written

    def middle(self, x: Tensor) -> Tensor:
        x = self.first(x)
        if not self.written:
            return self.second(F.channel_shuffle(x, self.groups))
        batch, channels, height, width = x.shape
        x = x.view(batch, self.groups, channels // self.groups, height, width).transpose(1, 2).flatten(1, 2)
        return self.second(x)


@pytest.mark.parametrize("written", [True, False])
def test_a_channel_shuffle_keeps_every_group_equal(written):
    net = Shuffled(written)
    pruned(net)
    assert (net.first.in_channels, net.second.in_channels, net.second.out_channels) == (12, 12, 12)
    assert net(images()).shape == (2, 4)


class Pixels(Body):
    def __init__(self) -> None:
        super().__init__(24, wide=nn.Conv2d(24, 40, 1), narrow=nn.Conv2d(40, 24, 1))

    def middle(self, x: Tensor) -> Tensor:
        return self.narrow(F.pixel_unshuffle(F.pixel_shuffle(self.wide(x), 2), 2))


def test_pixel_shuffles_take_four_channels_at_once():
    net = Pixels()
    graph = secateur.trace(net, images())
    assert graph["wide.weight[0]"].size == 10
    pruned(net)
    assert net.wide.out_channels == net.narrow.in_channels == 20
