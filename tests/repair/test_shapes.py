"""Attributes that name a width follow it; those that only happen to divide one stay."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import secateur


class Attention(nn.Module):
    """Grouped queries as in Llama: four query heads of each key head, each 16 wide."""

    def __init__(self):
        super().__init__()
        self.head_dim, self.num_key_value_groups, self.layer_idx = 16, 4, 2
        self.scale, self.key_size = 16, 16
        self.q, self.k, self.v = (nn.Linear(24, width, bias=False) for width in (128, 32, 32))
        self.out = nn.Linear(128, 24, bias=False)

    def forward(self, x, mask=None):
        q, k, v = (
            part(x).view(*x.shape[:-1], -1, self.head_dim).transpose(1, 2)
            for part in (self.q, self.k, self.v)
        )
        if mask is not None:
            k, v = (part.repeat_interleave(self.num_key_value_groups, 1) for part in (k, v))
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=mask is None)
        return self.out(x.transpose(1, 2).flatten(2))


class Language(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([Attention(), Attention()])
        self.stem, self.head = nn.Linear(7, 24), nn.Linear(24, 5)

    def forward(self, x, mask=None):
        x = self.stem(x)
        for layer in self.layers:
            x = x + layer(x, mask)
        return self.head(x.mean(1))


@pytest.mark.parametrize("sparsity", [0.5, 0.75])
def test_counts_of_groups_stay_where_widths_shrink(sparsity):
    torch.manual_seed(0)
    net, x = Language().eval(), torch.rand(2, 9, 7)
    assert secateur.prune(net, x, sparsity=sparsity).verified
    for layer in net.layers:
        assert (layer.num_key_value_groups, layer.layer_idx, layer.scale) == (4, 2, 16)
        assert layer.head_dim == layer.key_size == 16 * (1 - sparsity)
    # With a mask other code runs than the code that was traced, and asks for the count.
    with_mask = net(x, torch.ones(9, 9, dtype=torch.bool))
    torch.testing.assert_close(with_mask, net(x))


class Deciding(nn.Module):
    """Looks at numbers on its way, which the meta device does not have, and knows a width by heart."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.three = nn.Linear(7, 24), nn.Linear(12, 12), nn.Linear(24, 5)
        self.half = 12

    def forward(self, x):
        x = self.one(x).relu()
        x = x.view(len(x), 2, self.half)
        if x.abs().max().item() > 1e9:
            x = x / 2
        return self.three(self.two(x).view(len(x), 2 * self.half))


def test_a_network_that_reads_numbers_is_followed_off_the_meta_device():
    torch.manual_seed(0)
    net = Deciding().eval()
    report = secateur.prune(net, torch.rand(3, 7), sparsity=0.5)
    assert report.verified
    assert not report.notes
    assert (net.half, net.one.out_features, net.two.out_features) == (6, 12, 6)


class Stubborn(nn.Module):
    """The stream has a width that is written in the code, and heads are as wide as the stream."""

    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Linear(7, 32), nn.Linear(32, 5)
        self.layers = nn.ModuleList([Heads()])

    def forward(self, x):
        x = self.stem(x)
        for layer in self.layers:
            x = x + layer(x)
        return self.head(x.reshape(len(x), -1, 32).mean(1))


class Heads(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(32, 32) for _ in range(4))
        self.one, self.two, self.size = nn.Linear(32, 64), nn.Linear(64, 32), 8

    def forward(self, x):
        q, k, v = (
            part(x).view(*x.shape[:2], 4, self.size).transpose(1, 2) for part in (self.q, self.k, self.v)
        )
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape)
        return self.two(self.one(self.out(y)).relu())


@pytest.mark.slow
def test_what_one_line_holds_back_does_not_hold_back_the_rest():
    torch.manual_seed(0)
    net = Stubborn().eval()
    report = secateur.prune(net, torch.rand(2, 9, 7), sparsity=0.5)
    assert report.verified
    for layer in net.layers:
        assert (layer.q.out_features, layer.size) == (32, 8)
        assert (layer.out.out_features, layer.one.out_features) == (16, 32)
    assert any(note.startswith("not pruned: stem.weight[0]") for note in report.notes)
