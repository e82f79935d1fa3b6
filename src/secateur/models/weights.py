"""What one does with any model: draw its weights anew, name them by their content, classify images."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Generator, Tensor, nn

from secateur.errors import ExitCode, UserError
from secateur.hashing import tensors_sha256
from secateur.text import first_line

Normalisation = nn.modules.batchnorm._NormBase | nn.GroupNorm | nn.LayerNorm


class NotFinite(UserError):
    """The model's output is NaN."""


def initialise(model: nn.Module, generator: Generator) -> None:
    """Draw every parameter anew, with all randomness from ``generator`` (on the CPU).

    Convolutions and dense layers get He et al.'s normal weights (fan-out for convolutions, fan-in for dense
    layers) and zero biases; normalisation layers get scale 1, offset 0 and fresh running statistics. Other
    parameters are redrawn from N(0, 0.02²), except constant ones (layer scales, zero tokens), which keep the
    value that their constructor chose.
    """
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.modules.conv._ConvNd):
                fan_out = module.weight.shape[0] * module.weight[0, 0].numel() / module.groups
                _normal(module.weight, math.sqrt(2 / fan_out), generator)
            elif isinstance(module, nn.Linear):
                _normal(module.weight, math.sqrt(2 / module.in_features), generator)
            elif isinstance(module, Normalisation):
                _reset_normalisation(module)
                continue
            else:
                for parameter in module.parameters(recurse=False):
                    if torch.unique(parameter).numel() > 1:
                        _normal(parameter, 0.02, generator)
                continue
            if module.bias is not None:
                module.bias.zero_()


def weights_hash(model: nn.Module) -> str:
    """sha256 over (name, dtype, shape, little-endian bytes) of all parameters and buffers, sorted by name.

    Device, memory format and the file that the weights came from do not enter.
    """
    tensors: dict[str, Tensor] = dict(model.named_buffers(remove_duplicate=False))
    tensors.update(model.named_parameters(remove_duplicate=False))
    return tensors_sha256(tensors, header=b"secateur-weights-1\n")


def to_device(model: nn.Module, device: str) -> nn.Module:
    """Move ``model`` to a device, such as "cpu", "cuda" or "cuda:1".

    Raises:
        UserError: there is no such device here (code ENVIRONMENT); it never falls back to another one.
    """
    try:
        return model.to(device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"there is no device {device} here: {first_line(error)}",
            hint="use the device cpu",
            code=ExitCode.ENVIRONMENT,
        ) from error


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[nn.Module]:
    """Put the model in evaluation mode; afterwards every submodule has its former mode again."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield model
    finally:
        for module, mode in modes:
            module.training = mode


def logits(model: nn.Module, x: Tensor, *, batch_size: int = 512) -> Tensor:
    """The model's logits [N, K] for images ``x`` [N, C, H, W], in evaluation mode and without gradients.

    ``x`` is moved to the model's device and precision batch by batch; the logits are on the device of ``x``.

    Raises:
        UserError: the batch size is not positive, or the model does not return finite [N, K] with K >= 2.
    """
    if batch_size < 1:
        raise UserError(f"the batch size must be at least 1, not {batch_size}")
    with eval_mode(model), torch.no_grad():
        parts = []
        for batch in torch.split(x, batch_size):
            out = model(_as_parameters(batch, model))
            _check_logits(out, len(batch))
            parts.append(out.to(x.device))
    return torch.cat(parts)


def check_accepts(model: nn.Module, x: Tensor, *, data: str) -> None:
    """Refuse a network that fails on images like ``x`` [N, C, H, W]; ``data`` is what they are called.

    One forward pass of the first image, in evaluation mode.

    Raises:
        UserError: the network fails on the image.
    """
    image = x[:1]
    try:
        with eval_mode(model), torch.no_grad():
            model(_as_parameters(image, model))
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"the network fails on the images of {data}, which are {_shape(image)} "
            f"(channels x height x width): {type(error).__name__}: {first_line(error, '')}",
            hint="is it made for other channels or sizes? --resize, or resize: in a study, scales images",
        ) from error


def _as_parameters(images: Tensor, model: nn.Module) -> Tensor:
    """The images on the device and in the precision of the model's first parameter, as attacks see them."""
    first = next(model.parameters(), None)
    if first is None:
        return images
    return images.to(first.device, first.dtype if first.is_floating_point() else images.dtype)


def _shape(images: Tensor) -> str:
    return "x".join(map(str, images.shape[1:]))


def predict(model: nn.Module, x: Tensor, *, batch_size: int = 512) -> Tensor:
    """The predicted class, int64 [N], of images ``x`` [N, C, H, W]; the same in any batch size.

    Raises:
        UserError: as ``logits``.
    """
    return logits(model, x, batch_size=batch_size).argmax(1)


def accuracy(model: nn.Module, x: Tensor, y: Tensor, *, batch_size: int = 512) -> float:
    """The fraction of images ``x`` that are classified as ``y``."""
    return (predict(model, x, batch_size=batch_size) == y).double().mean().item()


def _check_logits(out: object, n: int) -> None:
    if not isinstance(out, Tensor):
        raise UserError(f"the model returns {type(out).__name__} instead of a tensor of logits")
    if out.ndim != 2 or out.shape[0] != n or out.shape[1] < 2:
        raise UserError(
            f"the model returns {list(out.shape)} for {n} images; logits [{n}, classes] are expected"
        )
    if bool(out.isnan().any()):
        raise NotFinite("the model returns NaN: its weights or its inputs are broken")


def _normal(tensor: Tensor, deviation: float, generator: Generator) -> None:
    # Drawn on the CPU in float32, so that the same seed gives the same weights on every device.
    drawn = torch.randn(tensor.shape, generator=generator, dtype=torch.float32)
    tensor.copy_(drawn.mul_(deviation))


def _reset_normalisation(module: Normalisation) -> None:
    if module.weight is not None:
        module.weight.fill_(1)
        if module.bias is not None:
            module.bias.zero_()
    if isinstance(module, nn.modules.batchnorm._NormBase):
        module.reset_running_stats()
