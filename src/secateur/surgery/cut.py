"""Remove the channels of a plan from a model, in place: for good, or for the time of a ``with`` block."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from secateur.errors import UserError
from secateur.graph.trace.computed_weights import refresh_computed
from secateur.graph.trace.named_tensors import (
    named_tensors,
    non_persistent_buffers,
    parameters_and_buffers,
    shapes_of,
)
from secateur.surgery.attributes import Undo, sync_attributes
from secateur.surgery.perturbed import Perturbed, scaled
from secateur.surgery.plan import Plan
from secateur.surgery.spectral import keep_spectral_norms

Removed = Mapping[tuple[str, int], tuple[int, ...]]


def check_fits(model: nn.Module, plan: Plan) -> None:
    """Check that a plan was made for the architecture of ``model``.

    Raises:
        UserError: names or shapes differ.
    """
    removed = plan.removed()
    # Buffers outside the state dict may appear, or get their size, only when the model first runs.
    made = non_persistent_buffers(model) - {name for name, _ in removed}
    have = {name: shape for name, shape in shapes_of(model).items() if name not in made}
    want = {name: shape for name, shape in plan.shapes.items() if name not in made}
    missing = sorted(set(want) - set(have))
    extra = sorted(set(have) - set(want))
    if missing or extra:
        which = f"'{missing[0]}' is missing" if missing else f"'{extra[0]}' is not in the plan"
        raise UserError(
            f"the plan was made for another architecture: {which}",
            hint="build the model the plan was made for",
        )
    for name, shape in want.items():
        if have[name] != shape:
            raise UserError(
                f"the plan was made for another architecture: '{name}' has shape {have[name]}, not {shape}",
                hint="apply a plan to a fresh model of the same class and size, and only once",
            )
    for (name, dim), indices in removed.items():
        if name not in want or dim >= len(want[name]) or not _inside(indices, want[name][dim]):
            raise UserError(
                f"the plan removes indices that '{name}' does not have", hint="make the plan again"
            )
        if len(indices) >= want[name][dim]:
            raise UserError(
                f"the plan leaves nothing of dimension {dim} of '{name}'", hint="make the plan again"
            )


def _inside(indices: tuple[int, ...], size: int) -> bool:
    return not indices or (indices[0] >= 0 and indices[-1] < size)


def without_indices(tensors: Mapping[str, Tensor], removed: Removed) -> dict[str, Tensor]:
    """The tensors without the removed indices; tensors that lose nothing are the same objects."""
    result = dict(tensors)
    known: dict[tuple[int, int], Tensor] = {}
    for (name, dim), indices in removed.items():
        tensor = result[name]
        # The layers of a group share one tuple of indices.
        key = id(indices), tensor.shape[dim]
        if key not in known:
            known[key] = torch.from_numpy(np.delete(np.arange(tensor.shape[dim]), indices))
        result[name] = tensor.index_select(dim, known[key].to(tensor.device))
    return result


def cut_tensors(tensors: Mapping[str, Tensor], plan: Plan, model: nn.Module) -> dict[str, Tensor]:
    """The tensors of ``model`` after surgery.

    Each is read once; a cut tensor is never built in float64 at full size.
    """
    spots: dict[str, dict[tuple[str, int], tuple[int, ...]]] = {}
    for spot, indices in plan.removed().items():
        spots.setdefault(spot[0], {})[spot] = indices
    result = {}
    for name in tensors:
        cut = spots.get(name, {})
        factors = tensors.factors(name) if cut and isinstance(tensors, Perturbed) else None
        if factors is None:
            result[name] = without_indices({name: tensors[name]}, cut)[name]
            continue
        # Cutting the factors before multiplying gives the same tensor with less memory.
        whole, scales = factors
        left = [
            without_indices({name: scale}, {(name, 0): cut[name, dim]} if (name, dim) in cut else {})[name]
            for dim, scale in enumerate(scales)
        ]
        result[name] = scaled(without_indices({name: whole}, cut)[name], left)
    return result | keep_spectral_norms(model, tensors, result)


def assign(named: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """Replace the contents of parameters and buffers; the tensor objects stay, and gradients are dropped."""
    for name, tensor in named.items():
        new = tensors[name]
        # Sparse tensors keep their channels, and some layouts take no other numbers.
        if new is tensor or tensor.layout is not torch.strided:
            continue
        tensor.grad = None
        tensor.data = new.detach()


@contextmanager
def temporarily_zeroed(model: nn.Module, removed: Removed) -> Iterator[None]:
    """Set removed indices to zero; the contents are restored on exit."""
    if not removed:
        yield
        return
    named = named_tensors(model)
    before = {name: named[name].data for name, _ in removed}
    try:
        for (name, dim), indices in removed.items():
            tensor = named[name]
            tensor.data = tensor.data.index_fill(dim, torch.tensor(indices, device=tensor.device), 0)
        yield
    finally:
        for name, data in before.items():
            named[name].data = data


@contextmanager
def temporarily_on_meta(model: nn.Module, plan: Plan) -> Iterator[None]:
    """Replace parameters by cut ones on the meta device (shapes only); everything is restored on exit."""
    undo = Undo()
    shapes = plan.shapes_after()
    parameters, buffers = parameters_and_buffers(model)
    hollow = {
        id(tensor): torch.empty(shapes[name], dtype=tensor.dtype, device="meta")
        for name, tensor in (parameters | buffers).items()
    }
    for tensor in parameters.values():
        hollow[id(tensor)] = nn.Parameter(hollow[id(tensor)], requires_grad=False)
    slots: list[tuple[dict[str, Any], str, Tensor]] = [
        (table, name, tensor)
        for module in model.modules()
        for table in (module._parameters, module._buffers)
        for name, tensor in table.items()
        if tensor is not None
    ]
    try:
        for table, name, tensor in slots:
            table[name] = hollow[id(tensor)]
        sync_attributes(model, plan, undo)
        yield
    finally:
        undo.undo()
        for table, name, tensor in slots:
            table[name] = tensor


@contextmanager
def temporarily_cut(model: nn.Module, plan: Plan, smaller: Mapping[str, Tensor]) -> Iterator[None]:
    """Give the model the ``smaller`` tensors and their widths; everything is restored on exit."""
    undo = Undo()
    named = named_tensors(model)
    before = {name: (tensor.data, tensor.grad) for name, tensor in named.items()}
    try:
        assign(named, smaller)
        sync_attributes(model, plan, undo)
        yield
    finally:
        undo.undo()
        for name, tensor in named.items():
            tensor.grad = None
            tensor.data, tensor.grad = before[name]


def cut_optimizer_state(optimizer: torch.optim.Optimizer, model: nn.Module, plan: Plan) -> None:
    """Cut an optimizer's state like its parameters; call it before the parameters are cut.

    Factored moments (Adafactor) have the parameter's size in some dimensions and 1 in the others; they are
    cut in the former.

    Raises:
        UserError: the optimizer is of another model, or a state tensor has another shape than its parameter;
            nothing is cut then.
    """
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    if not any(id(parameter) in held for parameter in model.parameters()):
        raise UserError(
            f"the {type(optimizer).__name__} holds no parameter of this model, and would train another one",
            hint="make it of model.parameters(), or leave it out",
        )
    removed = plan.removed()
    cut: list[tuple[dict[str, Any], str, Tensor]] = []
    for name, parameter in model.named_parameters():
        state = optimizer.state.get(parameter, {})
        for key, value in state.items():
            if not isinstance(value, Tensor) or value.ndim == 0:
                continue
            if value.ndim != parameter.ndim or any(
                size not in (1, whole) for size, whole in zip(value.shape, parameter.shape, strict=True)
            ):
                raise UserError(
                    f"the state '{key}' of {type(optimizer).__name__} is not shaped like its parameter "
                    f"{name}",
                    hint="make a new optimizer after pruning",
                )
            own = {
                spot: indices
                for spot, indices in removed.items()
                if spot[0] == name and value.shape[spot[1]] == parameter.shape[spot[1]]
            }
            cut.append((state, key, without_indices({name: value}, own)[name]))
    for state, key, value in cut:
        state[key] = value


def cut_channels_(model: nn.Module, plan: Plan) -> None:
    """Remove the channels of the plan for good, in place; gradients are cut as well.

    >>> import secateur
    >>> model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    >>> plan = secateur.plan(secateur.trace(model, torch.rand(1, 3)), sparsity=0.5)
    >>> cut_channels_(model, plan)
    >>> model[0]
    Linear(in_features=3, out_features=2, bias=True)
    """
    removed, named = plan.removed(), named_tensors(model)
    leaves = {name: tensor for name, tensor in named.items() if tensor.is_leaf}
    grads = {name: tensor.grad for name, tensor in leaves.items() if tensor.grad is not None}
    cut_grads = without_indices(grads, {key: indices for key, indices in removed.items() if key[0] in grads})
    dense = {name: tensor.data for name, tensor in named.items()}
    smaller = without_indices(dense, removed)
    assign(named, smaller | keep_spectral_norms(model, dense, smaller))
    for module in model.modules():
        refresh_computed(module)
    sync_attributes(model, plan, Undo())
    for name, grad in cut_grads.items():
        named[name].grad = grad
