"""What applies to any network: initialise it, hash its weights, move it, classify images with it."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Generator, Tensor, nn

from secateur.errors import ExitCode, UserError
from secateur.hashing import tensors_sha256
from secateur.text import first_line
from secateur.undisturbed import undisturbed

Normalisation = nn.modules.batchnorm._NormBase | nn.GroupNorm | nn.LayerNorm


class NotFinite(UserError):
    """The model returned NaN.

    >>> logits(nn.Flatten(), torch.full((1, 1, 1, 2), torch.nan))
    Traceback (most recent call last):
    secateur.models.weights.NotFinite: the model returns NaN: check its weights and its inputs
    """


def initialise(model: nn.Module, generator: Generator) -> None:
    """Draw every parameter anew from ``generator`` (on the CPU).

    Convolutions and linear layers get He et al.'s normal weights (fan-out for convolutions, fan-in for linear
    layers) and zero biases; normalisation layers get scale 1, offset 0 and fresh running statistics. Other
    parameters are redrawn from N(0, 0.02²), except constant ones (layer scales, zero tokens), which keep the
    value of their constructor.

    >>> model = nn.Linear(2, 2)
    >>> initialise(model, torch.Generator().manual_seed(0))
    >>> model.bias
    Parameter containing:
    tensor([0., 0.], requires_grad=True)
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
                # Constant parameters (layer scales, zero tokens) hold a value the architecture relies on.
                for parameter in module.parameters(recurse=False):
                    if torch.unique(parameter).numel() > 1:
                        _normal(parameter, 0.02, generator)
                continue
            if module.bias is not None:
                module.bias.zero_()


def weights_hash(model: nn.Module) -> str:
    """sha256 over (name, dtype, shape, little-endian bytes) of all parameters and buffers, sorted by name.

    Independent of device, memory format and the file that the weights came from.

    >>> weights_hash(nn.Flatten())[:16]
    '225e689ddb0a96d6'
    """
    tensors: dict[str, Tensor] = dict(model.named_buffers(remove_duplicate=False))
    tensors.update(model.named_parameters(remove_duplicate=False))
    return tensors_sha256(tensors, header=b"secateur-weights-1\n")


def to_device(model: nn.Module, device: str) -> nn.Module:
    """Move ``model`` to a device, such as "cpu", "cuda" or "cuda:1".

    Raises:
        UserError: no such device (code ENVIRONMENT); there is no fallback to another one.

    >>> to_device(nn.Linear(2, 2), "cpu").weight.device
    device(type='cpu')
    """
    try:
        # A meta device has shapes and no numbers; torch says so only for parameters, later.
        if torch.device(device).type == "meta":
            raise RuntimeError("it holds no numbers")
        return model.to(device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"there is no device {device} here: {first_line(error)}",
            hint="use the device cpu",
            code=ExitCode.ENVIRONMENT,
        ) from error


def device_of(model: nn.Module) -> torch.device:
    """The device of the model's first parameter; the CPU for a model without parameters.

    >>> device_of(nn.Flatten())
    device(type='cpu')
    """
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[nn.Module]:
    """Evaluation mode within the context; afterwards every submodule is back in its former mode.

    >>> model = nn.Dropout()
    >>> with eval_mode(model):
    ...     inside = model.training
    >>> inside, model.training
    (False, True)
    """
    with undisturbed(model, "modes"):
        model.eval()
        yield model


def evaluation_batch(device: str | torch.device) -> int:
    """Images of a batch without gradients.

    On CPUs few enough for memory to be used again from batch to batch: at 512 images of 32x32 the activations
    of a ResNet-20 pass the size from which the C library returns each block to the system, which hands out
    zeroed pages anew: 2.8 ms of CPU for an image, in place of 1.2.

    >>> evaluation_batch("cpu"), evaluation_batch("cuda:0")
    (128, 512)
    """
    return 128 if torch.device(device).type == "cpu" else 512


def logits(model: nn.Module, x: Tensor, *, batch_size: int | None = None) -> Tensor:
    """The model's logits [N, K] for images ``x`` [N, C, H, W], in evaluation mode and without gradients.

    ``x`` is moved to the model's device and precision batch by batch; the logits are on the device of ``x``.
    The batch size is that of :func:`evaluation_batch` by default.

    Raises:
        UserError: a batch size below 1, or a model that does not return [N, K] with K >= 2 and without NaN.

    >>> logits(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), torch.rand(5, 1, 2, 2)).shape
    torch.Size([5, 3])
    """
    if batch_size is None:
        batch_size = evaluation_batch(place_of(model, x)[0])
    if batch_size < 1:
        raise UserError(f"the batch size must be at least 1, not {batch_size}")
    with eval_mode(model), torch.no_grad():
        parts = []
        for batch in torch.split(x, batch_size):
            out = model(_as_parameters(batch, model))
            _check_logits(out, len(batch))
            parts.append(out.to(x.device))
    return torch.cat(parts)


class Placed(nn.Module):
    """A network that says itself on which device and in which precision it takes images.

    >>> place_of(Placed(torch.device("cpu"), torch.float64), torch.zeros(1, 2))[1]
    torch.float64
    """

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__()
        self.device, self.dtype = device, dtype


def place_of(model: nn.Module, x: Tensor) -> tuple[torch.device, torch.dtype]:
    """The device and the precision in which a network takes images like ``x``.

    Those that it states, else those of its first parameter; those of ``x`` where it has none, or its first
    one holds whole numbers.

    >>> place_of(nn.Linear(2, 2).double(), torch.zeros(1, 2))
    (device(type='cpu'), torch.float64)
    """
    if isinstance(model, Placed):
        return model.device, model.dtype
    first = next(model.parameters(), None)
    if first is None:
        return x.device, x.dtype
    return first.device, first.dtype if first.is_floating_point() else x.dtype


def fails_on(x: Tensor, data: str, error: Exception | None) -> UserError:
    """The sentence about a network that raised ``error`` on images like ``x`` [N, ...], called ``data``.

    >>> print(fails_on(torch.zeros(1, 3, 4, 4), "digits", ValueError("no")).message)
    the network fails on the images of digits, which are 3x4x4 (channels x height x width): ValueError: no
    """
    shape = f"{_shape(x)} (channels x height x width)" if x.ndim == 4 else f"{list(x.shape[1:])}"
    resize = "does it expect other channels or sizes? {}, or resize: in a study, scales images"
    alpha = _about_alpha(x) if x.ndim == 4 and x.shape[1] not in (1, 3) and 4 in x.shape[1::2] else ""
    return UserError(
        f"the network fails on the images of {data}, which are {shape}: "
        f"{type(error).__name__}: {first_line(error, '') if error else ''}",
        hint=alpha or resize.format("resize= of secateur.data.load"),
        command=alpha or resize.format("--resize"),
    )


def _about_alpha(x: Tensor) -> str:
    """What to do with images [N, 4, H, W] or [N, H, W, 4] that a network refuses, by their fourth channel."""
    fourth, how = (x[:, 3], "x[:, :3]") if x.shape[1] == 4 else (x[..., 3], "x[..., :3]")
    if bool((fourth == 1).all()):
        return f"the fourth channel is 1 everywhere, an alpha channel: leave it out, as in {how}"
    return (
        "if the fourth channel is alpha, some pixels are transparent, and their colour is not defined: lay "
        f"the images on a background, or leave the channel out by {how}, as most loaders do"
    )


def check_accepts(model: nn.Module, x: Tensor, *, data: str) -> None:
    """Raise UserError if the network fails on images like ``x`` [N, C, H, W], called ``data`` in the error.

    One forward pass of the first image, in evaluation mode.

    >>> check_accepts(nn.Conv2d(1, 2, 3), torch.rand(1, 1, 4, 4), data="digits")
    """
    image = x[:1]
    try:
        with eval_mode(model), torch.no_grad():
            model(_as_parameters(image, model))
    except UserError:
        raise
    except Exception as error:
        raise fails_on(x, data, error) from error


def _as_parameters(images: Tensor, model: nn.Module) -> Tensor:
    """The images on the device and in the precision of the model, as in attacks."""
    return images.to(*place_of(model, images))


def _shape(images: Tensor) -> str:
    return "x".join(map(str, images.shape[1:]))


def predict(model: nn.Module, x: Tensor, *, batch_size: int | None = None) -> Tensor:
    """The predicted class, int64 [N], of images ``x`` [N, C, H, W].

    Raises:
        UserError: as for ``logits``.

    >>> predict(nn.Flatten(), torch.tensor([[[[0.1, 0.9]]], [[[0.8, 0.2]]]]))
    tensor([1, 0])
    """
    return logits(model, x, batch_size=batch_size).argmax(1)


def accuracy(model: nn.Module, x: Tensor, y: Tensor, *, batch_size: int | None = None) -> float:
    """The fraction of images ``x`` [N, C, H, W] classified as ``y`` [N].

    >>> accuracy(nn.Flatten(), torch.tensor([[[[0.1, 0.9]]], [[[0.8, 0.2]]]]), torch.tensor([1, 1]))
    0.5
    """
    return (predict(model, x, batch_size=batch_size) == y).double().mean().item()


def _check_logits(out: object, n: int) -> None:
    if not isinstance(out, Tensor):
        raise UserError(f"the model returns {type(out).__name__} instead of a tensor of logits")
    if out.ndim != 2 or out.shape[0] != n or out.shape[1] < 2:
        raise UserError(
            f"the model returns {list(out.shape)} for {n} images; logits [{n}, classes] are expected"
        )
    if bool(out.isnan().any()):
        raise NotFinite("the model returns NaN: check its weights and its inputs")


def _normal(tensor: Tensor, deviation: float, generator: Generator) -> None:
    # On the CPU in float32, so that a seed gives the same weights on every device.
    drawn = torch.randn(tensor.shape, generator=generator, dtype=torch.float32)
    tensor.copy_(drawn.mul_(deviation))


def _reset_normalisation(module: Normalisation) -> None:
    if module.weight is not None:
        module.weight.fill_(1)
        if module.bias is not None:
            module.bias.zero_()
    if isinstance(module, nn.modules.batchnorm._NormBase):
        module.reset_running_stats()
