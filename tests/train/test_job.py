import pytest
import torch
from torch import nn

from secateur.models import build
from secateur.recipes import Augment
from secateur.train import augment
from secateur.train.job import ONEDNN_BLOCK, channels_last


def is_last(model):
    return model.get_parameter("conv1.weight").is_contiguous(memory_format=torch.channels_last)


def test_channels_last_is_given_where_it_is_asked_for():
    model = build("resnet18", widths=(16, 32, 32, 32))
    assert not channels_last(model, asked=False)
    assert not is_last(model)
    assert channels_last(model, asked=True)
    assert is_last(model)


@pytest.mark.parametrize("width", [1, 6, ONEDNN_BLOCK - 1])
def test_narrow_strided_projections_keep_a_network_in_the_usual_order_on_the_cpu(width):
    model = build("resnet18", widths=(width, 32, 32, 32))
    assert not channels_last(model, asked=True)
    assert not is_last(model)


def test_narrow_stages_without_projections_are_no_obstacle():
    assert channels_last(build("resnet20", widths=(6, 8, 10)), asked=True)


@pytest.mark.parametrize("layer", [nn.Conv2d(4, 8, 3, 2), nn.Conv2d(4, 8, 1), nn.Conv2d(32, 8, 1, 2)])
def test_only_narrow_strided_1x1_convolutions_are_an_obstacle(layer):
    assert channels_last(nn.Sequential(layer), asked=True)


def test_a_narrow_group_counts_as_narrow():
    assert not channels_last(nn.Sequential(nn.Conv2d(32, 32, 1, 2, groups=4)), asked=True)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("how", [Augment(2), Augment(2, 15, True), Augment(flip=True), Augment(rotation=15)])
def test_augmented_images_lie_in_the_usual_order(channels, how):
    x = torch.rand(5, channels, 8, 8)
    out = augment(x, how, generator=torch.Generator().manual_seed(0))
    # The strides themselves: is_contiguous() says yes to one channel in either format.
    assert out.stride() == x.stride()
