"""Proofs run on smaller images where the network does the same with them, and still see what is wrong."""

import pytest
import torch
from torch import nn

import secateur
from secateur.proof.smaller_inputs import on_smaller_inputs
from secateur.proof.verify import verify
from secateur.surgery import cut


def network(head):
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 8, 3, 4), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3, 4))
    return nn.Sequential(body, nn.ReLU(), *head).eval()


def test_large_images_are_shrunk_where_the_network_does_the_same():
    net = network([nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)])
    graph = secateur.trace(net, torch.rand(1, 3, 160, 224))
    small = on_smaller_inputs(graph)
    assert small.inputs[0].shape == (1, 3, 96, 128)
    assert on_smaller_inputs(graph) is small


class Patches(nn.Module):
    """Takes images of whole patches of 14 pixels alone."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 14, 14)
        self.last = nn.Linear(8, 4)

    def forward(self, x):
        assert x.shape[2] % 14 == 0
        return self.last(self.first(x).relu().mean((2, 3)))


def test_patches_of_14_pixels_fit_into_the_next_size():
    graph = secateur.trace(Patches().eval(), torch.rand(1, 3, 252, 252))
    assert on_smaller_inputs(graph).inputs[0].shape == (1, 3, 112, 112)


def video_network():
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv3d(3, 8, 3, (2, 4, 4)), nn.ReLU(), nn.Conv3d(8, 6, (1, 3, 3), (1, 4, 4)))
    return nn.Sequential(body, nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(6, 4)).eval()


def test_videos_get_fewer_frames_and_smaller_images():
    net = video_network()
    graph = secateur.trace(net, torch.rand(1, 3, 16, 128, 128))
    assert on_smaller_inputs(graph).inputs[0].shape == (1, 3, 4, 96, 96)
    assert secateur.apply(net, secateur.plan(graph, sparsity=0.5)).verified


class OneSize(nn.Module):
    """Refuses images of another size, whatever the number of frames."""

    def __init__(self):
        super().__init__()
        self.body = video_network()

    def forward(self, x):
        assert x.shape[-1] == 128
        return self.body(x)


def test_videos_of_one_size_still_get_fewer_frames():
    graph = secateur.trace(OneSize().eval(), torch.rand(1, 3, 16, 128, 128))
    assert on_smaller_inputs(graph).inputs[0].shape == (1, 3, 4, 128, 128)


class Timed(nn.Module):
    """Adds what a table says of each frame, and rolls long videos if asked."""

    def __init__(self, *, rolls):
        super().__init__()
        self.first = nn.Conv3d(3, 8, (1, 3, 3), (1, 4, 4))
        self.last = nn.Linear(8, 4)
        self.table = nn.Parameter(torch.rand(16))
        self.rolls = rolls

    def forward(self, x):
        x = self.first(x) + self.table[: x.shape[2]].reshape(1, 1, -1, 1, 1)
        if self.rolls and x.shape[2] > 8:
            x = x.roll(1, 2)
        return self.last(x.relu().mean((2, 3, 4)))


@pytest.mark.parametrize(("rolls", "frames"), [(False, 4), (True, 16)])
def test_fewer_frames_may_read_less_of_a_table_and_must_do_the_same_otherwise(rolls, frames):
    net = Timed(rolls=rolls).eval()
    graph = secateur.trace(net, torch.rand(1, 3, 16, 96, 96))
    assert on_smaller_inputs(graph).inputs[0].shape[2] == frames
    assert secateur.apply(net, secateur.plan(graph, sparsity=0.5)).verified


def test_videos_get_8_frames_where_4_are_too_few():
    net = nn.Sequential(video_network()[0][:2], nn.Conv3d(8, 6, (3, 3, 3)), nn.AdaptiveAvgPool3d(1))
    graph = secateur.trace(net.append(nn.Flatten()).append(nn.Linear(6, 4)), torch.rand(1, 3, 16, 128, 128))
    assert on_smaller_inputs(graph).inputs[0].shape[2] == 8


@pytest.mark.parametrize("size", [96, 160])
def test_small_images_and_networks_made_for_one_size_keep_theirs(size):
    sides = ((size - 3) // 4 + 1 - 3) // 4 + 1
    net = network([nn.Flatten(), nn.Linear(6 * sides**2, 4)])
    graph = secateur.trace(net, torch.rand(1, 3, size, size))
    assert on_smaller_inputs(graph) is graph


def test_swapped_indices_are_caught_on_shrunk_images(monkeypatch):
    net = network([nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)])
    graph = secateur.trace(net, torch.rand(1, 3, 160, 160))
    plan = secateur.plan(graph, sparsity=0.5)
    assert verify(plan, graph).ok
    honest = cut.without_indices

    def swapped(tensors, removed):
        return {
            name: tensor[[1, 0, *range(2, len(tensor))]] if name == "0.0.weight" else tensor
            for name, tensor in honest(tensors, removed).items()
        }

    monkeypatch.setattr(cut, "without_indices", swapped)
    assert not verify(plan, graph).ok


def test_a_network_that_reads_its_mode_is_proved_on_smaller_images_too():
    """Planning runs such a network cut and in training mode; what it finds is not kept as the answer."""

    class Drops(nn.Module):
        def forward(self, x):
            return x * (torch.rand(len(x), 1, 1, 1) < 0.9) if self.training else x

    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        Drops(),
        nn.ReLU(),
        nn.Conv2d(8, 4, 3),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    ).eval()
    graph = secateur.trace(model, torch.rand(1, 3, 192, 192))
    report = secateur.apply(model, secateur.plan(graph, sparsity=0.5))
    assert report.verified
    assert on_smaller_inputs(graph).inputs[0].shape == (1, 3, 96, 96)
