"""Convolutions of grey images: the same gradients, faster, or the layer as it was."""

import pytest
import torch
from torch import nn

from secateur.attacks import run
from secateur.cpu import single_channel_conv
from secateur.cpu.single_channel_conv import (
    SingleChannelConv2d,
    is_single_channel,
    replace_single_channel_convs,
)
from secateur.run_options import RunOptions

SHAPES = [{}, {"padding": 1}, {"stride": 2, "padding": (0, 1)}, {"dilation": 2}, {"bias": False}]


def gradient(layer, x, weights):
    x = x.clone().requires_grad_(True)
    answer = layer(x)
    return answer, torch.autograd.grad((answer * weights).sum(), x)[0]


@pytest.mark.parametrize("settings", SHAPES)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_answers_and_gradients_are_those_of_the_convolution(settings, layout):
    layer = nn.Conv2d(1, 5, (3, 2), **settings).double().requires_grad_(False)
    x = torch.rand(4, 1, 9, 8, dtype=torch.float64).to(memory_format=layout)
    weights = torch.rand_like(layer(x))
    assert is_single_channel(layer)
    (expected, wanted), (answer, found) = (
        gradient(one, x, weights) for one in (layer, SingleChannelConv2d(layer))
    )
    assert torch.equal(answer, expected)
    torch.testing.assert_close(found, wanted, rtol=1e-13, atol=1e-14)


def test_what_is_not_a_plain_convolution_of_one_channel_stays_as_it_is():
    hooked = nn.Conv2d(1, 4, 3)
    hooked.register_forward_hook(lambda module, x, y: 2 * y)

    class Other(nn.Conv2d):
        pass

    layers = [
        nn.Conv2d(3, 4, 3), nn.Conv2d(1, 4, 3, padding="same"), nn.Conv2d(1, 4, 3, padding_mode="reflect"),
        nn.utils.parametrizations.weight_norm(nn.Conv2d(1, 4, 3)), hooked, Other(1, 4, 3), nn.Conv1d(1, 4, 3),
    ]  # fmt: skip
    model = nn.Sequential(*layers)
    replace_single_channel_convs(model)
    assert [*model] == layers
    inner = nn.Sequential(nn.Sequential(nn.Conv2d(1, 4, 3)))
    replace_single_channel_convs(inner)
    assert isinstance(inner[0][0], SingleChannelConv2d)


def test_an_attack_says_so_and_finds_the_same(net, images):
    fast, plain = (
        run(net, images, "ddn", steps=20, options=RunOptions(grey=wanted)) for wanted in (True, False)
    )
    assert (fast.search["grey"], plain.search["grey"]) == (True, False)
    assert fast.outcome == plain.outcome
    torch.testing.assert_close(fast.distance, plain.distance, rtol=1e-3, atol=1e-5)


def test_wrong_gradients_would_be_noticed_before_the_attack(net, images, monkeypatch):
    right = single_channel_conv.F.fold
    monkeypatch.setattr(
        single_channel_conv.F, "fold", lambda *args, **named: right(*args, **named).roll(1, dims=2)
    )
    result = run(net, images, "ddn", steps=5)
    assert (result.search["grey"], result.search["folded"]) == (False, 0)
