"""Training when memory runs short: a batch in parts, their gradients summed, where that changes no number."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from secateur.attacks.runner.batching import out_of_memory as out_of_memory
from secateur.errors import UserError
from secateur.text import counted


def inseparable(model: nn.Module, x: Tensor) -> str:
    """Why a batch cannot be split without other numbers, or an empty text.

    The sum of the gradients of the parts is that of the batch, up to rounding, if each image goes through the
    network alone. Batch normalisation takes means over the batch, and whatever draws random numbers in its
    forward pass (dropout) would draw others. Both show in one forward pass of ``x`` [n, C, H, W] in training
    mode; the caller undoes what it does to buffers and to the random state.
    """
    if any(isinstance(part, _BatchNorm) and part.training for part in model.modules()):
        return "batch normalisation takes means over the batch"
    buffers, state = [buffer.clone() for buffer in model.buffers()], _random_state(x.device)
    with torch.no_grad():
        model(x)
    if any(not torch.equal(old, new) for old, new in zip(buffers, model.buffers(), strict=True)):
        return "the network keeps statistics of its batches"
    if not torch.equal(state, _random_state(x.device)):
        return "the network draws random numbers for a whole batch, as dropout does"
    return ""


def too_large(images: int, parts: int, why: str) -> UserError:
    """What is said when a step does not fit; it is not a machine that fails, so other cells go on."""
    said = f"a training step of {counted(images, 'image')} does not fit into memory"
    if why:
        return UserError(
            f"{said}, and in smaller parts its numbers would be others: {why}",
            hint="free memory and run again: the training goes on at this step; "
            "batch_size or accumulate of the recipe would make it another training",
        )
    return UserError(
        f"{said}, not even in {counted(parts, 'part')}",
        hint="free memory and run again: the training goes on at this step; or choose a smaller network",
    )


def release(device: torch.device) -> None:
    """Give back memory that the allocator of a GPU keeps in pieces of the wrong size."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _random_state(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()
