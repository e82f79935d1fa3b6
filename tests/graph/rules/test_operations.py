"""Single operations: what each rule carries along, on the smallest networks that have it."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import secateur
from graph.networks import Body, images, pruned
from secateur.errors import UserError


class CutAt(Body):
    """A dual path: some channels are added, the others go another way; the border is an attribute."""

    def __init__(self, border: int) -> None:
        super().__init__(8, left=nn.Conv2d(border, 8, 1), right=nn.Conv2d(24 - border, 8, 1))
        self.border = border

    def middle(self, x):
        return self.left(x[:, : self.border]) + self.right(x[:, self.border :])


@pytest.mark.parametrize("border", [16, 12, 20])
def test_channels_cut_at_a_position_keep_their_share_on_both_sides(border):
    net = CutAt(border)
    pruned(net)
    assert net.border == border // 2
    assert (net.left.in_channels, net.right.in_channels) == (border // 2, 12 - border // 2)


class EverySecond(Body):
    def __init__(self):
        super().__init__(8, left=nn.Conv2d(12, 8, 1), right=nn.Conv2d(12, 8, 1))

    def middle(self, x):
        return self.left(x[:, ::2]) + self.right(x[:, 1::2])


def test_every_second_channel_goes_with_its_neighbour():
    net = EverySecond()
    graph = secateur.trace(net, images())
    assert [group.size for group in graph.groups] == [12, 8]
    pruned(net, 0.3)
    assert net.left.in_channels == net.right.in_channels == 8


class Windows(Body):
    """Overlapping windows of keys and values, as halo attention reads them."""

    def __init__(self):
        super().__init__(24, mix=nn.Conv2d(24, 24, 1))

    def middle(self, x):
        windows = F.pad(x, [1, 1, 1, 1]).unfold(2, 6, 4).unfold(3, 6, 4)
        return self.mix(windows.mean((4, 5)))


class Folded(Body):
    """Patches of an image as columns, weighed and put together again, as outlook attention does."""

    def __init__(self):
        super().__init__(24, weigh=nn.Linear(24, 9))

    def middle(self, x):
        patches = F.unfold(x, 3, padding=1).view(x.shape[0], x.shape[1], 9, -1)
        weights = self.weigh(x.flatten(2).transpose(1, 2)).softmax(-1)
        patches = patches * weights.transpose(1, 2).unsqueeze(1)
        return F.fold(patches.flatten(1, 2), x.shape[2:], 3, padding=1)


class Scales(Body):
    """A convolution of kernel 1 over stacked scales: the channels are its positions."""

    def __init__(self):
        super().__init__(24, blend=nn.Conv1d(2, 1, 1))

    def middle(self, x):
        both = torch.stack([x.mean((2, 3)), x.amax((2, 3))], 1)
        return self.blend(both).squeeze(1)[..., None, None]


class Blurred(Body):
    """One fixed kernel, repeated for as many channels as there are."""

    def __init__(self):
        super().__init__(24)
        self.register_buffer("kernel", torch.rand(1, 1, 3, 3))

    def middle(self, x):
        return F.conv2d(x, self.kernel.expand(x.shape[1], -1, -1, -1), groups=x.shape[1], stride=2)


@pytest.mark.parametrize("kind", [Windows, Folded, Scales, Blurred])
def test_windows_patches_and_pointwise_kernels_let_channels_pass(kind):
    net = kind()
    pruned(net)
    assert (net.stem.out_channels, net.head.in_features) == (12, 12)


class Standardised(nn.Conv2d):
    """A convolution whose weights are standardised by a batch norm over its inputs and kernel."""

    def forward(self, x):
        weight = self.weight.reshape(1, self.out_channels, -1)
        weight = F.batch_norm(weight, None, None, training=True, momentum=0.0).reshape_as(self.weight)
        return F.conv2d(x, weight, self.bias, padding=1)


class Standard(Body):
    def __init__(self):
        super().__init__(24, conv=Standardised(24, 24, 3))

    def middle(self, x):
        return self.conv(x)


def test_weights_standardised_by_a_batch_norm_are_pruned():
    net = Standard()
    report = pruned(net)
    assert net.conv.weight.shape == (12, 12, 3, 3)
    assert any("native_batch_norm" in place for place in report.changed_by_design)


class Gated(Body):
    """Half of the channels opens or shuts the other half."""

    def __init__(self):
        super().__init__(12, wide=nn.Conv2d(24, 24, 1), gate=nn.GLU(1))

    def middle(self, x):
        return self.gate(self.wide(x))


def test_a_gate_goes_with_what_it_opens():
    net = Gated()
    report = pruned(net)
    assert (net.stem.out_channels, net.wide.out_channels, net.head.in_features) == (12, 12, 6)
    removed = report.plan.removed()["wide.weight", 0]
    assert [index + 12 for index in removed[:6]] == list(removed[6:])


class Lengths(Body):
    """Weights as lengths and directions; in the older way a hook makes them before every call."""

    def __init__(self, weight_norm):
        super().__init__(24, conv=weight_norm(nn.Conv2d(24, 24, 3)))

    def middle(self, x):
        return self.conv(x)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated:FutureWarning")
@pytest.mark.parametrize("how", ["parametrization", "hook"])
def test_weights_of_length_and_direction_are_pruned(how):
    weight_norm = nn.utils.parametrizations.weight_norm if how == "parametrization" else nn.utils.weight_norm
    net = Lengths(weight_norm)
    report = pruned(net)
    assert {parameter.shape for parameter in net.conv.parameters()} == {(12, 12, 3, 3), (12, 1, 1, 1), (12,)}
    assert (net.conv.in_channels, net.conv.out_channels) == (12, 12)
    # The length of a direction is that of the channels that are left.
    assert any("weight_norm" in place for place in report.changed_by_design)


class Done(Body):
    """Something that is done to 24 channels."""

    def __init__(self, what):
        super().__init__(24)
        self.what = what

    def middle(self, x: Tensor) -> Tensor:
        return self.what(x)


def turned(x):
    """Half a turn in the complex plane, at every frequency."""
    return torch.fft.ifft2(torch.fft.fft2(x) * -1).real


def unpooled(x):
    y, where = F.max_pool2d(x, 2, return_indices=True)
    return F.max_unpool2d(y, where, 2)


def shrunk(x):
    grid = F.affine_grid(torch.eye(2, 3).expand(len(x), 2, 3), [len(x), 1, 5, 5], align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)


POSITIONS = {
    "sort": lambda x: x.sort(2).values,
    "topk": lambda x: x.flatten(2).topk(5, 2).values[..., None],
    "kthvalue": lambda x: x.flatten(2).kthvalue(3, 2, keepdim=True).values[..., None],
    "median": lambda x: x.flatten(2).median(2, keepdim=True).values[..., None],
    "range": lambda x: torch.sub(*reversed(x.flatten(2).aminmax(dim=2, keepdim=True)))[..., None],
    "running sum": lambda x: x.cumsum(3),
    "running maximum": lambda x: x.cummax(2).values,
    "spectrum": lambda x: torch.fft.rfft2(x).abs(),
    "filter": lambda x: torch.fft.irfft2(torch.fft.rfft2(x)),
    "complex numbers": turned,
    "unpooling": unpooled,
    "grid": shrunk,
    "circular padding": nn.CircularPad2d(1),
    "leak in evaluation": nn.RReLU(),
    "no derivative": lambda x: x * torch.heaviside(x - 0.1, torch.ones((), dtype=x.dtype)),
}


@pytest.mark.parametrize("name", sorted(POSITIONS))
def test_channels_pass_what_mixes_positions(name):
    net = Done(POSITIONS[name]).eval()
    report = pruned(net)
    assert (net.stem.out_channels, net.head.in_features) == (12, 12)
    assert (report.gradient_error is None) == (name == "no derivative")


@pytest.mark.parametrize(
    "what", [lambda x: x.cumsum(1), lambda x: x.sort(1).values, lambda x: torch.fft.fft(x, dim=1).abs()]
)
def test_channels_that_are_mixed_stay(what):
    with pytest.raises(UserError, match="cannot remove a single channel"):
        secateur.prune(Done(what).eval(), images(), sparsity=0.5)


class Symmetric(nn.Module):
    """A layer whose weight is made symmetric, as metrics and energies have it."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(6, 16), nn.Linear(16, 3)
        self.weight = nn.Parameter(torch.randn(16, 16))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.triu() + self.weight.triu(1).t()
        return self.last(F.linear(self.first(x).relu(), weight).relu())


class Codes(nn.Module):
    """Vector quantisation with its loss beside the answer; the codes are counted."""

    def __init__(self):
        super().__init__()
        self.first, self.codes, self.last = nn.Linear(6, 16), nn.Embedding(20, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = self.first(x)
        found = self.codes(torch.cdist(z, self.codes.weight).argmin(1))
        return self.last(z + (found - z).detach()), F.mse_loss(found, z)


@pytest.mark.parametrize(("make", "shape"), [(Symmetric, (8, 8)), (Codes, (20, 8))])
def test_symmetric_weights_and_losses_inside_are_pruned(make, shape):
    torch.manual_seed(0)
    net = make()
    report = secateur.prune(net, torch.randn(5, 6), sparsity=0.5)
    assert report.verified
    assert not report.notes
    assert (net.weight if make is Symmetric else net.codes.weight).shape == shape
