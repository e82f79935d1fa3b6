"""Checks before and after a trace; each error says in one sentence what cannot be traced."""

from typing import Any

import torch
from torch import nn
from torch.nn.parameter import UninitializedTensorMixin  # type: ignore[attr-defined]
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from secateur.errors import UserError
from secateur.graph.trace.input_tree import tensors_in
from secateur.graph.trace.named_tensors import named_tensors
from secateur.graph.trace.tape import Tape


def check_model(model: nn.Module) -> None:
    """Refuse what is no module, has parameters without values, or is compiled to TorchScript."""
    if not isinstance(model, nn.Module):
        raise UserError(
            f"expected a torch.nn.Module, got {type(model).__name__}",
            hint="pass the model itself, not its forward",
        )
    for name, tensor in named_tensors(model).items():
        if isinstance(tensor, UninitializedTensorMixin):
            raise UserError(f"parameter '{name}' has no shape yet", hint="run the lazy model once before")
        if tensor.is_meta:
            raise UserError(
                f"'{name}' lies on the meta device and has no numbers", hint="load the weights first"
            )
    if isinstance(model, torch.jit.ScriptModule):
        raise UserError("a TorchScript module cannot be pruned", hint="pass the original module")


def check_inputs(example_inputs: Any) -> None:
    """Refuse example inputs that are empty, NaN or infinite, or in a layout that shows no numbers.

    Minus infinity is accepted: it is what masks hold.
    """
    leaves = tensors_in(example_inputs)
    for leaf in leaves:
        if leaf.layout != torch.strided or leaf.is_nested or is_traceable_wrapper_subclass(leaf):
            kind = "nested" if leaf.is_nested else str(leaf.layout).removeprefix("torch.")
            raise UserError(
                f"an example input is a {kind} tensor ({type(leaf).__name__}), which cannot be traced",
                hint="pass plain tensors, for example to_dense(), or indices and values by themselves",
            )
        numbers = leaf.is_floating_point() or leaf.is_complex()
        # Lists of indices may be empty, a batch of images not.
        if not leaf.numel() and (numbers or not any(other.numel() for other in leaves)):
            raise UserError(
                f"an example input of shape {tuple(leaf.shape)} holds no numbers",
                hint="pass one sample at least",
            )
        if (
            numbers
            and not leaf.is_meta
            and bool((leaf.isnan() | leaf.isinf() & ~torch.isneginf(leaf.real)).any())
        ):
            raise UserError(
                "an example input holds NaN or infinity", hint="pass inputs as the model will see them"
            )


def refuse_randomness(tape: Tape) -> None:
    """Refuse a model that is random in eval mode: no proof could compare two of its runs."""
    for call in tape.calls:
        random = torch.Tag.nondeterministic_seeded in call.op.tags and call.outputs != (None,)
        bound = call.bind() if random else {}
        if random and not (bound.get("training") is False or bound.get("train") is False):
            where = f" at {call.source}" if call.source else ""
            raise UserError(
                f"the model is random in eval mode: {call.name}{where}",
                hint="make it deterministic in eval mode, or replace that part before pruning",
            )
