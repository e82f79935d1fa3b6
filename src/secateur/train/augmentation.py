"""Random crops, flips and rotations of a whole batch at once, on its device."""

import math

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from secateur.recipes import Augment


def augment(x: Tensor, how: Augment, *, generator: Generator) -> Tensor:
    """Transform each image [N, C, H, W] independently: rotation, then crop of the padded image, then flip.

    Pixels from outside the image are 0. Rotation interpolates bilinearly, so values stay within the range of
    the batch and 0. ``generator`` draws on the CPU, so the transformations are the same on any device.

    >>> import torch
    >>> images = torch.rand(4, 3, 8, 8)
    >>> augment(images, Augment(padding=2, flip=True), generator=torch.Generator().manual_seed(0)).shape
    torch.Size([4, 3, 8, 8])
    """
    if how.rotation:
        x = _rotate(x, how.rotation, generator)
    if how.padding:
        x = _crop(x, how.padding, generator)
    if how.flip:
        mirror = torch.rand(x.shape[0], generator=generator).to(x.device) < 0.5
        x = torch.where(mirror[:, None, None, None], x.flip(3), x)
    return x


def _rotate(x: Tensor, degrees: float, generator: Generator) -> Tensor:
    n, _, height, width = x.shape
    angle = (torch.rand(n, generator=generator) * 2 - 1) * math.radians(degrees)
    cosine, sine, zero = angle.cos(), angle.sin(), torch.zeros(n)
    # affine_grid measures both axes in half-sides, so the sine needs the aspect ratio.
    rows = [
        torch.stack([cosine, -sine * height / width, zero], 1),
        torch.stack([sine * width / height, cosine, zero], 1),
    ]
    grid = F.affine_grid(torch.stack(rows, 1).to(x.device), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _crop(x: Tensor, padding: int, generator: Generator) -> Tensor:
    n, _, height, width = x.shape
    top, left = torch.randint(0, 2 * padding + 1, (2, n), generator=generator).to(x.device)
    rows = top[:, None] + torch.arange(height, device=x.device)
    columns = left[:, None] + torch.arange(width, device=x.device)
    padded = F.pad(x, [padding] * 4)
    image = torch.arange(n, device=x.device)[:, None, None]
    # Advanced indices around a slice put the channel last. For images of one channel contiguous() keeps those
    # strides, which convolutions would take for channels-last: this copy has the usual ones.
    shifted = padded[image, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    return shifted.clone(memory_format=torch.contiguous_format)
