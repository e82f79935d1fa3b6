"""Unstructured pruning: set single weights to zero and keep them there; the network keeps its shape."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import prune as torch_prune

from secateur.errors import UserError
from secateur.pruning.keep_counts import SCOPES, check_sparsity, kept_count
from secateur.registry import CRITERIA
from secateur.text import did_you_mean, listed

Score = Callable[..., Tensor]
Maskable = nn.Linear | _ConvNd


def magnitude(weight: Tensor, *, generator: torch.Generator) -> Tensor:
    """The absolute weight (Han et al. 2015)."""
    return weight.abs()


def uniform(weight: Tensor, *, generator: torch.Generator) -> Tensor:
    """Uniform draws from ``generator``: every subset of weights is equally likely."""
    return torch.rand(weight.shape, generator=generator).to(weight.device)


@dataclass(frozen=True)
class MaskReport:
    """Result of masking: of all ``parameters``, ``weights`` are maskable, and ``zeros`` of those are zero.

    ``layers`` holds the fraction of zeros of each masked weight; ``notes`` name layers without any weight
    left.

    >>> report = mask(nn.Linear(4, 1), sparsity=0.5)
    >>> report.parameters, report.parameters_nonzero, report.sparsity_achieved
    (5, 3, 0.5)
    """

    parameters: int
    weights: int
    zeros: int
    sparsity_requested: float
    layers: Mapping[str, float]
    notes: tuple[str, ...]

    @property
    def parameters_nonzero(self) -> int:
        """Parameters minus the zero weights."""
        return self.parameters - self.zeros

    @property
    def sparsity_achieved(self) -> float:
        """The fraction of maskable weights that is zero."""
        return self.zeros / self.weights

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        extra = {"parameters_nonzero": self.parameters_nonzero, "sparsity_achieved": self.sparsity_achieved}
        return {**vars(self), "layers": dict(self.layers), "notes": list(self.notes), **extra}


def mask(
    model: nn.Module,
    *,
    criterion: str | Score = "weight_magnitude",
    sparsity: float = 0.5,
    scope: str = "local",
    keep: Sequence[str] = (),
    seed: int = 0,
) -> MaskReport:
    """Set the smallest weights of convolutions and linear layers to zero, in place.

    Masks are those of ``torch.nn.utils.prune``. Weights that are zero already count, so rounds of masking end
    at their last sparsity. ``reapply_masks`` keeps the zeros during training.

    Args:
        model: masked in place; its tensors keep their shapes and names.
        criterion: weight_magnitude, weight_random, or a function ``score(weight, generator=)`` that returns
            one score per weight; the lowest are removed.
        sparsity: fraction of weights that is zero afterwards, in [0, 1).
        scope: ``local``: of every layer; ``global``: of all layers together, without a floor per layer.
        keep: names of modules that are not masked.
        seed: for the random criterion.

    Raises:
        UserError: an invalid argument, or nothing to mask.

    >>> from secateur.models import build
    >>> model = build("resnet-tiny", widths=(4, 8))
    >>> report = mask(model, sparsity=0.9)
    >>> report.weights, report.zeros, round(report.sparsity_achieved, 3)
    (1300, 1173, 0.902)
    """
    fraction = check_sparsity(sparsity)
    if scope not in SCOPES:
        raise UserError(f"unknown scope '{scope}'", hint=f"known: {', '.join(SCOPES)}")
    layers = _layers(model, keep)
    if not layers:
        raise UserError("there is no convolution or linear layer to mask", hint="name fewer modules in keep")
    scores = _scores(layers, score_of(criterion), seed)
    weights = [(module, "weight") for module in layers.values()]
    if scope == "global":
        counted = sum(module.weight.numel() for module in layers.values())
        torch_prune.global_unstructured(
            weights,
            pruning_method=torch_prune.L1Unstructured,
            importance_scores={weight: scores[name] for name, weight in zip(layers, weights, strict=True)},
            amount=counted - kept_count(counted, fraction),
        )
    else:
        for name, module in layers.items():
            counted = module.weight.numel()
            amount = counted - kept_count(counted, fraction)
            torch_prune.l1_unstructured(module, "weight", amount, scores[name])  # type: ignore[no-untyped-call]
    # Fold the mask into the weight: state dicts keep their names, and no buffer or hook is left.
    for module in layers.values():
        torch_prune.remove(module, "weight")  # type: ignore[no-untyped-call]
    return _report(model, layers, sparsity)


@contextmanager
def reapply_masks(model: nn.Module) -> Iterator[None]:
    """Keep every zero weight of convolutions and linear layers at zero while the model is trained.

    >>> import torch
    >>> model = torch.nn.Linear(4, 1)
    >>> _ = mask(model, sparsity=0.5)
    >>> with reapply_masks(model):
    ...     model(torch.ones(1, 4)).backward()
    ...     torch.optim.SGD(model.parameters(), lr=1.0).step()
    >>> int((model.weight == 0).sum())
    2
    """
    layers = _layers(model, ())
    for module in layers.values():
        torch_prune.custom_from_mask(module, "weight", module.weight != 0)  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        for module in layers.values():
            torch_prune.remove(module, "weight")  # type: ignore[no-untyped-call]


def count_nonzero(model: nn.Module) -> int:
    """Number of parameters, without the zero weights of convolutions and linear layers.

    >>> import torch
    >>> model = torch.nn.Linear(4, 1)
    >>> _ = mask(model, sparsity=0.5)
    >>> count_nonzero(model)  # two weights and the bias
    3
    """
    zeros = sum(_zeros(module) for module in _layers(model, ()).values())
    return sum(parameter.numel() for parameter in model.parameters()) - zeros


def score_of(criterion: str | Score) -> Score:
    """The function that scores single weights.

    Raises:
        UserError: an unknown criterion, or one that scores channels.
    """
    if callable(criterion):
        return criterion
    entry = CRITERIA.entry(criterion)
    if entry.facts.get("kind") != "weights":
        known = [other.name for other in CRITERIA.entries() if other.facts.get("kind") == "weights"]
        raise UserError(
            f"the criterion {criterion} scores channels, not single weights",
            hint=f"use {listed(known, last='or')}, or pruning.prune to remove channels",
        )
    found: Score = CRITERIA.get(criterion)
    return found


def _layers(model: nn.Module, keep: Sequence[str]) -> dict[str, Maskable]:
    """Convolutions and linear layers by name; a shared weight once."""
    if isinstance(keep, str):
        raise UserError("keep must be a list of names", hint=f"for example keep=['{keep}']")
    modules = dict(model.named_modules())
    if unknown := [name for name in keep if name not in modules]:
        raise UserError(
            f"'{unknown[0]}' is not a module of this model",
            hint=did_you_mean(unknown[0], modules, otherwise="model.named_modules() lists them"),
        )
    found: dict[str, Maskable] = {}
    seen: set[int] = set()
    for name, module in modules.items():
        whole = any(f"{name}.".startswith(f"{kept}.") for kept in keep)
        if isinstance(module, Maskable) and not whole and id(module.weight) not in seen:
            seen.add(id(module.weight))
            found[name] = module
    return found


def _scores(layers: Mapping[str, Maskable], score: Score, seed: int) -> dict[str, Tensor]:
    """The rank of every weight among all, from 1; weights that are zero already have rank 0."""
    # Ranks, because torch.nn.utils.prune compares absolute values and a score may be negative. Zeros rank
    # first, so that no round brings a masked weight back.
    generator = torch.Generator().manual_seed(seed)
    found = []
    for name, module in layers.items():
        weight = module.weight.detach()
        scores = score(weight, generator=generator)
        if scores.shape != weight.shape or not bool(torch.isfinite(scores).all()):
            raise UserError(
                f"the criterion must return one finite score per weight of {name}",
                hint="check the weights for NaN and infinity",
            )
        found.append(scores.flatten())
    order = torch.argsort(torch.cat(found), stable=True)
    ranks = torch.empty(len(order), dtype=torch.float64, device=order.device)
    ranks[order] = torch.arange(1, len(order) + 1, dtype=torch.float64, device=order.device)
    parts = torch.split(ranks, [module.weight.numel() for module in layers.values()])
    return {
        name: part.reshape(module.weight.shape) * (module.weight != 0)
        for (name, module), part in zip(layers.items(), parts, strict=True)
    }


def _zeros(module: Maskable) -> int:
    return module.weight.numel() - int(torch.count_nonzero(module.weight))


def _report(model: nn.Module, layers: Mapping[str, Maskable], sparsity: float) -> MaskReport:
    zeros = {name: _zeros(module) for name, module in layers.items()}
    sizes = {name: module.weight.numel() for name, module in layers.items()}
    return MaskReport(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        weights=sum(sizes.values()),
        zeros=sum(zeros.values()),
        sparsity_requested=float(sparsity),
        layers={name: zeros[name] / sizes[name] for name in layers},
        notes=tuple(f"{name} has no weight left" for name in layers if zeros[name] == sizes[name]),
    )
