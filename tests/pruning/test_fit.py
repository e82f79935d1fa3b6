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
