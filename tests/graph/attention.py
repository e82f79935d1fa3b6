"""Attention in the ways people write it, and recurrent classifiers."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Packed(nn.Module):
    """One projection for q, k and v; heads and width from the input's shape."""

    def __init__(self, dim: int, heads: int, fused: bool) -> None:
        super().__init__()
        self.qkv, self.proj, self.heads, self.fused = (
            nn.Linear(dim, 3 * dim),
            nn.Linear(dim, dim),
            heads,
            fused,
        )

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, dim = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        if self.fused:
            x = F.scaled_dot_product_attention(q, k, v)
        else:
            x = ((q @ k.transpose(-2, -1)) * q.shape[-1] ** -0.5).softmax(-1) @ v
        return self.proj(x.transpose(1, 2).reshape(batch, tokens, dim))


class Literal(nn.Module):
    """Separate projections; the sizes are written down in attributes."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(dim, dim) for _ in range(4))
        self.num_heads, self.head_size, self.all_size = heads, dim // heads, dim

    def split(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], -1, self.num_heads, self.head_size).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.split(self.q(x)), self.split(self.k(x)), self.split(self.v(x))
        x = F.scaled_dot_product_attention(q, k, v)
        return self.out(x.transpose(1, 2).contiguous().view(x.shape[0], -1, self.all_size))


class Grouped(nn.Module):
    """Grouped queries: two heads share a key and a value head."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.width = dim // heads
        self.q, self.o = nn.Linear(dim, dim, bias=False), nn.Linear(dim, dim, bias=False)
        self.kv = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        shape = (*x.shape[:-1], -1, self.width)
        q = self.q(x).view(shape).transpose(1, 2)
        k, v = (part.view(shape).transpose(1, 2).repeat_interleave(2, 1) for part in self.kv(x).chunk(2, -1))
        x = (q @ k.mT * self.width**-0.5).softmax(-1) @ v
        return self.o(x.transpose(1, 2).flatten(2))


class Torchs(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


class Told(nn.Module):
    """A scale that is a tensor made of the width, as DeBERTa has it."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.qkv, self.out, self.width = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim), dim // heads

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.unflatten(-1, (-1, self.width)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        scale = torch.sqrt(torch.tensor(q.size(-1), dtype=torch.float) * 3)
        x = (q @ (k.mT / scale.to(q.dtype))).softmax(-1) @ v
        return self.out(x.transpose(1, 2).flatten(2))


ATTENTION = {
    "told": Told,
    "packed": lambda dim, heads: Packed(dim, heads, fused=False),
    "fused": lambda dim, heads: Packed(dim, heads, fused=True),
    "literal": Literal,
    "grouped": Grouped,
    "torch": Torchs,
}


class Transformer(nn.Module):
    """A small vision transformer with a class token, position embeddings and layer scale."""

    def __init__(self, kind: str, dim: int = 24, heads: int = 4, depth: int = 2) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, dim, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, dim))
        self.position = nn.Parameter(torch.randn(1, 10, dim))
        self.blocks = nn.ModuleList()
        for _ in range(depth):
            parts = {
                "norm1": nn.LayerNorm(dim),
                "attention": ATTENTION[kind](dim, heads),
                "norm2": nn.LayerNorm(dim),
                "mlp": nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim)),
            }
            self.blocks.append(nn.ModuleDict(parts))
        self.scale = nn.Parameter(torch.full((dim,), 0.5))
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position
        for block in self.blocks:
            x = x + self.scale * block["attention"](block["norm1"](x))
            x = x + block["mlp"](block["norm2"](x))
        return self.head(self.norm(x)[:, 0])


class Recurrent(nn.Module):
    """Reads the rows of an image in sequence."""

    def __init__(self, kind: type[nn.RNNBase], layers: int, both: bool) -> None:
        super().__init__()
        self.stem = nn.Linear(36, 10)
        self.rnn = kind(10, 8, num_layers=layers, bidirectional=both, batch_first=True)
        self.head = nn.Linear(16 if both else 8, 5)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.stem(x.permute(0, 2, 1, 3).flatten(2))
        return self.head(self.rnn(rows)[0].mean(1))
