"""Randomly perturbed float64 copies of the weights, in which ones, zeros and symmetries hide no wrong index.

The copies of large networks are built one at a time, on access: together they would take twice the memory of
the model.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence

import torch
from torch import Tensor

WHOLE = 256 * 2**20
"""Bytes up to which all perturbed tensors are built at once."""


class Perturbed(Mapping[str, Tensor]):
    """Float64 copies, scaled at random per index of the first two dimensions; constant tensors get noise.

    Tensors without negative numbers (variances) keep none, unless they are all zero. Those named in ``fixed``
    are not perturbed. A smaller ``spread`` stays nearer to the weights. Every access builds the same tensor.
    """

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        generator: torch.Generator,
        *,
        fixed: Collection[str] = (),
        spread: float = 1.0,
    ) -> None:
        # Detached: surgery replaces the contents of the model's own tensors while this is in use.
        self._tensors = {name: tensor.detach() for name, tensor in tensors.items()}
        self._scales: dict[str, list[Tensor]] = {}
        self._noisy: dict[str, Tensor] = {}
        for name, tensor in self._tensors.items():
            if not tensor.is_floating_point():
                continue
            if name in fixed or tensor.layout is not torch.strided:
                self._noisy[name] = tensor.double()
                continue
            if tensor.numel() == 0 or _constant(tensor):
                # Mostly biases and norms, which are small enough to keep.
                wide = tensor.double()
                noise = torch.rand(wide.shape, generator=generator, dtype=torch.float64).to(wide.device)
                factor = (1 - 0.4 * spread) + spread * 0.8 * noise
                self._noisy[name] = wide * factor if wide.any() else spread * (0.2 * noise - 0.1)
                continue
            self._scales[name] = [
                (1 - 0.5 * spread)
                + spread * torch.rand(size, generator=generator, dtype=torch.float64).to(tensor.device)
                for size in tensor.shape[:2]
            ]

    def __getitem__(self, name: str) -> Tensor:
        if name in self._noisy:
            return self._noisy[name]
        return (
            scaled(self._tensors[name], self._scales[name]) if name in self._scales else self._tensors[name]
        )

    def factors(self, name: str) -> tuple[Tensor, list[Tensor]] | None:
        """The factors of a tensor: the original, and scales per index of dimensions; None if constant."""
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
    tensors: Mapping[str, Tensor],
    generator: torch.Generator,
    *,
    whole: int = WHOLE,
    fixed: Collection[str] = (),
    spread: float = 1.0,
) -> Mapping[str, Tensor]:
    """``Perturbed`` tensors, in a plain dictionary where all of them take no more than ``whole`` bytes."""
    lazy = Perturbed(tensors, generator, fixed=fixed, spread=spread)
    size = sum(8 * tensor.numel() for tensor in tensors.values())
    return dict(lazy) if size <= whole else lazy


def _constant(tensor: Tensor) -> bool:
    first = tensor[(0,) * tensor.ndim]
    # Most weights differ in the first row, so that the whole tensor is rarely compared.
    early = tensor[(0,) * max(tensor.ndim - 1, 0)]
    return bool((early == first).all()) and bool((tensor == first).all())
