"""Set attributes that state the widths of layers after a cut, and restore them."""

from typing import Any

from torch import nn

from secateur.surgery.plan import Plan

# Rows of recurrent weights per hidden channel.
_GATES = {"LSTM": 4, "GRU": 3}


class Undo:
    """Records attributes of modules before they change, and restores them."""

    def __init__(self) -> None:
        self._old: list[tuple[nn.Module, str, Any]] = []

    def set(self, module: nn.Module, name: str, value: Any) -> None:
        """Set an attribute of the module if it exists and has another value."""
        if name in module.__dict__ and module.__dict__[name] != value:
            self._old.append((module, name, module.__dict__[name]))
            module.__dict__[name] = value

    def undo(self) -> None:
        """Restore everything, newest first."""
        for module, name, value in reversed(self._old):
            module.__dict__[name] = value
        self._old.clear()


def sync_attributes(model: nn.Module, plan: Plan, undo: Undo) -> None:
    """Set the widths stated by torch's own layers, and the repairs of the plan, from the cut parameters."""
    modules = dict(model.named_modules())
    for repair in plan.repairs:
        undo.set(modules[repair.module], repair.attribute, repair.after)
    for module in model.modules():
        if isinstance(module, nn.modules.conv._ConvNd):
            _sync_conv(module, undo)
        elif isinstance(module, nn.Linear):
            out, wide = _kernel(module).shape
            _set(undo, module, out_features=out, in_features=wide)
        elif isinstance(module, nn.Bilinear):
            out, left, right = _kernel(module).shape
            _set(undo, module, out_features=out, in1_features=left, in2_features=right)
        elif isinstance(module, nn.modules.batchnorm._NormBase):
            vector = module.running_mean if module.weight is None else _kernel(module)
            if vector is not None:
                _set(undo, module, num_features=vector.shape[0])
        elif isinstance(module, (nn.LayerNorm, nn.RMSNorm)) and module.weight is not None:
            _set(undo, module, normalized_shape=tuple(_kernel(module).shape))
        elif isinstance(module, nn.GroupNorm) and module.weight is not None:
            _set(undo, module, num_channels=_kernel(module).shape[0])
        elif isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
            _set(undo, module, embedding_dim=_kernel(module).shape[1])
        elif isinstance(module, nn.PReLU):
            _set(undo, module, num_parameters=_kernel(module).shape[0])
        elif isinstance(module, nn.RNNBase):
            _sync_recurrent(module, undo)
        elif isinstance(module, nn.RNNCellBase):
            _set(
                undo,
                module,
                input_size=_kernel(module, "weight_ih").shape[1],
                hidden_size=_kernel(module, "weight_hh").shape[1],
            )
        elif isinstance(module, nn.MultiheadAttention):
            _sync_attention(module, undo)


def _kernel(module: nn.Module, name: str = "weight") -> Any:
    """A weight; where hooks compute it, the parameter it is computed from, as the weight itself is stale."""
    for ending in ("_v", "_orig", "_v_orig"):
        made_from = module._parameters.get(name + ending)
        if made_from is not None:
            return made_from
    return getattr(module, name)


def _set(undo: Undo, module: nn.Module, **values: Any) -> None:
    for name, value in values.items():
        undo.set(module, name, int(value) if isinstance(value, int) else value)


def _sync_conv(module: nn.modules.conv._ConvNd, undo: Undo) -> None:
    first, second = _kernel(module).shape[:2]
    old_in, old_out, groups = module.in_channels, module.out_channels, module.groups
    if module.transposed:
        if groups > 1 and groups == old_in:
            groups = first
        _set(undo, module, in_channels=first, out_channels=second * groups, groups=groups)
    else:
        if groups > 1 and groups == old_in:
            groups = first // (old_out // old_in)
        _set(undo, module, in_channels=second * groups, out_channels=first, groups=groups)


def _sync_recurrent(module: nn.RNNBase, undo: Undo) -> None:
    hidden = _kernel(module, "weight_hh_l0").shape[0] // _GATES.get(module.mode, 1)
    projected = _kernel(module, "weight_hr_l0").shape[0] if module.proj_size else 0
    wide = _kernel(module, "weight_ih_l0").shape[1]
    _set(undo, module, input_size=wide, hidden_size=hidden, proj_size=projected)


def _sync_attention(module: nn.MultiheadAttention, undo: Undo) -> None:
    # Queries, keys and values of the same width share one weight; it may be computed, too.
    packed = _kernel(module, "in_proj_weight")
    query, key, value = (packed, packed, packed)
    if packed is None:
        query, key, value = (_kernel(module, f"{name}_proj_weight") for name in "qkv")
    width = query.shape[0] // 3 if packed is not None else query.shape[0]
    _set(undo, module, embed_dim=width, kdim=key.shape[1], vdim=value.shape[1])
    _set(undo, module, head_dim=width // module.num_heads)
