"""Randomly perturbed float64 weights, so that ones, zeros and symmetries of the real ones hide nothing.

Large networks get theirs one tensor at a time, each built when it is asked for: all of them together would
take twice the memory of the model.
"""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

WHOLE = 256 * 2**20
"""Bytes up to which all perturbed tensors are built at once."""


class Perturbed(Mapping[str, Tensor]):
    """Float64 copies, each index of each dimension scaled at random; constant tensors get noise as well.

    What is nowhere negative (variances) stays so, except where it is all zero. A tensor is the same whenever
    it is asked for.
    """

    def __init__(self, tensors: Mapping[str, Tensor], generator: torch.Generator) -> None:
        # Surgery gives the model's own tensors other contents.
        self._tensors = {name: tensor.detach() for name, tensor in tensors.items()}
        self._scales: dict[str, list[Tensor]] = {}
        self._noisy: dict[str, Tensor] = {}
        for name, tensor in self._tensors.items():
            if not tensor.is_floating_point():
                continue
            if tensor.numel() == 0 or _constant(tensor):
                # Biases and norms mostly: small enough to be kept.
                wide = tensor.double()
                noise = torch.rand(wide.shape, generator=generator, dtype=torch.float64).to(wide.device)
                self._noisy[name] = wide * (0.6 + 0.8 * noise) if wide.any() else 0.2 * noise - 0.1
                continue
            self._scales[name] = [
                0.5 + torch.rand(size, generator=generator, dtype=torch.float64).to(tensor.device)
                for size in tensor.shape[:2]
            ]

    def __getitem__(self, name: str) -> Tensor:
        if name in self._noisy:
            return self._noisy[name]
        return (
            scaled(self._tensors[name], self._scales[name]) if name in self._scales else self._tensors[name]
        )

    def factors(self, name: str) -> tuple[Tensor, list[Tensor]] | None:
        """What a tensor is the product of: the real one, and one scale per index of its first dimensions."""
        return (self._tensors[name], self._scales[name]) if name in self._scales else None

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def scaled(tensor: Tensor, scales: Sequence[Tensor]) -> Tensor:
    """A float64 copy, each index of the first dimensions scaled."""
    wide = tensor.to(torch.float64, copy=True)
    for dim, scale in enumerate(scales):
        wide.mul_(scale.reshape([-1 if place == dim else 1 for place in range(wide.ndim)]))
    return wide


def perturbed(
    tensors: Mapping[str, Tensor], generator: torch.Generator, *, whole: int = WHOLE
) -> Mapping[str, Tensor]:
    """``Perturbed`` tensors, in a plain dictionary where all of them take no more than ``whole`` bytes."""
    lazy = Perturbed(tensors, generator)
    size = sum(8 * tensor.numel() for tensor in tensors.values())
    return dict(lazy) if size <= whole else lazy


def _constant(tensor: Tensor) -> bool:
    first = tensor[(0,) * tensor.ndim]
    # Most weights differ early on: looking at all of them is rarely needed.
    early = tensor[(0,) * max(tensor.ndim - 1, 0)]
    return bool((early == first).all()) and bool((tensor == first).all())
