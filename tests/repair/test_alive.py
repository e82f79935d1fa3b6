"""After surgery the model lives on: training mode, code for deployment, and widths that modules state."""

import pytest
import torch
from torch import Tensor, nn

import secateur


def images(channels: int = 3) -> Tensor:
    return torch.rand(2, channels, 8, 8, generator=torch.Generator().manual_seed(0))


def network(*body: nn.Module, width: int = 16) -> nn.Sequential:
    torch.manual_seed(0)
    stem = nn.Conv2d(3, width, 1)
    return nn.Sequential(stem, *body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(5))


def pruned(model: nn.Module, **options):
    with torch.no_grad():
        model.eval()(images())
    return secateur.prune(model, images(), sparsity=0.5, **options)


def fused(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return conv.weight * scale.view(-1, 1, 1, 1), norm.bias - norm.running_mean * scale


class Branches(nn.Module):
    """Two convolutions and the identity side by side, which one convolution replaces for deployment."""

    def __init__(self, channels: int, groups: int = 1) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.groups = channels, channels, groups
        self.wide = nn.Conv2d(channels, channels, 3, padding=1, groups=groups, bias=False)
        self.narrow = nn.Conv2d(channels, channels, 1, groups=groups, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(3))
        self.merged: nn.Module | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.merged is not None:
            return self.merged(x).relu()
        first, second, third = self.norms
        return (first(self.wide(x)) + second(self.narrow(x)) + third(x)).relu()

    @torch.no_grad()
    def reparameterize(self) -> None:
        identity = nn.Conv2d(self.in_channels, self.in_channels, 3, padding=1, groups=self.groups, bias=False)
        identity.weight.zero_()
        inside = self.in_channels // self.groups
        for channel in range(self.in_channels):
            identity.weight[channel, channel % inside, 1, 1] = 1
        merged = nn.Conv2d(self.in_channels, self.out_channels, 3, padding=1, groups=self.groups)
        kernel, bias = fused(self.wide, self.norms[0])
        point, more = fused(self.narrow, self.norms[1])
        same, rest = fused(identity, self.norms[2])
        merged.weight.copy_(kernel + nn.functional.pad(point, (1, 1, 1, 1)) + same)
        merged.bias.copy_(bias + more + rest)
        self.merged = merged


@pytest.mark.parametrize("groups", [1, 16, 2])
def test_branches_are_merged_for_deployment_after_surgery(groups):
    model = network(Branches(16, groups), nn.Conv2d(16, 16, 1), Branches(16, groups))
    assert pruned(model).verified
    block = model[1]
    assert block.in_channels == block.out_channels == block.wide.in_channels == 8
    assert block.groups == block.wide.groups
    before = model(images())
    for module in (model[1], model[3]):
        module.reparameterize()
    assert torch.allclose(model(images()), before, atol=1e-5)


class Noise(nn.Module):
    """Noise per channel, in training alone."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.anything = (1, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rand(len(x), self.anything[1], 1, 1) if self.training else x


class Noisy(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv, self.noise = nn.Conv2d(channels, channels, 3), Noise(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.noise(self.conv(x))


def test_widths_that_only_training_reads_follow():
    model = network(Noisy(16))
    report = pruned(model)
    assert (report.verified, report.groups_pruned) == (True, 2)
    assert model[1].noise.anything == (1, 8)
    model.train()(images()).sum().backward()


class Written(Noisy):
    """The width of the noise stands in the code."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x * torch.rand(len(x), 16, 1, 1) if self.training else x


def test_what_training_code_states_as_a_number_is_left_whole_and_named():
    model = network(Written(16))
    report = pruned(model)
    assert (model[0].out_channels, model[1].conv.out_channels) == (8, 16)
    assert any("fails in training mode after surgery: RuntimeError" in note for note in report.notes)
    model.train()(images()).sum().backward()


class Between(nn.Module):
    """One width on the way in and another on the way out, of the same size before surgery."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.in_dim, self.out_dim, self.channels = channels, channels, channels
        self.image_width, self.patch_size = channels, channels
        self.weight = nn.Parameter(torch.randn(channels, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.conv2d(x, self.weight)

    def deploy(self) -> int:
        return self.channels


def test_ends_of_a_module_are_told_apart_and_what_is_undecided_is_named():
    model = network(Between(16))
    report = pruned(model, rates={"1.weight[0]": 0.25})
    block = model[1]
    assert block.weight.shape == (12, 8, 1, 1)
    assert (block.in_dim, block.out_dim, block.channels) == (8, 12, 16)
    assert (block.image_width, block.patch_size) == (16, 16)
    assert report.notes == ("'channels' of 1 stays 16: its layers now have 8, 12",)


class Positional(nn.Module):
    """A width that the forward pass compares with the size of the image, which happens to be the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.width, self.conv = 8, nn.Conv2d(channels, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[-1] == self.width
        return self.conv(x)


def test_an_attribute_that_the_forward_pass_needs_as_it_is_stays():
    model = network(Positional(16))
    assert pruned(model).groups_pruned == 2
    assert (model[1].width, model[1].conv.out_channels) == (8, 4)


def test_a_plan_replays_with_the_widths_and_moving_averages_follow():
    model, copy = network(Branches(16)), network(Branches(16))
    for one in (model, copy):
        with torch.no_grad():
            one.eval()(images())
    plan = secateur.plan(secateur.trace(model, images()), sparsity=0.5)
    again = type(plan).from_json(plan.to_json())
    secateur.apply(copy, again, copies=[model])
    assert copy[1].in_channels == model[1].in_channels == 8


class Averaged(nn.Module):
    """A running mean and prototypes, which eval mode does not read."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("prototypes", torch.randn(7, channels))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.mean.mul_(0.9).add_(x.detach().mean((0, 2, 3)), alpha=0.1)
            x = x - self.prototypes.mean(0)[:, None, None]
        return x


def test_buffers_that_only_training_reads_are_cut_with_their_channels():
    model = network(Averaged(16))
    assert pruned(model).groups_pruned == 1
    assert (model[1].mean.shape, model[1].prototypes.shape) == ((8,), (7, 8))
    model.train()(images()).sum().backward()
    assert model[1].mean.abs().sum() > 0


class Inverted(nn.Module):
    """An inverted residual that keeps its widths as its authors wrote them."""

    def __init__(self, inp: int, oup: int) -> None:
        super().__init__()
        self.inp, self.oup, self.channels = inp, oup, [inp, 4 * inp, oup]
        self.body = nn.Sequential(nn.Conv2d(inp, 4 * inp, 1), nn.ReLU(), nn.Conv2d(4 * inp, oup, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


def test_lists_of_widths_follow_entry_by_entry():
    model = network(Inverted(16, 24))
    assert pruned(model).groups_pruned == 3
    assert (model[1].inp, model[1].oup, model[1].channels) == (8, 12, [8, 32, 12])


class Identity(nn.Module):
    """A depthwise block that has the identity branch alone: only its attributes say that it is depthwise."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.in_chs, self.out_chs, self.groups = channels, channels, channels
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x)


def test_a_count_of_groups_follows_the_widths_that_its_module_states():
    model = network(Identity(16), nn.Conv2d(16, 16, 1), Identity(16))
    assert pruned(model).verified
    block = model[1]
    assert (block.in_chs, block.out_chs, block.groups) == (8, 8, 8)


def test_a_count_of_groups_that_is_no_width_stays():
    block = Identity(16)
    block.groups = 4
    model = network(block, nn.Conv2d(16, 16, 1))
    assert pruned(model).verified
    assert model[1].groups == 4
