"""Decode one image at its full bit depth, and scale images to one size with antialiasing."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from secateur.data.dataset import Dataset
from secateur.errors import UserError
from secateur.kinds import is_whole
from secateur.text import first_line, listed
from secateur.untrusted import refuse_irregular

Size = tuple[int, int]
"""Height and width."""

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
"""What a file may contain, whatever its name says; Pillow opens others with programs outside this process."""
MAX_PIXELS = 2**24
MAX_SIDE = 4096
MAX_BYTES = 2**30
WHITE = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65_535}
# Formats for which Pillow's 32-bit mode holds 16-bit pixels.
_SIXTEEN_BITS = {"PNG", "PPM"}
_WITH_ALPHA = {"RGBA", "LA", "PA", "RGBa", "La"}
# Tags of TIFF files.
_BITS, _PHOTOMETRIC = 258, 262


def image_size(resize: int | Sequence[int]) -> Size:
    """Height and width from one side of a square, or from both.

    Raises:
        UserError: not one or two integers from 1 to 4096.

    >>> image_size(32), image_size((24, 32))
    ((32, 32), (24, 32))
    """
    sides = [resize, resize] if isinstance(resize, int) else list(resize)
    if len(sides) != 2 or not all(is_whole(side, least=1) and side <= MAX_SIDE for side in sides):
        raise UserError(
            f"resize must be an image size, got {resize!r}",
            hint=f"give one side, or height and width, from 1 to {MAX_SIDE}",
        )
    return sides[0], sides[1]


def read_image(path: Path, size: Size | None = None) -> np.ndarray:
    """The pixels of an image: uint8, uint16 or float32 [H, W] for grey images, else uint8 [H, W, 3].

    Grey images with more than 8 bits keep their depth, with white at 65 535, or at 1 for floating point.
    Colour, palette and CMYK images become 8-bit RGB. An alpha channel is dropped where it is opaque.

    Raises:
        UserError: not a readable image of a format in ``FORMATS``, too large, transparent pixels, or pixels
            of unknown range.
    """
    try:
        with warnings.catch_warnings():
            # Pillow warns about odd metadata, and about large images, which are refused below.
            warnings.simplefilter("ignore")
            refuse_irregular(path, MAX_BYTES)
            with Image.open(path, formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise ValueError(f"it has {image.width}x{image.height} pixels, more than {MAX_PIXELS:,}")
                pixels = pixels_of(image)
    except UnidentifiedImageError as error:
        raise UserError(
            f"'{path}' is not a readable image: its content is not {listed(FORMATS, last='or')}",
            hint="remove or convert it",
        ) from error
    except Transparent as error:
        raise UserError(f"'{path}' {error}", hint=SAVE_OPAQUE) from None
    except Exception as error:  # decoders raise anything on damaged bytes, a lack of memory among them
        reason = getattr(error, "strerror", None) or first_line(error, type(error).__name__)
        raise UserError(f"'{path}' is not a readable image: {reason}", hint="remove or repair it") from error
    return pixels if size is None else resize_image(pixels, size)


class Transparent(ValueError):
    """A picture of which some pixels let the background through: what a network would see is not in it."""


SAVE_OPAQUE = (
    "save it without transparency: laid on a background, or by image.convert('RGB') of Pillow, "
    "which shows the hidden colours as most loaders do"
)


def refuse_transparent(image: Image.Image) -> None:
    """Raise Transparent unless every pixel of an open picture is opaque.

    >>> refuse_transparent(Image.new("RGBA", (1, 1), (255, 0, 0, 255)))
    >>> refuse_transparent(Image.new("LA", (2, 1), (7, 0)))
    Traceback (most recent call last):
    secateur.data.images.Transparent: has 2 of 2 pixels that are transparent: their colour is not defined
    """
    if image.mode in _WITH_ALPHA:
        alpha = np.asarray(image.getchannel(image.getbands()[-1]))
        count = int((alpha < 255).sum())
    elif "transparency" not in image.info:
        return
    elif image.mode.startswith("I"):
        count = int((np.asarray(image) == image.info["transparency"]).sum())
    else:
        count = int((np.asarray(image.convert("RGBA"))[..., 3] < 255).sum())
    if count:
        raise Transparent(
            f"has {count:,} of {image.width * image.height:,} pixels that are transparent: "
            "their colour is not defined"
        )


def resize_image(pixels: np.ndarray, size: Size) -> np.ndarray:
    """An image scaled to cover ``size`` with its aspect ratio kept, then centre-cropped; the dtype stays.

    Pillow's bilinear filter averages over all pixels it merges (antialiasing).
    """
    if pixels.dtype == np.uint8:
        return np.asarray(_fitted(Image.fromarray(pixels), size))
    # Pillow scales 16-bit and float images only as single float32 planes.
    planes = [pixels] if pixels.ndim == 2 else list(pixels.transpose(2, 0, 1))
    found = np.stack([np.asarray(_fitted(Image.fromarray(np.float32(plane)), size)) for plane in planes], -1)
    found = found[..., 0] if pixels.ndim == 2 else found
    return found if pixels.dtype.kind == "f" else found.round().astype(pixels.dtype)


def resize_dataset(dataset: Dataset, size: Size) -> Dataset:
    """The same images scaled as by :func:`resize_image`, rounded to the same grey levels.

    Raises:
        UserError: data that are no images [N, C, H, W].
    """
    if dataset.x.ndim != 4:
        raise UserError(
            f"rows of shape {list(dataset.shape)} of '{dataset.name}' cannot be resized",
            hint="only images [N, C, H, W] can",
        )
    low, high = dataset.bounds
    white = 1 if dataset.levels is None else dataset.levels - 1
    grey = (dataset.x.permute(0, 2, 3, 1) - low) / (high - low) * white
    if dataset.levels == 256:
        grey = grey.round().to(torch.uint8)
    images = [image[..., 0] if image.shape[2] == 1 else image for image in grey.numpy()]
    found = np.stack([np.atleast_3d(resize_image(image, size)) for image in images]).transpose(0, 3, 1, 2)
    x = torch.from_numpy(np.ascontiguousarray(found, dtype=np.float32))
    x = x if dataset.levels is None else x.round()
    return replace(dataset, x=x.div(white).mul(high - low).add(low).clamp(low, high))


def common_format(pictures: list[np.ndarray]) -> list[np.ndarray]:
    """The images with equal channels and dtype, at the depth of the deepest.

    8-bit values are exact in 16 bits: 255 becomes 65 535.
    """
    if any(image.ndim == 3 for image in pictures):
        pictures = [image if image.ndim == 3 else np.stack([image] * 3, axis=2) for image in pictures]
    types = {image.dtype for image in pictures}
    if any(kind.kind == "f" for kind in types):
        return [image.astype(np.float32) / np.float32(WHITE.get(image.dtype, 1)) for image in pictures]
    if len(types) > 1:
        return [
            image if image.dtype == np.uint16 else image.astype(np.uint16) * np.uint16(257)
            for image in pictures
        ]
    return pictures


def from_pixels(
    name: str,
    pixels: np.ndarray,
    labels: np.ndarray,
    classes: tuple[str, ...],
    *,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> Dataset:
    """A dataset from images [N, C, H, W] and integer labels [N].

    Images are uint8 (256 grey levels) or uint16 (65 536), which are scaled to ``bounds``, or floating point
    within them (no grey levels).
    """
    # Contiguous, because convolutions on transposed memory are slower and round differently.
    x = torch.from_numpy(np.ascontiguousarray(pixels, dtype=np.float32))
    white = WHITE.get(pixels.dtype)
    levels = None if white is None else white + 1
    y = torch.from_numpy(labels.astype(np.int64))
    if white is None:
        return Dataset(name, x, y, classes, bounds=bounds)
    return scale_dataset(Dataset(name, x.div_(white), y, classes, levels=levels), bounds)


def scale_dataset(dataset: Dataset, bounds: tuple[float, float]) -> Dataset:
    """The same images in [0, 1] scaled to ``bounds``, for networks that take pixels of another range.

    >>> images = Dataset("grey", torch.tensor([[[[0.0, 0.5, 1.0]]]]), torch.tensor([0]), levels=3)
    >>> scale_dataset(images, (-1.0, 1.0)).x.flatten()
    tensor([-1.,  0.,  1.])
    """
    if tuple(bounds) == dataset.bounds:
        return dataset
    low, high = bounds
    x = dataset.x.mul(high - low).add_(low).clamp_(low, high)
    return replace(dataset, x=x, bounds=(low, high))


def pixels_of(image: Image.Image) -> np.ndarray:
    """The pixels of an open picture, as ``read_image`` gives them.

    Raises:
        ValueError: pixels of unknown range, or transparent ones (``Transparent``).
    """
    refuse_transparent(image)
    if image.mode.startswith("I;16"):
        return _sixteen_bits(image)
    if image.mode == "I":
        pixels = np.asarray(image)
        if image.format not in _SIXTEEN_BITS:
            raise ValueError("its pixels are 32-bit integers of unknown range; save it with 16 bits")
        return pixels.clip(0, 65_535).astype(np.uint16)
    if image.mode == "F":
        pixels = np.asarray(image)
        if not (pixels.min() >= 0 and pixels.max() <= 1):
            raise ValueError(
                f"its floating-point pixels range from {pixels.min():g} to {pixels.max():g}, not from 0 to 1"
            )
        return pixels
    grey = image.mode in {"1", "L", "LA"}
    return np.asarray(image.convert("L" if grey else "RGB"))


def _sixteen_bits(image: Image.Image) -> np.ndarray:
    pixels = np.asarray(image).astype(np.uint16)
    tags = getattr(image, "tag_v2", {})
    (bits,) = tags.get(_BITS, (16,))
    if bits < 16:  # a TIFF with 12 bits
        pixels = (pixels.astype(np.float64) * (65_535 / (2**bits - 1))).round().astype(np.uint16)
    # Pillow does not invert 16-bit TIFFs whose zero is white.
    return 65_535 - pixels if tags.get(_PHOTOMETRIC) == 0 else pixels


def _fitted(image: Image.Image, size: Size) -> Image.Image:
    height, width = size
    return ImageOps.fit(image, (width, height), method=Image.Resampling.BILINEAR)
