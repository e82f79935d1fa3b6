"""Independent random streams from one seed."""

from hashlib import sha256

import torch
from torch import Generator


def derive(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for one purpose, for example ``derive(seed, "shuffle", epoch)``.

    A stream per purpose and epoch needs no saved generator state: a resumed run derives the same streams.
    """
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(sha256(text.encode()).digest()[:8], "little") >> 1


def stream(seed: int, *purpose: str | int) -> Generator:
    """A CPU generator for one purpose."""
    return torch.Generator().manual_seed(derive(seed, *purpose))
