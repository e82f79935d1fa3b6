"""Spectral norms after surgery: a layer keeps the weights that it computed before.

A layer with a spectral norm multiplies by ``W / σ`` with ``σ = uᵀ W v``, where ``u`` and ``v`` follow the
largest singular vectors of ``W`` during training. ``σ`` belongs to the whole weight: cut vectors would give
another one, and with it other weights in every channel that is left. So the vectors are made anew for the
cut weight, and ``u`` is scaled such that ``σ`` stays. Training normalises ``u`` again at its first step, and
takes the spectral norm of the cut weight from there.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.spectral_norm import SpectralNorm

from secateur.graph.trace.computed_weights import computing_hooks


@dataclass(frozen=True)
class _Norm:
    """Where a spectral norm lies: its vectors, and the parameters and parametrisations before it, by name."""

    left: str
    right: str
    originals: tuple[str, ...]
    before: tuple[tuple[str, nn.Module], ...]
    dim: int

    def matrix(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """The weight that is normalised, in float64, one row per output."""
        found = tuple(tensors[name] for name in self.originals)
        for start, module in self.before:
            own = {name: tensors[f"{start}.{name}"] for name in module.state_dict()}
            found = (cast(Tensor, functional_call(module, own, found)),)
        return found[0].detach().double().movedim(self.dim, 0).flatten(1)


def _norms(model: nn.Module) -> Iterator[_Norm]:
    for name, module in model.named_modules():
        start = f"{name}." if name else ""
        for hook, attribute in computing_hooks(module):
            if isinstance(hook, SpectralNorm):
                own = f"{start}{attribute}"
                yield _Norm(f"{own}_u", f"{own}_v", (f"{own}_orig",), (), hook.dim)
        if not parametrize.is_parametrized(module):
            continue
        for attribute, made in cast(Mapping[str, nn.Module], module.parametrizations).items():
            assert isinstance(made, parametrize.ParametrizationList)
            own = f"{start}parametrizations.{attribute}"
            originals = (
                (f"{own}.original",)
                if made.is_tensor
                else tuple(f"{own}.original{number}" for number in range(made.ntensors))
            )
            for number, part in enumerate(made):
                if isinstance(part, _SpectralNorm) and "_u" in part._buffers:
                    before = tuple((f"{own}.{place}", made[place]) for place in range(number))
                    yield _Norm(f"{own}.{number}._u", f"{own}.{number}._v", originals, before, part.dim)


def keep_spectral_norms(
    model: nn.Module, dense: Mapping[str, Tensor], smaller: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """New vectors for the spectral norms of weights that were cut, by name of buffer."""
    renewed: dict[str, Tensor] = {}
    for norm in _norms(model):
        names = (norm.left, norm.right, *norm.originals)
        if all(smaller[name].shape == dense[name].shape for name in names):
            continue
        left, right = dense[norm.left].double(), dense[norm.right].double()
        sigma = left @ norm.matrix(dense) @ right
        matrix = norm.matrix(smaller)
        # One step of the power iteration that torch takes in training.
        right = nn.functional.normalize(matrix.mT @ smaller[norm.left].double(), dim=0)
        left = matrix @ right
        left = left * (sigma / left.square().sum())
        renewed[norm.left] = left.to(smaller[norm.left].dtype)
        renewed[norm.right] = right.to(smaller[norm.right].dtype)
    return renewed
